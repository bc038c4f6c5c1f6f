"""Jobs that do as their model says, which is a Python script: processes of any behaviour, in milliseconds."""

import sys
from pathlib import Path

from netgain.verify.batch import run_job as supervision
from netgain.verify.batch.job import Job, JobLimits, model_files

ANSWER = "print('{\"proved\": true}')"
REFUTE = "print('{\"proved\": false}'); raise SystemExit(1)"
HANG = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(60)"
YIELD = """
import pathlib, time
pathlib.Path("begun").touch()
try:
    time.sleep(60)
except KeyboardInterrupt:
    print('{"proved": true}')
    raise SystemExit(130)
"""
HOG = "import time; held = b'x' * 200_000_000; time.sleep(60)"
DIE = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"

REAL = supervision._command


def scripted(job: Job, folder: Path) -> list[str]:
    """In place of the `netgain` command; hears SIGINT in the background too, as that does."""
    program = ("import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
               "exec(open(sys.argv[1]).read())")
    return [sys.executable, "-S", "-c", program, job.model_argument, *job.arguments]


def make_model(folder: Path, name: str, script: str) -> Path:
    path = folder / f"{name}.npz"
    path.write_text(script)
    return path


def make_job(folder: Path, script: str, **limits: float) -> Job:
    model = make_model(folder, "model", script)
    whole = JobLimits(**{"time_limit": 30.0, "grace": 1.0, **limits})  # type: ignore[arg-type]
    return Job(model=model.name, question="verify", options={}, arguments=(), files=model_files(model), limits=whole,
               version="0.1.0")
