"""On a cluster of real processes: workers and batches that are killed cost time and nothing else."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from netgain.verify import cli
from netgain.verify.batch import schedulers
from netgain.verify.outcomes import ExitCode
from typer.testing import CliRunner, Result

from . import scripted
from .scripted import make_model

ROOT = Path(__file__).resolve().parents[3]
PRELOAD = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from netgain.verify.batch import run_job
from tests.verify.batch.scripted import scripted
run_job._command = scripted
"""
# Tells its process and its worker's, and waits for the worker's death, unless it has been begun before.
FIRST_TIME = """
import os, pathlib, sys
told = pathlib.Path({told!r})
if not told.exists():
    told.with_suffix(".part").write_text(f"{{os.getpid()}} {{os.getppid()}}")
    told.with_suffix(".part").rename(told)
    sys.stdin.buffer.read()
"""


def wait_for(condition: Callable[[], object], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def gone(process: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(process).status() == psutil.STATUS_ZOMBIE)
    return True


class Cluster:
    """A scheduler and its workers, each a process."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.file = folder / "scheduler.json"
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        settings = {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1", "TMPDIR": str(self.folder)}
        command = [sys.executable, "-m", f"distributed.cli.{program}", "--scheduler-file", str(self.file), *arguments]
        with (self.folder / f"{len(self.processes)}.log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **settings}, cwd=self.folder)
        self.processes.append(process)
        return process

    def worker(self, preload: str = PRELOAD) -> None:
        path = self.folder / "preload.py"
        path.write_text(preload)
        self.start("dask_worker", "--no-nanny", "--nthreads", "1", "--no-dashboard", "--preload", str(path))

    def batch(self, *arguments: str) -> Result:
        return CliRunner().invoke(cli.app, ["batch", "jobs.yaml", "--scheduler", self.address, *arguments])

    @property
    def address(self) -> str:
        wait_for(lambda: self.file.exists() and self.file.read_text().endswith("}"))
        return str(json.loads(self.file.read_text())["address"])


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    pytest.importorskip("distributed")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cluster").mkdir()
    made = Cluster(tmp_path / "cluster")
    made.start("dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--dashboard-address", "127.0.0.1:0")
    yield made
    for process in reversed(made.processes):
        process.kill()
        process.wait()


def write_jobs(folder: Path, extra: str = "", **scripts: str) -> None:
    names = [make_model(folder, name, script).name for name, script in scripts.items()]
    (folder / "jobs.yaml").write_text(f"models: [{', '.join(names)}]\nquestions: [verify]\n{extra}")


def statuses() -> dict[str, str]:
    lines = Path("jobs.results.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert len({record["id"] for record in records}) == len(records)
    return {record["model"]: record["status"] for record in records}


@pytest.mark.slow
def test_the_job_of_a_killed_worker_is_done_by_another(cluster: Cluster, tmp_path: Path) -> None:
    told = tmp_path / "told"
    first = FIRST_TIME.format(told=str(told)) + scripted.ANSWER
    write_jobs(tmp_path, a=first, b=scripted.ANSWER, c=scripted.REFUTE, d=scripted.DIE)
    cluster.worker()
    cluster.worker()
    seen: list[int] = []

    def kill() -> None:
        wait_for(told.exists)
        seen.extend(map(int, told.read_text().split()))
        os.kill(seen[1], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    result = cluster.batch()
    killer.join()
    assert result.exit_code == ExitCode.NUMERICAL, result.output
    assert seen[1] in {process.pid for process in cluster.processes[1:]}
    assert statuses() == {"a.npz": "proved", "b.npz": "proved", "c.npz": "not_proved", "d.npz": "died"}
    wait_for(lambda: gone(seen[0]))


@pytest.mark.slow
def test_a_job_of_which_workers_die_is_recorded_and_the_others_go_on(cluster: Cluster, tmp_path: Path) -> None:
    poison = "import os, signal; os.kill(os.getppid(), signal.SIGKILL)"
    write_jobs(tmp_path, a=poison, b=scripted.ANSWER, c=scripted.ANSWER)
    for _ in range(3):
        cluster.worker()
    result = cluster.batch()
    assert result.exit_code == ExitCode.NUMERICAL, result.output
    assert statuses() == {"a.npz": "died", "b.npz": "proved", "c.npz": "proved"}
    assert "Workers died of it" in result.stdout


@pytest.mark.slow
def test_ctrl_c_reaches_jobs_on_workers_and_the_next_batch_goes_on(cluster: Cluster, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    slow = f"import pathlib\npathlib.Path({str(begun)!r}).touch()\n{scripted.YIELD}"
    write_jobs(tmp_path, "defaults: {grace: 60}", a=slow, b=scripted.ANSWER, c=scripted.ANSWER, d=scripted.ANSWER)
    cluster.worker()

    def press() -> None:
        wait_for(begun.exists)
        time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGINT)

    presser = threading.Thread(target=press)
    presser.start()
    result = cluster.batch()
    presser.join()
    assert result.exit_code == ExitCode.INTERRUPTED, result.output
    assert statuses() == {"a.npz": "interrupted"}
    assert json.loads(Path("jobs.results.jsonl").read_text())["result"] == {"proved": True}
    make_model(tmp_path, "a", scripted.ANSWER)
    assert cluster.batch().exit_code == ExitCode.PROVED


@pytest.mark.slow
@pytest.mark.parametrize("on_cluster", [True, False])
def test_real_jobs_go_on_after_the_death_of_their_batch(on_cluster: bool, cluster: Cluster, tmp_path: Path) -> None:
    """Its jobs end with it, and the second batch has nothing of the first but its file of results."""
    rng = np.random.default_rng(3)
    for name, size in (("small", 4), ("large", 260)):
        weights = {f"W{index}": rng.standard_normal((size, size)) / np.sqrt(size) for index in range(1, 9)}
        np.savez(tmp_path / f"{name}.npz", activation="relu", **weights)
    jobs = ("questions:\n  - {question: lipschitz, models: [small.npz]}\n"
            "  - {question: lipschitz, models: [large.npz], time_limit: LIMIT}\n")
    (tmp_path / "jobs.yaml").write_text(jobs.replace("LIMIT", "300"))
    if on_cluster:
        cluster.worker(preload="")
    where = ("--scheduler", cluster.address) if on_cluster else ("--jobs", "1")
    (tmp_path / "temporary").mkdir()
    first = subprocess.Popen([sys.executable, "-m", "netgain.verify", "batch", "jobs.yaml", *where],
                             stdout=subprocess.DEVNULL, env={**os.environ, "TMPDIR": str(tmp_path / "temporary")})
    results = tmp_path / "jobs.results.jsonl"
    wait_for(lambda: results.exists() and results.read_bytes().endswith(b"\n"))
    assert statuses() == {"small.npz": "proved"}
    runner = psutil.Process(cluster.processes[1].pid if on_cluster else first.pid)
    wait_for(runner.children)
    job = runner.children()[0]
    first.kill()
    first.wait()
    wait_for(lambda: gone(job.pid), seconds=60)
    assert list((tmp_path / "temporary").iterdir()) == []
    line = results.read_text()
    (tmp_path / "jobs.yaml").write_text(jobs.replace("LIMIT", "5"))
    result = CliRunner().invoke(cli.app, ["batch", "jobs.yaml", *where])
    assert result.exit_code in (ExitCode.PROVED, ExitCode.NOT_PROVED), result.output
    assert results.read_text().startswith(line)
    assert statuses().keys() == {"small.npz", "large.npz"}
    small = json.loads(line)["result"]
    arguments = ["check", small["certificate"], "small.npz"]
    assert CliRunner().invoke(cli.app, arguments).exit_code == ExitCode.PROVED


@pytest.mark.slow
def test_workers_of_another_version_are_refused(cluster: Cluster, tmp_path: Path) -> None:
    write_jobs(tmp_path, a=scripted.ANSWER)
    cluster.worker("from netgain.verify.batch import schedulers\nschedulers.tool = lambda: {'version': '0.0.0'}")
    result = cluster.batch()
    assert result.exit_code == ExitCode.USAGE
    assert "has netgain 0.0.0" in result.stderr
    assert Path("jobs.results.jsonl").read_bytes() == b""


def test_nobody_at_the_address_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(schedulers, "_CONNECT_TIME", 0.5)
    write_jobs(tmp_path, a=scripted.ANSWER)
    for address in ("tcp://127.0.0.1:1", "no address"):
        result = CliRunner().invoke(cli.app, ["batch", "jobs.yaml", "--scheduler", address])
        assert result.exit_code == ExitCode.USAGE
        assert f"No Dask scheduler answers at {address}" in result.stderr
        assert "Traceback" not in result.stderr
