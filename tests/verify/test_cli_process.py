"""The command line as a process: signals, terminals, pipes and exit codes."""

import json
import math
import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from netgain.layers import Affine, Layer, Relu, sequential
from netgain.layers.formats import save_npz

COMMAND = [sys.executable, "-m", "netgain.verify"]


def run(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60, check=False)


def random_model(path: Path, depth: int, width: int) -> Path:
    rng = np.random.default_rng(1)
    chain: list[Layer] = []
    for _ in range(depth):
        chain += [Affine(rng.standard_normal((width, width)) / math.sqrt(width)), Relu()]
    save_npz(path, sequential((width,), chain[:-1]))
    return path


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Solved in far more seconds than the tests let it."""
    return random_model(tmp_path_factory.mktemp("models") / "deep.npz", 14, 80)


class Terminal:
    """A process whose stderr is a terminal and whose stdout is a pipe."""

    def __init__(self, arguments: list[str], cwd: Path):
        self.master, slave = pty.openpty()
        environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
        self.process = subprocess.Popen(
            [*COMMAND, *arguments], cwd=cwd, stdout=subprocess.PIPE, stderr=slave, text=True, env=environment
        )
        os.close(slave)
        self.shown = ""

    def wait_for(self, text: str, seconds: float = 30.0) -> None:
        end = time.monotonic() + seconds
        while text not in self.shown:
            assert time.monotonic() < end, f"{text!r} not shown, only {self.shown!r}"
            self._read(0.1)

    def finish(self, seconds: float = 30.0) -> str:
        """What was written to stdout; the terminal is emptied on the way, so that nobody blocks."""
        end = time.monotonic() + seconds
        while self.process.poll() is None:
            assert time.monotonic() < end, "did not end"
            self._read(0.1)
        os.close(self.master)
        assert self.process.stdout is not None
        with self.process.stdout as stream:
            return stream.read()

    def _read(self, seconds: float) -> None:
        if select.select([self.master], [], [], seconds)[0]:
            try:
                self.shown += os.read(self.master, 65536).decode(errors="replace")
            except OSError:  # the other end was closed
                time.sleep(seconds)


def test_ctrl_c_keeps_what_is_proved(deep: Path, tmp_path: Path) -> None:
    terminal = Terminal(["verify", str(deep), "--json"], tmp_path)
    terminal.wait_for("iteration 2")
    terminal.process.send_signal(signal.SIGINT)
    content = json.loads(terminal.finish())
    assert terminal.process.returncode == 130
    assert content["proved"]
    assert content["solver"]["status"] == "interrupted"
    assert content["upper"] <= content["norm_product"]
    checked = run("check", content["certificate"], deep, cwd=tmp_path)
    assert checked.returncode == 0, checked.stderr


def test_progress_is_on_the_terminal_and_only_there(deep: Path, tmp_path: Path) -> None:
    terminal = Terminal(["lipschitz", str(deep), "--time-limit", "0.5"], tmp_path)
    terminal.wait_for("solving: iteration")
    assert "iteration 1," not in terminal.finish()
    quiet = Terminal(["lipschitz", str(deep), "--time-limit", "0.5", "--quiet"], tmp_path)
    quiet.finish()
    assert quiet.shown == ""


def test_a_time_limit_covers_everything(deep: Path, tmp_path: Path) -> None:
    begin = time.monotonic()
    result = run("verify", deep, "--time-limit", 2, "--json", cwd=tmp_path)
    assert time.monotonic() - begin < 20
    assert result.returncode == 0
    assert result.stderr == ""
    content = json.loads(result.stdout)
    assert content["proved"]
    assert content["solver"]["status"] == "time_limit"
    assert run("check", content["certificate"], deep, cwd=tmp_path).returncode == 0


def test_what_is_piped_has_no_colours_no_padding_and_no_broken_lines(tmp_path: Path) -> None:
    model = random_model(tmp_path / "a_model_with_quite_a_long_name_for_a_test_of_wrapping.npz", 2, 4)
    result = run("verify", model, cwd=tmp_path)
    assert result.returncode == 0
    assert "\x1b" not in result.stdout
    lines = result.stdout.splitlines()
    assert all(line == line.rstrip() for line in lines)
    assert lines[-1].startswith("certificate")
    assert lines[-1].endswith(".certificate.json")
    assert sum(line.startswith("time ") and line.endswith("s") for line in lines) == 1


def test_eighty_columns_are_enough(tmp_path: Path) -> None:
    model = random_model(tmp_path / "small.npz", 2, 4)
    result = run("verify", model, cwd=tmp_path)
    assert all(len(line) <= 80 for line in result.stdout.splitlines() if not line.startswith(("time", "note")))


@pytest.mark.parametrize(("arguments", "code"), [
    (["--bogus"], 2), (["verify"], 2), (["verify", "none.onnx"], 3), (["check", "none.json", "none.onnx"], 5),
    (["--version"], 0), (["doctor"], 0)])
def test_exit_codes(arguments: list[str], code: int, tmp_path: Path) -> None:
    result = run(*arguments, cwd=tmp_path)
    assert result.returncode == code
    assert "Traceback" not in result.stderr


def test_the_command_starts_without_a_conic_solver() -> None:
    script = "import sys, netgain.verify.cli; sys.exit(any(m in sys.modules for m in ('cvxpy', 'mosek', 'torch')))"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_stdout_is_told(tmp_path: Path) -> None:
    model = random_model(tmp_path / "small.npz", 2, 4)
    with open("/dev/full", "w") as full:
        command = [*COMMAND, "verify", str(model)]
        result = subprocess.run(command, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert result.returncode == 2
    assert "No space left" in result.stderr
    assert "Traceback" not in result.stderr
