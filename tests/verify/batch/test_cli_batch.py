"""`netgain batch` in this process: what is run, kept, continued and begun again, and how it ends."""

import json
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from netgain.verify import cli
from netgain.verify.batch import run_job as supervision
from netgain.verify.batch.journal import Journal
from netgain.verify.outcomes import ExitCode
from typer.testing import CliRunner, Result

from . import scripted
from .scripted import make_model


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr(supervision, "_command", scripted.scripted)


def batch(*arguments: str) -> Result:
    return CliRunner().invoke(cli.app, ["batch", "jobs.yaml", *arguments])


def records(path: str = "jobs.results.jsonl") -> list[dict]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def write_jobs(folder: Path, extra: str = "", **scripts: str) -> None:
    names = [make_model(folder, name, script).name for name, script in scripts.items()]
    (folder / "jobs.yaml").write_text(f"models: [{', '.join(names)}]\nquestions: [verify]\n{extra}")


def counting(folder: Path, name: str, script: str) -> str:
    """The script, which also counts how often it is run."""
    return f"open({str(folder / name)!r}, 'a').write('x')\n{script}"


def test_each_job_has_a_line_and_the_worst_decides(tmp_path: Path) -> None:
    write_jobs(tmp_path, good=scripted.ANSWER, bad=scripted.REFUTE, dead=scripted.DIE, odd="raise SystemExit(3)")
    result = batch("--jobs", "2")
    assert result.exit_code == ExitCode.NUMERICAL
    found = {record["model"]: record for record in records()}
    assert {name: record["status"] for name, record in found.items()} == {
        "good.npz": "proved", "bad.npz": "not_proved", "dead.npz": "died", "odd.npz": "unreadable"}
    assert found["good.npz"]["result"] == {"proved": True}
    assert all(record["schema"] == "netgain-batch/1" and record["seconds"] > 0 for record in found.values())
    assert "1 proved, 1 not proved, 1 unreadable, 1 died" in result.stdout
    assert "SIGKILL" in result.stdout
    assert result.stderr == ""


@pytest.mark.parametrize(("scripts", "code"), [
    ((scripted.ANSWER,), 0), ((scripted.ANSWER, scripted.REFUTE), 1), ((scripted.REFUTE, "raise SystemExit(2)"), 2),
    (("raise SystemExit(2)", "raise SystemExit(3)"), 3), (("raise SystemExit(3)", scripted.DIE), 4)])
def test_the_exit_code_is_that_of_the_worst_job(scripts: tuple[str, ...], code: int, tmp_path: Path) -> None:
    write_jobs(tmp_path, **{f"m{index}": script for index, script in enumerate(scripts)})
    assert batch().exit_code == code
    assert batch().exit_code == code  # also of jobs that were answered before


def test_what_is_answered_is_not_asked_again(tmp_path: Path) -> None:
    write_jobs(tmp_path, a=counting(tmp_path, "a", scripted.ANSWER), b=counting(tmp_path, "b", scripted.DIE))
    batch()
    assert batch().exit_code == ExitCode.NUMERICAL
    assert len((tmp_path / "a").read_text()) == len((tmp_path / "b").read_text()) == 1
    batch("--retry", "failed")
    assert (len((tmp_path / "a").read_text()), len((tmp_path / "b").read_text())) == (1, 2)
    batch("--retry", "proved", "--retry", "timed_out")
    assert (len((tmp_path / "a").read_text()), len((tmp_path / "b").read_text())) == (2, 2)
    make_model(tmp_path, "a", counting(tmp_path, "a", scripted.REFUTE))
    assert batch("--retry", "died", "--json").exit_code == ExitCode.NUMERICAL
    assert (len((tmp_path / "a").read_text()), len((tmp_path / "b").read_text())) == (3, 3)
    assert len(records()) == 6


def test_json_lines_are_those_of_the_file(tmp_path: Path) -> None:
    write_jobs(tmp_path, a=scripted.ANSWER, b=scripted.ANSWER)
    assert [json.loads(line) for line in batch("--json").stdout.splitlines()] == records()
    assert batch("--json").stdout == ""


def test_list_runs_nothing(tmp_path: Path) -> None:
    write_jobs(tmp_path, a=scripted.ANSWER, b=scripted.DIE)
    result = batch("--list")
    assert result.exit_code == 0
    assert "2, 0 of them in the results" in result.stdout
    assert not Path("jobs.results.jsonl").exists()
    batch()
    content = json.loads(batch("--list", "--json").stdout)
    assert [(job["model"], job["status"]) for job in content["jobs"]] == [("a.npz", "proved"), ("b.npz", "died")]
    assert [job["id"] for job in content["jobs"]] == sorted((record["id"] for record in records()), key=[
        job["id"] for job in content["jobs"]].index)


def test_what_jobs_write_is_kept_where_their_line_says(tmp_path: Path) -> None:
    script = ("open('a.certificate.json', 'w').write('proof')\n"
              "print('{\"certificate\": \"a.certificate.json\", \"model\": {\"path\": \"../input/model/a.npz\"}}')")
    write_jobs(tmp_path, a=script)
    (tmp_path / "out").mkdir()
    assert batch("--output", "out/mine.jsonl").exit_code == 0
    record, = records("out/mine.jsonl")
    name, = record["files"]
    assert (tmp_path / "out" / name).read_text() == "proof"
    assert record["result"] == {"certificate": name, "model": {"path": "a.npz"}}


def test_a_torn_line_is_told_removed_and_its_job_run_again(tmp_path: Path) -> None:
    write_jobs(tmp_path, a=counting(tmp_path, "a", scripted.ANSWER), b=counting(tmp_path, "b", scripted.ANSWER))
    batch("--jobs", "1")
    path = Path("jobs.results.jsonl")
    whole = path.read_bytes()
    for cut in (1, 40):
        path.write_bytes(whole[:-cut])
        result = batch()
        assert result.exit_code == 0
        assert "ended in the middle of a line" in result.stderr
        assert {record["model"] for record in records()} == {"a.npz", "b.npz"}
        assert len(records()) == 2
    assert (len((tmp_path / "a").read_text()), len((tmp_path / "b").read_text())) == (1, 3)


@pytest.mark.parametrize("text", ["{\n", "[]\n", '{"schema": "netgain-result/1"}\n',
                                  '{"schema": "netgain-batch/1", "id": "x", "status": "well"}\n'])
def test_a_file_of_something_else_is_left_alone(text: str, tmp_path: Path) -> None:
    write_jobs(tmp_path, a=scripted.ANSWER)
    path = Path("jobs.results.jsonl")
    path.write_text(text)
    result = batch()
    assert result.exit_code == ExitCode.USAGE
    assert "line 1" in result.stderr
    assert path.read_text() == text


def test_two_batches_do_not_write_to_one_file(tmp_path: Path) -> None:
    write_jobs(tmp_path, a=scripted.ANSWER)
    with Journal(Path("jobs.results.jsonl")).writing():
        result = batch()
    assert result.exit_code == ExitCode.USAGE
    assert "Another batch" in result.stderr
    assert batch().exit_code == 0


def test_ctrl_c_keeps_the_best_of_running_jobs_and_the_next_run_goes_on(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    slow = f"import pathlib\npathlib.Path({str(begun)!r}).touch()\n{scripted.YIELD}"
    write_jobs(tmp_path, "defaults: {grace: 30}", a=slow, b=counting(tmp_path, "b", scripted.ANSWER))

    def press() -> None:
        while not begun.exists():
            time.sleep(0.05)
        time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press).start()
    result = batch("--jobs", "1")
    assert result.exit_code == ExitCode.INTERRUPTED
    record, = records()
    assert (record["model"], record["status"], record["result"]) == ("a.npz", "interrupted", {"proved": True})
    assert "1 not run" in result.stdout
    begun.write_text("x")
    make_model(tmp_path, "a", slow.replace("60", "0"))
    batch()
    assert (tmp_path / "b").read_text() == "x"


@pytest.mark.parametrize(("arguments", "why"), [
    (["--output", "results.txt"], "does not end in .jsonl"), (["--retry", "everything"], "is none of"),
    (["--jobs", "0"], "--jobs"), (["--scheduler", "tcp://127.0.0.1:1", "--jobs", "2"], "workers say"),
    (["--output", "none/results.jsonl"], "could not be written")])
def test_usage(arguments: list[str], why: str, tmp_path: Path) -> None:
    write_jobs(tmp_path, a=scripted.ANSWER)
    result = batch(*arguments)
    assert result.exit_code == ExitCode.USAGE
    assert why in result.stderr


def test_bad_jobs_are_told_all_at_once(tmp_path: Path) -> None:
    (tmp_path / "jobs.yaml").write_text("models: [none.npz]\nquestion: [verify]\n")
    result = batch()
    assert result.exit_code == ExitCode.USAGE
    assert "line 1: models[0]" in result.stderr
    assert "line 2: question: unknown key; did you mean 'questions'?" in result.stderr


def test_real_jobs_give_certificates_that_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """relu(x + 1) - relu(x - 1), whose constant is 1."""
    monkeypatch.setattr(supervision, "_command", scripted.REAL)
    np.savez(tmp_path / "tiny.npz", activation="relu", W1=np.array([[1.0], [1.0]]), b1=np.array([1.0, -1.0]),
             W2=np.array([[1.0, -1.0]]))
    (tmp_path / "jobs.yaml").write_text("models: [tiny.npz]\nquestions:\n  - question: lipschitz\n"
                                        "    options: {below: 1.5}\n")
    result = batch()
    assert result.exit_code == ExitCode.PROVED
    record, = records()
    assert (record["status"], record["options"]) == ("proved", {"below": 1.5})
    found = record["result"]
    assert found["claim"] == {"below": 1.5, "verdict": "proved"}
    assert found["lower"]["value"] <= 1 <= found["upper"] <= 1 + 1e-5
    assert found["model"]["path"] == "tiny.npz"
    assert f"<= L <= {found['upper_decimal']}" in result.stdout
    assert CliRunner().invoke(cli.app, ["check", found["certificate"], "tiny.npz"]).exit_code == ExitCode.PROVED
