"""The benchmark of implicit networks: proved values between bounds that are known, and its command."""

import numpy as np
import pytest
from netgain.experiments.benchmarks.__main__ import app
from netgain.experiments.benchmarks.implicit_networks import (
    EUCLIDEAN_NORM,
    LARGEST_NORM,
    SIZES,
    measure,
    random_network,
)
from netgain.solvers.implicit.gain import majorant_gain
from netgain.solvers.implicit.weighted_log_norm import least_log_norm
from typer.testing import CliRunner


@pytest.mark.parametrize("neurons", [5, 30])
def test_what_is_measured_is_what_is_asked(neurons):
    graph = random_network(neurons)
    injection, loop, readout = (graph.layer(node) for node in graph.order[1:-1])
    A, B, C = loop.recurrence.weight, injection.weight, readout.weight
    row = measure(LARGEST_NORM, neurons)
    assert least_log_norm(A).below <= row.log_norm <= 1e-9
    assert majorant_gain(A, B, C)[0] <= row.gain <= majorant_gain(A, B, C)[0] * (1 + 1e-6)
    euclidean = measure(EUCLIDEAN_NORM, neurons, tolerance=1e-3)
    # All neurons active, and the triangle inequality with the metric I.
    monotone = np.linalg.eigvalsh(np.eye(neurons) - (A + A.T) / 2)[0]
    assert np.linalg.norm(C @ np.linalg.solve(np.eye(neurons) - A, B), 2) <= euclidean.gain * (1 + 1e-9)
    assert euclidean.gain <= np.linalg.norm(B, 2) * np.linalg.norm(C, 2) / monotone * (1 + 1e-2)
    assert euclidean.seconds > 0


def test_the_command_leaves_out_what_is_larger():
    result = CliRunner().invoke(app, ["implicit", "--largest", "100"])
    assert result.exit_code == 0
    shown = [line.split() for line in result.stdout.splitlines() if "done" not in line]
    rows = [line for line in shown if line[:1] == ["l_inf"] or line[:1] == ["l2"]]
    assert [row[2] for row in rows] == ["100", "100"]
    assert all(sizes[-1] > 100 for sizes in SIZES.values())
