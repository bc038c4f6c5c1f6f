"""The committed implicit classifier is what its record says, and its bounds are proved anew."""

import json
from pathlib import Path

import numpy as np
import pytest
from netgain.layers import Relu, load
from netgain.solvers.implicit.gain import majorant_gain
from netgain.solvers.implicit.row_gain import row_gain
from netgain.solvers.implicit.weighted_log_norm import least_log_norm
from netgain.solvers.result import Limits
from netgain.verify.implicit.check import proved_majorant_gain, proved_row_gain
from netgain.verify.implicit.reachability import Reachability
from netgain.verify.implicit.reachability_check import Boxes
from netgain.verify.implicit.weighted_log_norm_check import proves_log_norm

MODELS = Path(__file__).parents[2] / "experiments" / "models"
MODEL = MODELS / "mnist_nemon.npz"


@pytest.fixture(scope="module")
def stored():
    archive = np.load(MODEL, allow_pickle=False)
    return json.loads(str(archive["about"])), [archive[key].astype(np.float64) for key in ("A", "B", "b", "C", "c")]


def test_the_record(stored):
    about, (A, B, _, C, _) = stored
    assert (A.shape, B.shape, C.shape) == ((100, 100), (100, 784), (10, 100))
    assert MODEL.stat().st_size < 1_000_000
    assert about["test_accuracy"] >= 0.97
    rows = json.loads((MODELS / "mnist_implicit.json").read_text(encoding="utf-8"))
    assert {key: rows["nemon"][key] for key in about} == about
    readme = (MODELS / "README.md").read_text(encoding="utf-8")
    # Of one the iteration does not converge at all.
    classified = [row for row in rows.values() if "test_accuracy" in row]
    assert len(classified) == len(rows) - 1
    assert all(f"{100 * row['test_accuracy']:.2f} %" in readme for row in classified)
    for row in classified:
        for witness, bound in (("witness_inf", "bound_inf"), ("witness_2", "bound_2")):
            assert row.get(witness) is None or row[witness] <= row[bound]
        for radius, certified in (row["certified_boxes"] or {}).items():
            assert certified <= row["pgd"][radius]


def test_bounds_are_proved_anew(stored):
    about, (A, B, _, C, _) = stored
    found, ones = least_log_norm(A), np.ones(100)
    assert proves_log_norm(A, found.weights, ones, ones, about["log_norm"] + 1e-9)
    bound, z = majorant_gain(A, B, C)
    assert proved_majorant_gain(A, B, C, z * (1 + 1e-6) + 1e-9) <= about["majorant_inf"] * 1.001
    assert bound <= about["majorant_inf"] * (1 + 1e-6)
    worst = int(np.argmax(about["row_inf"]))
    row = row_gain(A, B, C[worst], limits=Limits(tolerance=5e-3))
    proved = proved_row_gain(A, B, C[worst], row.metric, row.inputs * (1 + 1e-6))
    assert about["witness_inf"] <= proved <= about["bound_inf"] * 1.005


def test_the_graph_lies_in_its_boxes(stored):
    _, parts = stored
    graph, method = load(MODEL), Reachability(*parts, Relu())
    rng = np.random.default_rng(0)
    centre = rng.uniform(0, 1, (3, 784))
    reach = method.reach(Boxes.around(centre, 0.02, 0.0, 1.0))
    assert reach.proved.all()
    for corner in rng.choice([-0.02, 0.02], (5, 3, 784)):
        y = graph.forward(np.clip(centre + corner, 0, 1))
        assert np.all((reach.outputs.lower <= y + 1e-9) & (y <= reach.outputs.upper + 1e-9))
