"""Neurons, gains and radii on regions: enclosed, never above the global ones, exact where that is known."""

import dataclasses
import math

import numpy as np
import pytest
from netgain.layers import Affine, GraphBuilder, Relu, Tanh, sequential
from netgain.layers.differential import Linearisation
from netgain.layers.linear import Add
from netgain.solvers.closed_form import ClosedForm
from netgain.solvers.result import Limits, Status
from netgain.verify import lipschitz
from netgain.verify.robustness import local_bound
from netgain.verify.robustness.attack import Attack
from netgain.verify.robustness.certificate import load_robustness
from netgain.verify.robustness.check import Finding, check_robustness
from netgain.verify.robustness.local_bound import LocalInequality, RadiusSearch, region_gain
from netgain.verify.robustness.local_check import gain_proved, radius_proved, region_gain_proved
from netgain.verify.robustness.local_rows import condensed, projected, restricted
from netgain.verify.robustness.margins import margins
from netgain.verify.robustness.outputs import difference
from netgain.verify.robustness.region import LocalNetwork, Region, RegionShape
from netgain.verify.robustness.region_witness import region_witness
from netgain.verify.robustness.report import robustness

from .classifiers import CLASSIFIERS, perceptron, random_affine
from .test_robustness import samples


def residual():
    rng = np.random.default_rng(3)
    builder = GraphBuilder()
    start = builder.add(random_affine(rng, 6, 4), builder.input((4,)))
    inner = builder.add(random_affine(rng, 6, 6), builder.add(Relu(), start))
    joined = builder.add(Tanh(), builder.add(Add((1, 1)), start, inner))
    return builder.build(builder.add(random_affine(rng, 3, 6), joined), "residual")


LOCAL = {name: CLASSIFIERS[name] for name in ("relu", "deep", "tanh", "abs", "leaky", "softplus", "linear", "cnn")}
LOCAL |= {"residual": residual(), "wide_input": perceptron((30, 6, 6, 3), seed=4)}
REGIONS = [Region(RegionShape.BALL, 0.05), Region(RegionShape.BALL, 1.0), Region(RegionShape.BOX, 0.1)]


def points(graph, x, region, count, seed=0):
    """Random points of the region, many at its border."""
    rng = np.random.default_rng(seed)
    du = rng.standard_normal((count, *x.shape))
    axes = tuple(range(1, du.ndim))
    norm = np.sqrt(np.sum(du**2, axis=axes, keepdims=True)) if region.shape is RegionShape.BALL else \
        np.max(np.abs(du), axis=axes, keepdims=True)
    reach = rng.uniform(size=(count, *(1,) * x.ndim)) ** 0.2
    return x + region.radius * reach * du / norm


@pytest.mark.parametrize("region", REGIONS, ids=str)
@pytest.mark.parametrize("name", LOCAL)
def test_neurons_gains_and_changes_are_enclosed_on_regions(name, region):
    graph = LOCAL[name]
    network = LocalNetwork(graph)
    x = samples(graph, 1).inputs[0]
    centre = network.centre(x)
    zonotope = network.zonotope(centre, region)
    near = points(graph, x, region, 600)
    values = graph.values(near)
    for layer, known in zip(network.plain.layers, zonotope.known, strict=True):
        low, high = known.interval
        v = values[graph.inputs(layer.node)[0]].reshape((len(near), -1))
        assert np.all((low <= v) & (v <= high))
    y, start = values[graph.output].reshape((len(near), -1)), graph.forward(x[None]).ravel()
    row = difference(len(start), 0, 1)
    change = (y - start) @ row
    assert network.least_change(zonotope, row) <= np.min(change)

    claim, unstable = region_gain(network, graph.digest, centre, region, Limits(tolerance=1e-4))
    assert region_gain_proved(network, x, claim)
    assert unstable <= sum(map(len, network.neurons))
    others = points(graph, x, region, 600, seed=1)
    ratio = np.linalg.norm(y - graph.forward(others).reshape(y.shape), axis=1)
    ratio /= np.linalg.norm((near - others).reshape((len(near), -1)), axis=1)
    witness = region_witness(graph, x, region)
    assert max(np.max(ratio), witness) <= claim.gains[-1].value * (1 + 1e-12)
    # The search finds more than chance does, or as much.
    assert witness >= 0.9 * np.max(ratio)

    slopes = network.slopes(zonotope, from_centre=True)
    from_centre = LocalInequality(network, graph.digest, slopes).gain(row, Limits(tolerance=1e-4))
    distances = np.linalg.norm((near - x).reshape((len(near), -1)), axis=1)
    assert np.max(np.abs(change) / distances) <= from_centre.value * (1 + 1e-12)


@pytest.mark.parametrize("name", LOCAL)
def test_local_constants_are_at_most_the_global_one_and_grow_with_the_region(name):
    graph = LOCAL[name]
    everywhere = lipschitz(graph, limits=Limits(tolerance=1e-6), lower_bounds=False).upper
    network = LocalNetwork(graph)
    centre = network.centre(samples(graph, 1).inputs[0])
    found = []
    for radius in (0.01, 0.1, 1.0, 100.0):
        claim, _ = region_gain(network, graph.digest, centre, Region(RegionShape.BALL, radius), Limits(tolerance=1e-6))
        found.append(claim.gains[-1].value)
    assert all(a <= b * (1 + 1e-5) for a, b in zip(found, [*found[1:], everywhere], strict=True))


def test_where_all_neurons_are_decided_the_constant_is_that_of_the_linear_map():
    graph = CLASSIFIERS["relu"]
    network = LocalNetwork(graph)
    x = np.array([0.7, -0.4])
    claim, unstable = region_gain(network, graph.digest, network.centre(x), Region(RegionShape.BALL, 1e-4), Limits())
    assert unstable == 0
    here = Linearisation(graph, x[None])
    jacobian = np.stack([here.apply(e[None])[0] for e in np.eye(2)], axis=1)
    assert claim.gains[-1].value == pytest.approx(np.linalg.norm(jacobian, 2), rel=1e-6)


@pytest.mark.parametrize(("x", "radius", "exact"), [
    (3.0, 1.0, 0.0), (0.0, 0.5, 1.0), (0.9, 0.05, 1.0), (-5.0, 3.0, 0.0)])
def test_hat_functions_have_the_constants_of_their_pieces(x, radius, exact):
    """relu(x + 1) - relu(x - 1): 1 between -1 and 1, 0 outside."""
    graph = sequential((1,), [Affine(np.array([[1.0], [1.0]]), np.array([1.0, -1.0])), Relu(),
                              Affine(np.array([[1.0, -1.0]]))])
    network = LocalNetwork(graph)
    region = Region(RegionShape.BALL, radius)
    claim, _ = region_gain(network, graph.digest, network.centre(np.array([x])), region, Limits())
    assert claim.gains[-1].value == pytest.approx(exact, abs=1e-7)
    assert region_witness(graph, np.array([x]), region) == pytest.approx(exact, rel=1e-6, abs=1e-12)


def test_secants_of_one_neuron_are_its_gain_from_the_centre():
    graph = sequential((1,), [Affine(np.ones((1, 1))), Relu(), Affine(np.ones((1, 1)))])
    network = LocalNetwork(graph)
    centre = network.centre(np.array([-1.0]))
    zonotope = network.zonotope(centre, Region(RegionShape.BALL, 3.0))
    slopes = network.slopes(zonotope, from_centre=True)
    gain = LocalInequality(network, graph.digest, slopes).gain(np.ones(1), Limits())
    # relu(2) - relu(-1) over 3.
    assert gain.value == pytest.approx(2 / 3, rel=1e-6)


def test_neurons_that_only_rounding_leaves_undecided_are_solved_for():
    """On [0, 2], relu is linear, but no interval that is rounded outwards says so."""
    graph = sequential((1,), [Affine(np.ones((1, 1))), Relu(), Affine(np.ones((1, 1)))])
    network = LocalNetwork(graph)
    zonotope = network.zonotope(network.centre(np.ones(1)), Region(RegionShape.BALL, 1.0))
    (lower, upper), = network.slopes(zonotope, from_centre=True)
    assert 0 < upper[0] - lower[0] < 1e-8
    slopes = network.slopes(zonotope, from_centre=True, slack=1e-15)
    assert LocalInequality(network, graph.digest, slopes).gain(np.ones(1), Limits()).value == pytest.approx(1, rel=1e-5)


def test_stable_neurons_leave_the_rows_the_same_map():
    graph = residual()
    network = LocalNetwork(graph)
    centre = network.centre(np.array([0.3, -0.5, 1.0, 0.1]))
    zonotope = network.zonotope(centre, Region(RegionShape.BALL, 0.2))
    slopes = network.slopes(zonotope, from_centre=False)
    fewer, full = (restricted(rows, slopes) for rows in (network.plain, network.enclosed))
    before = list(map(len, network.neurons))
    assert sum(len(rows.lower) for rows in fewer.activations) < sum(before)
    rng = np.random.default_rng(0)
    u, picks = rng.standard_normal(4), [rng.uniform(low, high) for low, high in slopes]

    def through(rows, layers, chosen):
        blocks = [u]
        for layer, slope in zip(layers, chosen, strict=True):
            v = sum(a @ blocks[j] for j, a in layer.maps.items())
            blocks.append(slope * v)
        return sum(c @ blocks[j] for j, c in rows.output.items())

    free = [np.flatnonzero(low < high) for low, high in slopes]
    chosen = [pick[index] for pick, index in zip(picks, free, strict=True) if len(index)]
    np.testing.assert_allclose(through(fewer, fewer.activations, chosen),
                               through(network.plain, network.plain.layers, picks), rtol=1e-12)
    for plain, enclosed in zip(fewer.activations, full.activations, strict=True):
        for j, a in plain.maps.items():
            assert np.all(np.abs(a - enclosed.maps[j].mid) <= enclosed.maps[j].rad + 1e-14)


def test_fewer_inputs_prove_the_same_bound():
    graph = LOCAL["wide_input"]
    network = LocalNetwork(graph)
    centre = network.centre(np.zeros(30))
    slopes = network.slopes(network.zonotope(centre, Region(RegionShape.BALL, 1.0)), from_centre=False)
    rows = projected(restricted(network.enclosed, slopes), difference(3, 0, 2))
    fewer = condensed(rows)
    assert fewer.input_size <= 7 < rows.input_size
    stack, short = (np.concatenate([layer.maps[0].mid for layer in r.activations if 0 in layer.maps])
                    for r in (rows, fewer))
    difference_of_grams = short @ short.T - stack @ stack.T
    assert np.linalg.eigvalsh(difference_of_grams)[0] >= 0
    np.testing.assert_allclose(short @ short.T, stack @ stack.T, atol=1e-9)


@pytest.mark.parametrize("name", ["relu", "tanh", "residual", pytest.param("cnn", marks=pytest.mark.slow)])
def test_local_radii_are_larger_than_global_ones_and_out_of_reach_of_attacks(name):
    graph = LOCAL[name]
    report = robustness(graph, samples(graph, 2, wrong=0.0), (0.1, 0.4), attack=Attack(steps=15, restarts=2), local=2)
    assert report.searched == 2
    assert np.all(report.radii >= report.global_radii)
    assert np.median(report.radii / report.global_radii) > 1.02
    assert np.all(report.radii < report.attacked)
    for point in report.curve:
        assert point.certified_globally <= point.certified <= point.attacked
    assert check_robustness(report.certificate, graph).proved


def test_no_point_of_a_grid_within_a_local_radius_is_of_another_class():
    graph = CLASSIFIERS["relu"]
    network, given = LocalNetwork(graph), samples(graph, 4, wrong=0.0, seed=5)
    lead = margins(graph, given.inputs)
    angles = np.linspace(0, 2 * math.pi, 360, endpoint=False)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    ratios = []
    for x, p, row in zip(given.inputs, lead.predicted, lead.values, strict=True):
        found = RadiusSearch(evaluations=10).find(network, graph.digest, x, int(p), row, 1e-2, math.inf)
        reach = [s for s in np.linspace(0, 8, 800)[1:]
                 if np.any(np.argmax(graph.forward(x + s * circle), axis=1) != p)]
        exact = reach[0] if reach else math.inf
        assert found.radius <= exact
        ratios.append(found.radius / exact)
        assert found.claim is None or radius_proved(network, x, int(p), row, found.claim, found.radius)
    assert max(ratios) > 0.5


@pytest.mark.parametrize("name", ["relu", "tanh", "cnn"])
def test_few_radii_come_close_to_the_best_of_many(name):
    graph = CLASSIFIERS[name]
    network, given = LocalNetwork(graph), samples(graph, 3, wrong=0.0, seed=2)
    lead = margins(graph, given.inputs)
    scale = float(np.linalg.norm(given.inputs[0]))
    for x, p, row in zip(given.inputs, lead.predicted, lead.values, strict=True):
        search, centre = RadiusSearch(), network.centre(x)
        many = [search._tried(network, graph.digest, centre, int(p), row, float(r), 0.0)
                for r in np.geomspace(1e-2 * scale, 10 * scale, 24)]
        best = max(reach for reach, claim in many if claim is not None)
        for known, most in ((best / 3, 3 * best), (best / 2, math.inf), (best / 1.1, 1.5 * best)):
            found = search.find(network, graph.digest, x, int(p), row, known, most)
            assert found.radius >= 0.95 * best
            assert found.claim is None or radius_proved(network, x, int(p), row, found.claim, found.radius)


@pytest.fixture(scope="module")
def reported():
    graph = perceptron((4, 10, 10, 4), seed=7)
    report = robustness(graph, samples(graph, 3, wrong=0.0), (0.1,), attack=Attack(steps=5, restarts=1), local=3,
                        region=Region(RegionShape.BOX, 0.3))
    return graph, report.certificate


def _changed(certificate, **changes):
    """The first sample that has a claim of its own ball with gains, its claim changed."""
    k, claim = next((k, c) for k, c in enumerate(certificate.samples) if c.local is not None and c.local.gains)
    own = dataclasses.replace(claim, local=dataclasses.replace(claim.local, **changes))
    return dataclasses.replace(certificate, samples=(*certificate.samples[:k], own, *certificate.samples[k + 1:]))


def _local_mutations(c):
    local = next(s.local for s in c.samples if s.local is not None and s.local.gains)
    j, gain = next(iter(local.gains.items()))
    lower, upper = local.slopes[0]
    narrow = ((np.minimum(lower + 0.5, upper), upper), *local.slopes[1:])
    around = c.regions[0]

    def region(**changes):
        own = dataclasses.replace(around.local, **changes)
        return dataclasses.replace(c, regions=(dataclasses.replace(around, local=own), *c.regions[1:]))

    whole = around.local.gains[-1]
    radius, constant = Finding.RADIUS_NOT_PROVED, Finding.REGION_NOT_PROVED
    return {
        "larger ball": (_changed(c, region=Region(RegionShape.BALL, 10 * local.region.radius)), radius),
        "smaller ball": (_changed(c, region=Region(RegionShape.BALL, 0.1 * local.region.radius)), radius),
        "infinite ball": (_changed(c, region=Region(RegionShape.BALL, 1e308)), radius),
        "narrower slopes": (_changed(c, slopes=narrow), radius),
        "slopes left out": (_changed(c, slopes=local.slopes[1:]), radius),
        "slopes of nan": (_changed(c, slopes=((lower * math.nan, upper), *local.slopes[1:])), radius),
        "between points": (_changed(c, from_centre=False), radius),
        "gain": (_changed(c, gains={**local.gains, j: dataclasses.replace(gain, value=gain.value * 0.9)}), radius),
        "gain left out": (_changed(c, gains={}), radius),
        "negative multipliers": (_changed(c, gains={**local.gains, j: dataclasses.replace(
            gain, multipliers=tuple(-lam for lam in gain.multipliers))}), radius),
        "region's gain": (region(gains={-1: dataclasses.replace(whole, value=whole.value * 0.9)}), constant),
        "region's radius": (region(region=Region(RegionShape.BOX, 3.0)), constant),
        "region from centre": (region(from_centre=True), constant),
        "region without gain": (region(gains={}), constant),
    }


@pytest.mark.parametrize("name", [
    "larger ball", "smaller ball", "infinite ball", "narrower slopes", "slopes left out", "slopes of nan",
    "between points", "gain", "gain left out", "negative multipliers", "region's gain", "region's radius",
    "region from centre", "region without gain"])
def test_local_claims_that_were_tampered_with_are_refused(reported, name):
    graph, certificate = reported
    changed, expected = _local_mutations(certificate)[name]
    assert check_robustness(changed, graph).finding is expected


def test_local_claims_survive_their_file(reported, tmp_path):
    graph, certificate = reported
    assert len(certificate.regions) == 3
    certificate.save(tmp_path / "c.json")
    again = load_robustness(tmp_path / "c.json")
    assert again.to_json() == certificate.to_json()
    verdict = check_robustness(again, graph)
    assert verdict.proved
    assert (verdict.samples, verdict.regions) == (3, 3)


def test_gains_of_other_rows_are_refused():
    graph = perceptron((4, 10, 10, 4), seed=7)
    network = LocalNetwork(graph)
    centre = network.centre(np.ones(4))
    slopes = network.slopes(network.zonotope(centre, Region(RegionShape.BALL, 1.0)), from_centre=True)
    rows = restricted(network.enclosed, slopes)
    problem = LocalInequality(network, graph.digest, slopes)
    gains = {j: problem.gain(difference(4, 0, j), Limits(tolerance=1e-6)) for j in (1, 2)}
    assert all(gain_proved(rows, difference(4, 0, j), gain) for j, gain in gains.items())
    larger = max(gains, key=lambda j: gains[j].value)
    other = gains[3 - larger]
    assert not gain_proved(rows, difference(4, 0, larger), dataclasses.replace(other, value=0.5 * other.value))
    assert not gain_proved(rows, None, gains[1])


class _Interrupted:
    """Ctrl-C during a solve, which solvers turn into a status."""

    def solve(self, scaled, limits, on_progress=None):
        return dataclasses.replace(ClosedForm().solve(scaled, limits), status=Status.INTERRUPTED)


def test_after_an_interruption_nothing_more_is_tried(monkeypatch):
    graph = CLASSIFIERS["relu"]
    monkeypatch.setattr(local_bound, "_solver", lambda scaled: _Interrupted())
    report = robustness(graph, samples(graph, 4, wrong=0.0), (0.1,), attack=Attack(steps=5, restarts=1), local=4,
                        region=Region(RegionShape.BALL, 0.5))
    assert report.interrupted
    assert report.searched < 4
    assert report.regions == ()
    assert check_robustness(report.certificate, graph).proved
