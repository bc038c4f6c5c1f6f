"""Max pooling and sorting on regions: comparisons answer as the layers do, and what is proved with them holds."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
from netgain.layers import Affine, FixedPoint, Flatten, GroupSort, Relu, Softmax, Tanh, sequential
from netgain.layers.convolution import Convolution
from netgain.layers.differential import Linearisation
from netgain.layers.linear import Reshape
from netgain.layers.pooling import MaxPool
from netgain.solvers.result import Limits
from netgain.verify import lipschitz
from netgain.verify.robustness import contenders
from netgain.verify.robustness.attack import Attack
from netgain.verify.robustness.certificate import load_robustness
from netgain.verify.robustness.check import check_robustness
from netgain.verify.robustness.local_bound import LocalInequality, region_gain
from netgain.verify.robustness.local_check import region_gain_proved
from netgain.verify.robustness.local_layers import sorting_rounds, wiring
from netgain.verify.robustness.local_rows import restricted
from netgain.verify.robustness.outputs import difference
from netgain.verify.robustness.region import LocalError, LocalNetwork, Region, RegionShape
from netgain.verify.robustness.region_witness import region_witness
from netgain.verify.robustness.report import robustness

from .classifiers import CLASSIFIERS, perceptron, random_affine
from .test_regions import points
from .test_robustness import samples


def pooled(shape, pool, channels, seed, before=None, after=None):
    """Convolution, pooling and two dense layers, with activations before and after the pooling."""
    rng = np.random.default_rng(seed)
    kernel = rng.standard_normal((channels, shape[0], 3, 3)) / 3
    layers = [Convolution(kernel, 0.1 * rng.standard_normal(channels), padding=((1, 1), (1, 1))),
              *([before] if before else []), pool, *([after] if after else [])]
    size = math.prod(pool.output_shape((channels, *shape[1:])))
    return sequential(shape, [*layers, Flatten(), random_affine(rng, 6, size), Relu(), random_affine(rng, 3, 6)], "cnn")


POOLS = {
    "plain": ((4, 6), MaxPool((2, 2), (2, 2))),
    "overlapping": ((5, 5), MaxPool((3, 3), (2, 2), padding=((1, 1), (1, 1)))),
    "dilated": ((6, 5), MaxPool((2, 2), (1, 2), dilations=(2, 2))),
    "ceil": ((5, 5), MaxPool((2, 3), (2, 2), padding=((0, 1), (1, 0)), ceil_mode=True)),
    "whole": ((3, 3), MaxPool((3, 3))),
    "points": ((2, 3), MaxPool((1, 1))),
}
NETWORKS = {
    "cnn_pool": CLASSIFIERS["cnn_pool"],
    "overlapping": pooled((1, 5, 5), POOLS["overlapping"][1], 2, 0, before=Relu()),
    "dilated": pooled((1, 6, 5), POOLS["dilated"][1], 2, 3, after=Tanh()),
    "whole": pooled((1, 3, 3), POOLS["whole"][1], 4, 5),
    "first": sequential((1, 4, 4), [MaxPool((2, 2), (1, 1)), Flatten(),
                                    random_affine(np.random.default_rng(1), 3, 9)], "first"),
    "sort2": CLASSIFIERS["group_sort"],
    "sort5": perceptron((4, 10, 5, 3), GroupSort(5), 8),
}


def answered(own, entries, slopes=()):
    """The answer of a wiring to entries, of shape (entries, points), and what its neurons were fed; `slopes`: of
    comparisons that are settled, by neurons."""
    fed, given = [], iter(slopes)

    def respond(neurons, v):
        fed.append(v[0])
        return next(given, np.full(len(neurons), math.nan)), {0: np.maximum(v[0], 0)}

    return own.answer({0: entries}, respond)[0], fed


@pytest.mark.parametrize("size", range(1, 10))
def test_sorting_networks_sort_all_zeros_and_ones(size):
    """By the 0-1 principle they then sort everything (Knuth, volume 3, theorem 5.3.4Z)."""
    for word in itertools.product((0, 1), repeat=size):
        entries = list(word)
        for comparisons in sorting_rounds(size):
            assert len({place for pair in comparisons for place in pair}) == 2 * len(comparisons)
            for i, j in comparisons:
                entries[i], entries[j] = min(entries[i], entries[j]), max(entries[i], entries[j])
        assert entries == sorted(word)


@pytest.mark.parametrize("name", POOLS)
def test_tournaments_find_the_maxima_of_windows(name):
    size, pool = POOLS[name]
    shape = (2, *size)
    own = wiring(pool, shape, np.zeros(0), np.zeros(0))
    x = np.random.default_rng(0).standard_normal((20, *shape))
    answer, _ = answered(own, x.reshape((20, -1)).T[own.inputs])
    np.testing.assert_allclose(answer.T, pool.forward(x).reshape((20, -1)), rtol=1e-12)
    # One comparison fewer than there are contestants.
    taps = len(pool.windows(shape).taps()[0]) * shape[0]
    assert sum(map(len, own.neurons)) == taps - answer.shape[0]


@pytest.mark.parametrize(("shape", "size"), [((6,), 1), ((6,), 2), ((2, 6), 3), ((10,), 5), ((1, 7), 7)])
def test_comparisons_sort_groups(shape, size):
    layer = GroupSort(size)
    own = wiring(layer, shape, np.zeros(0), np.zeros(0))
    x = np.random.default_rng(0).standard_normal((20, *shape))
    answer, _ = answered(own, x.reshape((20, -1)).T)
    np.testing.assert_allclose(answer.T, layer.forward(x).reshape((20, -1)), rtol=1e-12)


@pytest.mark.parametrize("region", [Region(RegionShape.BALL, 0.5), Region(RegionShape.BOX, 0.1)], ids=str)
@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_proved_on_regions_holds_at_all_points_sampled(name, region):
    graph = NETWORKS[name]
    network = LocalNetwork(graph)
    x = samples(graph, 1).inputs[0]
    centre = network.centre(x)
    zonotope = network.zonotope(centre, region)
    near, others = points(graph, x, region, 300), points(graph, x, region, 300, seed=1)
    values = graph.values(near)
    known = iter(zonotope.known)
    for layer in network.plain.layers:
        own = [next(known) for _ in layer.wiring.neurons]
        entries = values[graph.inputs(layer.node)[0]].reshape((300, -1)).T[layer.wiring.inputs]
        answer, fed = answered(layer.wiring, entries, [k.slope for k in own])
        if layer.wiring.direct is None:
            # What is settled changes nothing on the region.
            np.testing.assert_allclose(answer.T, values[layer.node].reshape((300, -1)), rtol=1e-12, atol=1e-12)
        for v, k in zip(fed, own, strict=True):
            inside = (k.interval[0][:, None] - 1e-12 <= v) & (v <= k.interval[1][:, None] + 1e-12)
            assert np.all(inside[np.isnan(k.slope)])
    y, start = values[graph.output].reshape((300, -1)), graph.forward(x[None]).ravel()
    row = difference(len(start), 0, 1)
    change = (y - start) @ row
    assert network.least_change(zonotope, row) <= np.min(change)

    claim, _ = region_gain(network, graph.digest, centre, region, Limits(tolerance=1e-4))
    assert region_gain_proved(network, x, claim)
    ratio = np.linalg.norm(y - graph.forward(others).reshape(y.shape), axis=1)
    ratio /= np.linalg.norm((near - others).reshape((300, -1)), axis=1)
    assert max(np.max(ratio), region_witness(graph, x, region)) <= claim.gains[-1].value * (1 + 1e-12)

    slopes = network.slopes(zonotope, from_centre=True)
    from_centre = LocalInequality(network, graph.digest, slopes).gain(row, Limits(tolerance=1e-4))
    distances = np.linalg.norm((near - x).reshape((300, -1)), axis=1)
    assert np.max(np.abs(change) / distances) <= from_centre.value * (1 + 1e-12)


@pytest.mark.parametrize("name", ["cnn_pool", "whole", "first", "sort2", "sort5"])
def test_local_constants_are_at_most_the_global_one_and_grow_with_the_region(name):
    graph = NETWORKS[name]
    everywhere = lipschitz(graph, limits=Limits(tolerance=1e-5), lower_bounds=False).upper
    network = LocalNetwork(graph)
    centre = network.centre(samples(graph, 1).inputs[0])
    found = []
    for radius in (1e-3, 0.3, 100.0):
        claim, _ = region_gain(network, graph.digest, centre, Region(RegionShape.BALL, radius), Limits(tolerance=1e-5))
        found.append(claim.gains[-1].value)
    assert all(a <= b * (1 + 1e-4) for a, b in zip(found, [*found[1:], everywhere], strict=True))


@pytest.mark.parametrize("name", ["cnn_pool", "overlapping", "whole", "first", "sort2", "sort5"])
def test_where_every_winner_is_known_the_rows_are_the_jacobian(name):
    graph = NETWORKS[name]
    network = LocalNetwork(graph)
    x = samples(graph, 1).inputs[0]
    centre = network.centre(x)
    slopes = network.slopes(network.zonotope(centre, Region(RegionShape.BALL, 1e-5)), from_centre=False)
    here = Linearisation(graph, x[None])
    unit = np.eye(x.size).reshape((x.size, 1, *x.shape))
    jacobian = np.stack([here.apply(e).ravel() for e in unit], axis=1)
    for rows in (network.plain, network.enclosed):
        found = restricted(rows, slopes)
        assert found.activations == ()
        output = found.output[0]
        np.testing.assert_allclose(getattr(output, "mid", output), jacobian, atol=1e-12)
    assert np.max(output.rad) < 1e-12


def maximum_of(rows, offsets):
    return sequential((rows.shape[1],), [Affine(rows, offsets), Reshape((1, len(rows))), MaxPool((len(rows),)),
                                         Flatten()], "max")


@pytest.mark.parametrize("radius", [0.05, 0.5, 5.0])
@pytest.mark.parametrize("count", [2, 3, 4, 7])
def test_a_maximum_of_linear_functions_has_the_constant_of_the_largest_that_can_win(count, radius):
    """Its gradient at any point is one of the rows, and on a segment a mean of some of them."""
    rng = np.random.default_rng(count)
    rows, offsets = rng.standard_normal((count, 3)), rng.standard_normal(count)
    graph, x = maximum_of(rows, offsets), rng.standard_normal(3)
    network = LocalNetwork(graph)
    claim, undecided = region_gain(network, graph.digest, network.centre(x), Region(RegionShape.BALL, radius),
                                   Limits(tolerance=1e-7))
    leads = (rows @ x + offsets)[:, None] - (rows @ x + offsets)
    reach = radius * np.linalg.norm(rows[:, None] - rows, axis=2)
    able = np.all(leads + reach >= 0, axis=1)
    norms = np.linalg.norm(rows, axis=1)
    assert region_gain_proved(network, x, claim)
    near = points(graph, x, Region(RegionShape.BALL, radius), 2000)
    winners = np.unique(np.argmax(near @ rows.T + offsets, axis=1))
    found = claim.gains[-1].value
    assert np.max(norms[winners]) <= found
    assert undecided == np.sum(able) - 1
    if np.sum(able) <= 3:
        assert found <= np.max(norms[able]) * (1 + 1e-5)
    # dz^2 <= sum_i dv_i^2 alone would give the norm of all that can win.
    assert found <= np.linalg.norm(rows[able], 2) * (1 + 1e-5)


def test_from_the_centre_a_maximum_gains_what_its_secants_do():
    """max(v, 0) for v in [-2, 4] and v = 1 at the centre: slopes from 1/3 to 1, but at v = -1 they begin at 0."""
    graph = sequential((1,), [Affine(np.array([[1.0], [0.0]])), Reshape((1, 2)), MaxPool((2,)), Flatten()], "max")
    network = LocalNetwork(graph)
    for x, least, most in ((1.0, 1 / 3, 1.0), (-1.0, 0.0, 2 / 3)):
        centre = network.centre(np.array([x]))
        zonotope = network.zonotope(centre, Region(RegionShape.BALL, 3.0))
        (lower, upper), = network.slopes(zonotope, from_centre=True)
        assert (lower[0], upper[0]) == pytest.approx((least, most), abs=1e-8)


def test_taps_that_never_win_are_not_read():
    """Beside a winner by far, two others that lead by turns leave nothing undecided that the output reads."""
    rows = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    graph = maximum_of(rows, np.array([0.0, 0.0, 9.0, -9.0]))
    network = LocalNetwork(graph)
    claim, undecided = region_gain(network, graph.digest, network.centre(np.zeros(3)), Region(RegionShape.BALL, 1.0),
                                   Limits())
    assert claim.gains[-1].value == pytest.approx(1.0, rel=1e-6)
    assert undecided == 0


def test_windows_too_large_to_compare_at_once_are_judged_alike(monkeypatch):
    network = LocalNetwork(NETWORKS["whole"])
    centre = network.centre(samples(NETWORKS["whole"], 1).inputs[0])
    found = []
    for pairs in (4096, 1):
        monkeypatch.setattr(contenders, "_TOGETHER", pairs)
        zonotope = network.zonotope(centre, Region(RegionShape.BALL, 0.2))
        found.append(network.slopes(zonotope, from_centre=True))
    open_ = [lower < upper for lower, upper in found[0]]
    assert any(map(np.any, open_))
    assert not all(map(np.all, open_))
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


@pytest.fixture(scope="module")
def claimed():
    graph = NETWORKS["overlapping"]
    network, x = LocalNetwork(graph), samples(graph, 1).inputs[0]
    claim, _ = region_gain(network, graph.digest, network.centre(x), Region(RegionShape.BALL, 0.3), Limits())
    return network, x, claim


@pytest.mark.parametrize("change", ["narrower", "other winner", "wider than all", "nan", "fewer", "swapped", "shorter"])
def test_slopes_of_comparisons_that_were_tampered_with_are_refused(claimed, change):
    network, x, claim = claimed
    assert region_gain_proved(network, x, claim)
    # The second neurons are the first round of the tournaments.
    lower, upper = claim.slopes[1]
    known = int(np.flatnonzero(lower == upper)[0])
    open_ = int(np.flatnonzero(lower < upper)[0])

    def changed(k, low, high):
        ends = lower.copy(), upper.copy()
        ends[0][k], ends[1][k] = low, high
        return (claim.slopes[0], ends, *claim.slopes[2:])

    slopes = {
        "narrower": changed(open_, 0.5, 1.0), "other winner": changed(known, 1 - lower[known], 1 - lower[known]),
        "wider than all": changed(known, -math.inf, math.inf), "nan": changed(open_, math.nan, 1.0),
        "fewer": claim.slopes[:-1], "swapped": (claim.slopes[0], (upper, lower), *claim.slopes[2:]),
        "shorter": (claim.slopes[0], (lower[1:], upper[1:]), *claim.slopes[2:]),
    }[change]
    assert not region_gain_proved(network, x, dataclasses.replace(claim, slopes=slopes))


@pytest.mark.parametrize("name", ["cnn_pool", "sort2"])
def test_radii_are_larger_than_global_ones_proved_from_their_file_and_out_of_reach_of_attacks(name, tmp_path):
    graph = NETWORKS[name]
    report = robustness(graph, samples(graph, 2, wrong=0.0), (0.1,), attack=Attack(steps=15, restarts=2), local=2,
                        region=Region(RegionShape.BOX, 0.1))
    assert np.all(report.radii > report.global_radii)
    assert np.all(report.radii < report.attacked)
    report.certificate.save(tmp_path / "c.json")
    verdict = check_robustness(load_robustness(tmp_path / "c.json"), graph)
    assert verdict.proved
    assert (verdict.samples, verdict.regions) == (2, 2)


@pytest.mark.parametrize(("layer", "name"), [
    (Softmax(), "Softmax"), (FixedPoint(Affine(0.1 * np.eye(4)), Relu()), "Fixed point")])
def test_layers_without_local_slopes_are_refused_by_name(layer, name):
    graph = sequential((4,), [Affine(np.eye(4)), layer, Affine(np.ones((2, 4)))])
    with pytest.raises(LocalError, match=name):
        robustness(graph, samples(graph, 2), (0.1,), local=1)
