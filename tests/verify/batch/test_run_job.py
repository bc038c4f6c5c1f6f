"""A job's process is watched from outside: whatever it does, it ends in time and there is an outcome."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from netgain.verify.batch import run_job as supervision
from netgain.verify.batch.job import pack
from netgain.verify.batch.outcome import Status
from netgain.verify.batch.run_job import run_job

from . import scripted
from .scripted import make_job


@pytest.fixture(autouse=True)
def _scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervision, "_command", scripted.scripted)


@pytest.mark.parametrize(("script", "status", "code"), [
    (scripted.ANSWER, Status.PROVED, 0),
    (scripted.REFUTE, Status.NOT_PROVED, 1),
    ("raise SystemExit(2)", Status.USAGE, 2),
    ("raise SystemExit(3)", Status.UNREADABLE, 3),
    ("raise SystemExit(4)", Status.NUMERICAL, 4),
    ("raise SystemExit(5)", Status.REFUSED, 5),
    ("raise SystemExit(130)", Status.INTERRUPTED, 130),
    ("raise SystemExit(77)", Status.DIED, 77),
    (scripted.DIE, Status.DIED, -signal.SIGKILL),
    ("import os; os.abort()", Status.DIED, -signal.SIGABRT),
])
def test_every_end_has_a_status(script: str, status: Status, code: int, tmp_path: Path) -> None:
    outcome = run_job(pack(make_job(tmp_path, script)))
    assert outcome is not None
    assert (outcome.status, outcome.exit_code) == (status, code)


@pytest.mark.parametrize("script", ["", "print('{\"proved\": tr', end='')", "print('[1]')", "raise ValueError('no')"])
@pytest.mark.parametrize("code", [0, 1])
def test_without_a_whole_answer_nothing_is_proved_or_refuted(script: str, code: int, tmp_path: Path) -> None:
    outcome = run_job(pack(make_job(tmp_path, f"{script}\nraise SystemExit({code})")))
    assert outcome is not None
    assert outcome.status is Status.DIED
    assert "without an answer" in outcome.reason


def test_what_it_prints_and_writes_is_kept(tmp_path: Path) -> None:
    script = ("import sys; open('c.json', 'w').write('proof'); open('d.json.part', 'w'); "
              "sys.stderr.write('x' * 9000 + 'end')")
    outcome = run_job(pack(make_job(tmp_path, f"{script}\n{scripted.ANSWER}")))
    assert outcome is not None
    assert outcome.result == {"proved": True}
    assert outcome.written == {"c.json": b"proof"}
    assert outcome.stderr.endswith("xend")
    assert len(outcome.stderr) <= 4000


def test_time_is_limited_and_the_best_is_handed_over(tmp_path: Path) -> None:
    outcome = run_job(pack(make_job(tmp_path, scripted.YIELD, time_limit=0.5, grace=6)))
    assert outcome is not None
    assert outcome.status is Status.TIMED_OUT
    assert outcome.exit_code == 130
    assert outcome.result == {"proved": True}
    assert 3.5 <= outcome.seconds < 7


def test_who_does_not_listen_is_killed(tmp_path: Path) -> None:
    outcome = run_job(pack(make_job(tmp_path, scripted.HANG, time_limit=0.5, grace=1.0)))
    assert outcome is not None
    assert (outcome.status, outcome.exit_code, outcome.result) == (Status.TIMED_OUT, -signal.SIGKILL, None)
    assert 1.5 <= outcome.seconds < 20


@pytest.mark.parametrize("script", [
    scripted.HOG, f"import subprocess, sys; subprocess.run([sys.executable, '-S', '-c', {scripted.HOG!r}])"])
def test_memory_is_limited_for_all_processes_of_a_job(script: str, tmp_path: Path) -> None:
    outcome = run_job(pack(make_job(tmp_path, script, memory_limit=100_000_000)))
    assert outcome is not None
    assert outcome.status is Status.OUT_OF_MEMORY
    assert outcome.peak_memory > 100_000_000
    assert outcome.seconds < 25
    enough = run_job(pack(make_job(tmp_path, scripted.ANSWER, memory_limit=100_000_000)))
    assert enough is not None
    assert enough.status is Status.PROVED


def test_nothing_is_left_running(tmp_path: Path) -> None:
    script = ("import subprocess, sys; child = subprocess.Popen([sys.executable, '-S', '-c', 'import time; "
              "time.sleep(60)']); open('pid', 'w').write(str(child.pid))")
    outcome = run_job(pack(make_job(tmp_path, f"{script}\n{scripted.ANSWER}")))
    assert outcome is not None
    left = int(outcome.written["pid"])
    end = time.monotonic() + 10
    while psutil.pid_exists(left) and psutil.Process(left).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize("attempts", [1, 3])
def test_a_death_is_begun_again_as_often_as_allowed(attempts: int, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    script = f"open({str(marks)!r}, 'a').write('x')\nif len(open({str(marks)!r}).read()) < 3:\n    {scripted.DIE}\n"
    outcome = run_job(pack(make_job(tmp_path, script + scripted.ANSWER, attempts=attempts)))
    assert outcome is not None
    assert outcome.status is (Status.PROVED if attempts == 3 else Status.DIED)
    assert outcome.attempts == attempts == len(marks.read_text())


def test_once_stopped_jobs_are_interrupted_or_do_not_begin(tmp_path: Path) -> None:
    parcel = pack(make_job(tmp_path, scripted.YIELD, grace=20))
    begin = time.monotonic()
    outcome = run_job(parcel, lambda: time.monotonic() - begin > 1)
    assert outcome is not None
    assert outcome.status is Status.INTERRUPTED
    assert outcome.result == {"proved": True}
    assert run_job(parcel, lambda: True) is None


def test_a_model_that_changed_or_went_is_not_answered(tmp_path: Path) -> None:
    job = make_job(tmp_path, scripted.ANSWER)
    (tmp_path / "model.npz").write_text("other")
    changed = run_job(pack(job))
    (tmp_path / "model.npz").unlink()
    gone = run_job(pack(job))
    assert changed is not None
    assert gone is not None
    assert changed.status is gone.status is Status.UNREADABLE
    assert "has changed" in changed.reason
    assert "cannot be read" in gone.reason


def test_files_arrive_where_the_command_is_told(tmp_path: Path) -> None:
    job = make_job(tmp_path, "import sys; sys.stderr.write(open(sys.argv[1]).read()[:6] + sys.argv[2])")
    outcome = run_job(pack(dataclasses.replace(job, arguments=("--below=3",))))
    assert outcome is not None
    assert outcome.stderr == "import--below=3"


def test_a_job_without_its_batch_ends_itself(tmp_path: Path) -> None:
    """The pipe closes with the death of whoever holds it, and not before."""
    folder = tmp_path / "job"
    folder.mkdir()
    command = [sys.executable, "-P", "-m", "netgain.verify.batch.guarded", str(folder), "0", "verify", "none.npz"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, process_group=0)
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(30) == -signal.SIGKILL
    assert not folder.exists()
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
