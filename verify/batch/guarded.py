"""The program of a job: the `netgain` command, which ends with everything it started when its batch is gone.

    python -P -m netgain.verify.batch.guarded FOLDER DEADLINE COMMAND...

Its stdin is a pipe that the batch holds and never writes to. When the batch dies, by whatever signal, the kernel closes
the pipe: then the job's folder is removed and its process group killed, so that no job runs on for nobody. What is left
until the deadline, on the clock of `time.monotonic`, is the command's time limit.
"""

import contextlib
import os
import shutil
import signal
import sys
import threading
import time
from pathlib import Path

_FIRST_TO_GO = "1000"
_LEAST_TIME = 1e-3


def main() -> None:
    """Runs the command in argv, in the current folder."""
    # A batch started in the background ignores SIGINT, and what it starts would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Where the kernel has to choose whom to kill for memory, jobs are begun again more easily than the batch.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_FIRST_TO_GO)
    folder, deadline = sys.argv.pop(1), float(sys.argv.pop(1))
    threading.Thread(target=_end_with_the_batch, args=(folder,), daemon=True).start()
    from ..cli import main as netgain  # takes a second or more, of which the limit knows

    sys.argv.append(f"--time-limit={max(deadline - time.monotonic(), _LEAST_TIME)!r}")
    netgain()


def _end_with_the_batch(folder: str) -> None:
    while os.read(0, 1):
        pass
    shutil.rmtree(folder, ignore_errors=True)
    os.killpg(os.getpgrp(), signal.SIGKILL)


if __name__ == "__main__":
    main()
