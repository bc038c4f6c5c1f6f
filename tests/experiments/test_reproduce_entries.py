"""Each entry from end to end in small: its rows keep the laws of bounds, and a second run computes nothing."""

import dataclasses
import functools

import numpy as np
import pytest
from netgain.experiments import cifar
from netgain.experiments.reproduce.context import Context, NeedsError, Request
from netgain.experiments.reproduce.entries import (
    contractivity_mnist,
    glipsdp_depth,
    glipsdp_digits,
    glipsdp_versatility,
    lben_mnist,
    nais_mnist,
    nemon_mnist,
)

from .blobs import blobs

torch = pytest.importorskip("torch")


def small_digits(patch):
    patch(glipsdp_digits, "digits", lambda: blobs(8, 10, 100, 50))
    patch(glipsdp_digits, "_SEEDS", 1)
    patch(glipsdp_digits, "_EPOCHS", 1)
    patch(glipsdp_digits, "_HIDDEN", {"fnn2": (4,)})
    patch(glipsdp_digits, "_CHANNELS", {"cnn2": (1,)})
    return glipsdp_digits


def small_depth(patch):
    patch(glipsdp_depth, "_DEPTHS", {"W4": (2, 3), "CH2": (2,)})
    return glipsdp_depth


def small_versatility(patch):
    from netgain.experiments.reproduce import modules

    patch(glipsdp_versatility, "_ARCHITECTURES", ("FC-R18",))
    patch(glipsdp_versatility, "_module", lambda kind: modules.ResidualPerceptron(4, 1))
    return glipsdp_versatility


def small_contractivity(patch):
    from netgain.experiments.training import ode_experiment
    from netgain.experiments.training.neural_ode import Method, OdeRecipe
    from netgain.experiments.training.ode_fields import TrainedForm

    small = OdeRecipe(field=TrainedForm(size=3), method=Method.PENALTY, steps=2, epochs=1)
    patch(ode_experiment, "recipes", lambda epochs, seed: {"penalty": small})
    patch(contractivity_mnist, "_NAMES", ("penalty",))
    patch(contractivity_mnist, "_SECONDS", 2.0)
    return contractivity_mnist


def small_nemon(patch, tmp_path):
    from netgain.experiments.training import implicit_network
    from netgain.experiments.training.implicit_recipe import ImplicitRecipe, Method

    patch(implicit_network, "RECIPES", {"nemon": ImplicitRecipe(size=3),
                                        "plain": ImplicitRecipe(method=Method.PLAIN, size=3)})
    patch(nemon_mnist, "_DEFAULT", ("plain",))
    rng = np.random.default_rng(0)
    arrays = {"A": -np.eye(3), "B": rng.standard_normal((3, 16)), "b": np.zeros(3), "C": rng.standard_normal((3, 3)),
              "c": np.zeros(3)}
    np.savez(tmp_path / "nemon.npz", **arrays)
    patch(nemon_mnist, "COMMITTED", tmp_path / "nemon.npz")
    return nemon_mnist


def small_nais(patch):
    from netgain.experiments.training import stable_network

    patch(stable_network, "TASKS", (stable_network.Task("dense tanh", False, "tanh", 4, 1),))
    patch(nais_mnist, "_SEEDS", 2)
    return nais_mnist


SMALL = {"digits": small_digits, "depth": small_depth, "versatility": small_versatility,
         "contractivity": small_contractivity, "nemon": small_nemon, "nais": small_nais}


def columns(table):
    names = [column.name for column in table.columns]
    return [dict(zip(names, row, strict=True)) for row in table.rows]


_LONG = ("digits", "versatility", "contractivity")


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) if name in _LONG else name
                                  for name in SMALL])
def test_an_entry_in_small(name, monkeypatch, tmp_path):
    images = blobs(28, 10, 20, 10) if name == "versatility" else blobs(4, 3, 60, 30)
    monkeypatch.setattr(cifar, "load_images", lambda source: images)
    make = functools.partial(SMALL[name], tmp_path=tmp_path) if name == "nemon" else SMALL[name]
    module = make(monkeypatch.setattr)
    first = Context(module.NAME, Request(out=tmp_path, data="small"), lambda text: None)
    table = module.run(first)
    assert first.ran
    assert first.complete
    assert table.source.arxiv
    rows = columns(table)
    for row in rows:
        bounds = [row[key] for key in ("certified", "per channel", "roesser") if row.get(key) is not None]
        for bound in bounds:
            assert row["witness"] is None or row["witness"] <= bound
            assert row["certified"] <= bound * (1 + 1e-6)
        if row.get("norm product") is not None and "mode" not in row:
            assert row["certified"] <= row["norm product"] * (1 + 1e-6)
    check = {"contractivity": check_contractivity, "nemon": check_nemon, "nais": check_nais}.get(name)
    if check:
        check(rows)
    again = Context(module.NAME, Request(out=tmp_path, data="small"), lambda text: None)
    assert module.run(again).rows == table.rows
    assert again.ran == []


def check_contractivity(rows):
    (row,) = rows
    assert row["mu reached"] <= row["mu certified"]
    for radius in ("0.1", "0.25", "0.5", "1"):
        assert row[f"certified l2 {radius}"] <= row[f"pgd l2 {radius}"] <= row["clean"]


def check_nemon(rows):
    ours = {row["model"]: row for row in rows}
    # A = -I keeps x = relu(B u) / 2 or 0, so slopes 1/2 at most.
    assert ours["nemon"]["l_inf witness"] <= ours["nemon"]["l_inf certified"] <= ours["nemon"]["l_inf M-matrix"]
    assert ours["nemon"]["least mu(A)"] == pytest.approx(-1)
    assert ours["plain"]["l_inf M-matrix"] is None or ours["plain"]["least mu(A)"] < 1
    assert ours["nemon, boxes"]["clean"] is None
    assert ours["nemon, boxes"]["published clean"] == 95.42


def check_nais(rows):
    assert len(rows) == 3
    for row in rows:
        assert row["runs"] == 2
        assert row["gap"] == pytest.approx(row["training"] - row["test"])
    (nais,) = [row for row in rows if row["conditions proved"] is not None]
    assert nais["conditions proved"] == 100


def test_implicit_networks_of_a_folder(tmp_path):
    folder = tmp_path / "weights"
    folder.mkdir()
    identity = {"B": np.eye(2), "b": np.zeros(2), "C": np.eye(2), "c": np.zeros(2), "activation": "relu"}
    np.savez(folder / "none.npz", A=np.zeros((2, 2)), **identity)
    np.savez(folder / "several.npz", A=2 * np.eye(2), **identity)
    request = Request(out=tmp_path, weights=folder)
    table = lben_mnist.run(Context(lben_mnist.NAME, request, lambda text: None))
    plain, several = columns(table)
    # x = relu(u).
    assert plain["well-posed"] == "proved"
    assert plain["l2 witness"] <= 1 <= plain["l2 certified"] == pytest.approx(1, rel=1e-4)
    assert several["well-posed"] != "proved"
    assert several["l2 certified"] is None
    assert table.deviations == []
    (folder / "none.npz").write_bytes(b"damaged")
    with pytest.raises(NeedsError, match="none"):
        lben_mnist.run(Context(lben_mnist.NAME, request, lambda text: None))


def test_without_weights_the_committed_implicit_network_is_read(tmp_path, monkeypatch):
    def recorded(context, name, graph):
        recorded.seen = (name, graph.shape(graph.input), graph.shape(graph.output))

    monkeypatch.setattr(lben_mnist, "_bounds", recorded)
    table = lben_mnist.run(Context(lben_mnist.NAME, Request(out=tmp_path), lambda text: None))
    assert recorded.seen == ("mnist_nemon", (784,), (10,))
    assert len(table.rows) == 1


def test_a_run_that_is_stopped_gives_the_rows_it_has(monkeypatch, tmp_path):
    monkeypatch.setattr(cifar, "load_images", lambda source: blobs(4, 3, 60, 30))
    module = small_depth(monkeypatch.setattr)
    stop = []
    context = Context(module.NAME, Request(out=tmp_path), lambda text: stop.append(text), lambda: len(stop) > 2)
    table = module.run(context)
    first, *others = columns(table)
    assert first["certified"] is not None or context.ran == ["train W4 depth 2"]
    assert all(row["certified"] is None for row in others)
    assert not context.complete
    full = Context(module.NAME, Request(out=tmp_path), lambda text: None)
    assert [row["certified"] is not None for row in columns(module.run(full))] == [True] * 3
    assert not set(full.ran) & set(context.ran)


def test_small_networks_are_as_wide_as_asked():
    from netgain.experiments.reproduce.modules import NormalisedConvolutional, NormalisedPerceptron

    torch.manual_seed(0)
    for network, image in ((NormalisedPerceptron(16, 3, 5, 10), (2, 1, 4, 4)),
                           (NormalisedConvolutional(3, 2, 10), (2, 1, 4, 4))):
        assert network(torch.rand(image)).shape == (2, 10)
        for k in range(3):
            matrix = network.normalised(k).flatten(1).detach()
            assert float(torch.linalg.matrix_norm(matrix, 2)) == pytest.approx(1, rel=1e-5)


def test_requests_are_plain_data():
    assert dataclasses.asdict(Request(out="x"))["weights"] is None
