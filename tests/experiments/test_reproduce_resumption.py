"""A run that was ended goes on where it was: finished jobs are not run again, half-written ones are."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from netgain.experiments.reproduce.context import Context, Request
from netgain.experiments.reproduce.journal import Journal, Record, key_of
from netgain.layers import ModelError

# The third job of six never ends in the first run.
SCRIPT = """
import sys, time
from pathlib import Path
from netgain.experiments.reproduce.context import Context, Request
out, hang = Path(sys.argv[1]), sys.argv[2] == "hang"
context = Context("entry", Request(out=out), print)
def run(k):
    if hang and k == 2:
        print("hanging", flush=True)
        time.sleep(60)
    return {"square": k * k}
print([context.job(f"job {k}", {"k": k}, lambda: run(k)) for k in range(6)], context.ran)
"""


def context(tmp_path, interrupted=lambda: False):
    return Context("entry", Request(out=tmp_path), lambda text: None, interrupted)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_run_goes_on_where_it_was(tmp_path, end):
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    with subprocess.Popen([*command, "hang"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "hanging" in line:
                break
        os.kill(process.pid, end)
    assert process.returncode == -end
    before = (tmp_path / "entry" / "journal.jsonl").read_text()
    assert len(before.splitlines()) == 2
    again = subprocess.run([*command, "go on"], capture_output=True, text=True, check=True).stdout.splitlines()[-1]
    assert again == f"{[{'square': k * k} for k in range(6)]} {[f'job {k}' for k in range(2, 6)]}"
    after = (tmp_path / "entry" / "journal.jsonl").read_text()
    assert after.startswith(before)
    assert len(after.splitlines()) == 6


@pytest.mark.parametrize("cut", [2, 10, 40])
def test_a_line_that_was_cut_off_is_run_again_and_no_other(tmp_path, cut):
    first = context(tmp_path)
    assert [first.job(name, {}, lambda: 1) for name in ("a", "b")] == [1, 1]
    path = first.journal.path
    path.write_bytes(path.read_bytes()[:-cut])
    second = context(tmp_path)
    assert [second.job(name, {}, lambda: 2) for name in ("a", "b", "c")] == [1, 2, 2]
    third = context(tmp_path)
    assert [third.job(name, {}, lambda: 3) for name in ("a", "b", "c")] == [1, 2, 2]
    assert third.ran == []


def test_other_inputs_are_other_jobs(tmp_path):
    run = context(tmp_path)
    assert run.job("a", {"digest": "x"}, lambda: 1) == 1
    assert run.job("a", {"digest": "y"}, lambda: 2) == 2
    assert run.job("b", {"digest": "x"}, lambda: 3) == 3
    assert key_of("e", "j", {"a": 1, "b": 2}) == key_of("e", "j", {"b": 2, "a": 1})
    assert len({key_of("e", "j", {}), key_of("e", "k", {}), key_of("f", "j", {}), key_of("e", "j", {"a": 1})}) == 4


def test_after_an_interruption_only_what_was_finished_is_there(tmp_path):
    context(tmp_path).job("a", {}, lambda: 1)

    def interrupt():
        raise KeyboardInterrupt

    run = context(tmp_path)
    assert run.job("b", {}, interrupt) is None
    assert run.stopped
    assert not run.complete
    assert run.job("a", {}, lambda: 2) == 1
    assert run.job("c", {}, lambda: 2) is None
    assert [note.split(":")[0] for note in run.notes] == ["b", "c"]
    assert len(run.journal.path.read_text().splitlines()) == 1


def test_what_a_solver_hands_over_after_ctrl_c_is_not_kept(tmp_path):
    pressed = []

    def best_so_far():
        pressed.append(True)
        return "not the optimum"

    assert context(tmp_path, lambda: bool(pressed)).job("a", {}, best_so_far) is None
    assert context(tmp_path).job("a", {}, lambda: "optimum") == "optimum"


def test_a_job_that_cannot_be_done_is_noted_and_tried_again(tmp_path):
    def refuse():
        raise ModelError("no such layer")

    run = context(tmp_path)
    assert run.job("a", {}, refuse) is None
    assert run.notes == ["a: not computed. no such layer"]
    assert not run.complete
    assert not run.stopped
    assert context(tmp_path).job("a", {}, lambda: 1) == 1


def test_faults_of_ours_are_not_hidden(tmp_path):
    def fault():
        return {}["missing"]

    with pytest.raises(KeyError):
        context(tmp_path).job("a", {}, fault)


def test_results_that_json_does_not_know_are_refused(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        Journal(tmp_path / "j").add(Record("a", "k", float("inf"), 0.0))
    assert not (tmp_path / "j").exists()


def test_trained_weights_are_kept_and_trained_again_if_lost(tmp_path):
    trained = []

    def train():
        trained.append(1)
        return {"W": np.eye(2), "b": np.zeros(2)}

    for _ in range(2):
        found = context(tmp_path).weights("net", {"seed": 0}, train)
        assert found is not None
        assert np.array_equal(found["W"], np.eye(2))
    assert len(trained) == 1
    path = tmp_path / "entry" / "weights" / "net.npz"
    path.write_bytes(path.read_bytes()[:-1])
    assert context(tmp_path).weights("net", {"seed": 0}, train) is not None
    assert len(trained) == 2
    path.unlink()
    assert context(tmp_path).weights("net", {"seed": 0}, train) is not None
    assert len(trained) == 3


def test_a_record_is_on_the_disk_when_its_job_is_done(tmp_path):
    run = context(tmp_path)
    begin = time.perf_counter()
    run.job("a", {"x": [1, 2.5, None]}, lambda: {"y": [1e-300, None, "ä"]})
    (line,) = run.journal.path.read_bytes().splitlines()
    content = json.loads(line)
    assert content["result"] == {"y": [1e-300, None, "ä"]}
    assert 0 <= content["seconds"] <= time.perf_counter() - begin
