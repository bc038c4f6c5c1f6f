"""Certificates that should be refused, and why."""

import dataclasses
import functools
import itertools
import math

import numpy as np
import pytest
from flint import arb
from netgain.layers import Affine, Elu, Gelu, Relu, Scale, Sigmoid, Tanh, sequential
from netgain.verify import Certificate, Outcome, check, lipschitz
from netgain.verify.assembly import matrix_in_balls, matrix_in_double
from netgain.verify.balls import BALLS, precision
from netgain.verify.check import neuron_terms
from netgain.verify.constraints import ActivationRows, Rows, constraint_rows
from netgain.verify.positive_definite import proved_in_balls

from .small_networks import BANK, TINY


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@functools.cache
def certificate(name):
    return lipschitz(BANK[name], lower_bounds=False).certificate


def outcome(given, graph):
    return check(given, graph).outcome


def change(given, **changes):
    return dataclasses.replace(given, **changes)


def refused_by_both(given, graph):
    """Double precision and balls are asked separately, so that neither leans on the other."""
    verdict = check(given, graph)
    with precision(512):
        rows = constraint_rows(graph, BALLS)
        in_balls = proved_in_balls(matrix_in_balls(neuron_terms(given, rows)), len(rows.sizes))
    return verdict.outcome is Outcome.NOT_PROVED and not in_balls


def scalar(activation, first=1.0, last=1.0):
    return sequential((1,), [Affine([[first]]), activation, Affine([[last]])])


def by_hand(graph, value, multiplier, exponents, output_exponent=0):
    return Certificate(value, graph.digest, (np.array([multiplier]),), exponents, output_exponent, "by hand")


def test_the_outcome_says_which_arithmetic_proved_it():
    verdict = check(certificate("mlp_relu"), TINY["mlp_relu"])
    assert verdict.proved
    assert verdict.arithmetic == "double"
    assert verdict.seconds > 0
    assert check(certificate("mlp_relu"), TINY["mlp_tanh"]).arithmetic == ""


@pytest.mark.parametrize("name", BANK)
def test_a_lower_value_is_not_proved(name):
    given = certificate(name)
    if given.value == 0:
        return
    for factor in (1 - 1e-3, 0.5, 1e-300):
        assert outcome(change(given, value=given.value * factor), BANK[name]) is Outcome.NOT_PROVED
    assert outcome(change(given, value=0.0), BANK[name]) is Outcome.NOT_PROVED
    assert outcome(change(given, value=given.value * 1.001), BANK[name]) is Outcome.PROVED


TIGHT = ["mlp_relu", "mlp_abs", "mlp_gelu", "mlp_group_sort", "mlp_softmax", "residual_outer", "skips", "branches",
         "batch_norm_after", "divided", "huge"]


@pytest.mark.parametrize("name", TIGHT)
def test_one_changed_multiplier_spoils_a_tight_proof(name):
    graph, given = TINY[name], certificate(name)
    tight = change(given, value=_least_proved(given, graph))
    for k, array in enumerate(tight.multipliers):
        position = int(np.argmax(array))
        for factor in (0.0, 0.9, 1.1):
            other = array.copy()
            other[position] *= factor
            multipliers = tuple(other if k == at else lam for at, lam in enumerate(tight.multipliers))
            assert outcome(change(tight, multipliers=multipliers), graph) is Outcome.NOT_PROVED


def _least_proved(given, graph):
    low, high = given.value / 2, given.value
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if check(change(given, value=middle), graph).proved else (middle, high)
    return high


def test_a_certificate_belongs_to_one_network(rng):
    relu, weights = Relu(), (rng.standard_normal((2, 2)), rng.standard_normal((2, 2)), rng.standard_normal((1, 2)))

    def network(activations=(relu, relu), weights=weights):
        a, b, c = (Affine(weight) for weight in weights)
        return sequential((2,), [a, activations[0], b, activations[1], c])

    graph = network()
    given = lipschitz(graph, lower_bounds=False).certificate
    assert outcome(given, network()) is Outcome.PROVED
    nudged = weights[0].copy()
    nudged[0, 0] = np.nextafter(nudged[0, 0], 9)
    others = [
        network((relu, Tanh())),
        network((Gelu(), relu)),
        network(weights=(weights[1], weights[0], weights[2])),
        network(weights=(nudged, *weights[1:])),
        sequential((2,), [Scale(), *(graph.layer(node) for node in graph.order[1:-1])]),
    ]
    for other in others:
        assert outcome(given, other) is Outcome.OTHER_MODEL
        # Relabelled, the claim is judged for the other weights, and what holds for one does not for all.
    assert not check(change(given, digest=others[1].digest, value=_least_proved(given, graph)), others[1]).proved


def test_assigning_to_a_node_makes_another_network():
    """networkx hands out the nodes' attributes to write to, even of a frozen graph."""
    graph = scalar(Relu())
    given = lipschitz(graph, lower_bounds=False).certificate
    assert check(given, graph).proved
    node = next(node for node in graph.order if isinstance(graph.layer(node), Affine))
    graph.digraph.nodes[node]["layer"] = Affine([[5.0]])
    assert outcome(given, graph) is Outcome.OTHER_MODEL


EXTREME = (2**20 + 1, 10**9, -(10**9), 2**63, -(10**300))
MALFORMED = {
    "negative multiplier": {"multipliers": (-np.ones(2),)},
    "a slightly negative multiplier": {"multipliers": (np.array([1.0, -5e-324]),)},
    "nan multiplier": {"multipliers": (np.array([1.0, math.nan]),)},
    "infinite multiplier": {"multipliers": (np.array([1.0, math.inf]),)},
    "too few multipliers": {"multipliers": (np.ones(1),)},
    "too many multipliers": {"multipliers": (np.ones(3),)},
    "no multipliers": {"multipliers": ()},
    "too many layers": {"multipliers": (np.ones(2), np.ones(2))},
    "a matrix of multipliers": {"multipliers": (np.ones((2, 1)),)},
    "full multipliers": {"multipliers": (np.ones((2, 2)),)},
    "integers": {"multipliers": (np.ones(2, dtype=np.int64),)},
    "truth values": {"multipliers": (np.ones(2, dtype=bool),)},
    "objects": {"multipliers": (np.array([arb(1), arb(1)], dtype=object),)},
    "single precision": {"multipliers": (np.ones(2, dtype=np.float32),)},
    "complex": {"multipliers": (np.ones(2, dtype=complex),)},
    "negative value": {"value": -1.0},
    "nan value": {"value": math.nan},
    "infinite value": {"value": math.inf},
    "a value of integers": {"value": 10**400},
    "an exact value": {"value": arb(2)},
    "no exponents": {"exponents": ()},
    "too few exponents": {"exponents": (0,)},
    "too many exponents": {"exponents": (0, 0, 0)},
    "a fractional exponent": {"exponents": (0, 0.5)},
    "a floating-point exponent": {"exponents": (0, 1.0)},
    "an infinite exponent": {"exponents": (0, math.inf)},
    **{f"exponent {e:.0e}": {"exponents": (0, e)} for e in EXTREME},
    **{f"input exponent {e:.0e}": {"exponents": (e, 0)} for e in EXTREME},
    **{f"output exponent {e:.0e}": {"output_exponent": e} for e in (*EXTREME, 0.5)},
}


@pytest.mark.parametrize("changes", MALFORMED.values(), ids=MALFORMED)
def test_malformed_numbers_are_refused(changes):
    graph = TINY["step"]
    sound = Certificate(2.0, graph.digest, (np.full(2, 2.0),), (0, 0), 0, "by hand")
    assert check(sound, graph).proved
    assert outcome(change(sound, **changes), graph) is Outcome.MALFORMED


@pytest.mark.parametrize("exponent", [0, 300, 540, 1074, 1100, 5000, 2**20 - 1])
@pytest.mark.parametrize("signs", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (0, 1, 1), (1, -1, 1), (1, 1, 1)])
def test_units_alone_prove_nothing(signs, exponent):
    """The claim is in the network's units whatever coordinates the multipliers are given in, the input's too."""
    graph, (u, z, y) = TINY["step"], (sign * exponent for sign in signs)
    for sign in (1, -1):
        for value in (1e-3, 1 - 1e-9):
            for multiplier in (5e-324, 1e-200, 0.5, 1.0, 1e200, 1.7e308):
                for units in ((sign * u, sign * z), (sign * u, sign * z + 1)):
                    guess = Certificate(value, graph.digest, (np.full(2, multiplier),), units, sign * y, "by hand")
                    assert outcome(guess, graph) is Outcome.NOT_PROVED


@pytest.mark.parametrize("shift", [(1, 1, 1), (-7, -7, -7), (100, 100, 100), (-1000, -1000, -1000)])
def test_a_common_unit_changes_nothing(shift):
    given, graph = certificate("step"), TINY["step"]
    exponents = tuple(e + s for e, s in zip(given.exponents, shift, strict=False))
    moved = change(given, exponents=exponents, output_exponent=given.output_exponent + shift[-1])
    assert check(moved, graph).proved
    assert outcome(change(moved, value=1 - 1e-9), graph) is Outcome.NOT_PROVED


@pytest.mark.parametrize("exponent", [-1, -11, -1000])
def test_the_input_in_other_units_does_not_scale_the_bound_down(exponent):
    given, graph = certificate("mlp_relu"), TINY["mlp_relu"]
    exponents = (exponent, *given.exponents[1:])
    assert refused_by_both(change(given, exponents=exponents, value=given.value * 0.6), graph)


def test_a_coupling_that_underflows_is_not_taken_for_none():
    """sigmoid: lam / 4 is 0 in double precision, and without the coupling any value would do."""
    graph = scalar(Sigmoid())
    for exponent in (-400, -537, -560, -1000):
        for value in (1e-100, 1e-3, 0.2499):
            assert refused_by_both(by_hand(graph, value, 5e-324, (0, exponent)), graph)
    # Here no number is large, so that double precision is asked; 2^-537 squared is half of 2 lam.
    assert refused_by_both(by_hand(graph, 0.2, 5e-324, (0, -200), 337), graph)


def test_a_product_of_slopes_that_underflows_is_not_taken_for_zero():
    """Slopes +-1e-200 before a weight of 1e200: the constant is 1, all of it in the product of the slopes."""
    graph = sequential((1,), [Elu(a=-1.0, gain=1e-200), Affine([[1e200]])])
    assert graph.forward(np.array([[1.0]])) - graph.forward(np.array([[0.0]])) == 1.0
    for value in (1e-10, 0.5, 0.999):
        assert refused_by_both(by_hand(graph, value, 1.0, (0, -665)), graph)
    assert check(by_hand(graph, 4.0, 1.0, (0, -665)), graph).proved


def test_wide_balls_are_enclosed_with_every_choice_of_their_numbers(rng):
    """The maps of these rows are known to within 10 %; the radius covers M for whatever they are."""
    sizes, count = (2, 3, 2), 3
    lower, upper = [np.array([0.1, -0.5, 0.0]), np.array([-1.0, 0.3])], [np.ones(3), np.array([2.0, 0.9])]

    def balls(middle):
        return np.frompyfunc(lambda value: arb(float(value), abs(float(value)) / 10), 1, 1)(middle)

    def within(middle):
        return middle * np.where(rng.random(middle.shape) < rng.choice([0.0, 0.2, 0.5]), 0.9, 1.1)

    middles = {key: rng.standard_normal((sizes[key[0]], sizes[key[1]])) for key in ((1, 0), (2, 0), (2, 1))}
    ends = {j: rng.standard_normal((1, sizes[j])) for j in range(count)}
    rows = Rows(2, tuple(
        ActivationRows("", {j: balls(middles[k, j]) for j in range(k)}, lower[k - 1], upper[k - 1], 1) for k in (1, 2)
    ), {j: balls(c) for j, c in ends.items()})
    given = Certificate(1.3, "", (rng.uniform(0.5, 2, 3), rng.uniform(0.5, 2, 2)), (1, -2, 3), 1, "")
    middle, radius = matrix_in_double(neuron_terms(given, rows))
    starts, powers = np.cumsum([0, *sizes]), np.ldexp(1.0, np.repeat(given.exponents, sizes))
    unit, cut = np.eye(7), [slice(a, b) for a, b in itertools.pairwise(starts)]
    for _ in range(200):
        y = np.concatenate([within(ends[j]) for j in range(count)], axis=1) / 2.0**given.output_exponent
        matrix = -y.T @ y
        matrix[cut[0], cut[0]] += (1.3 / 2.0**given.output_exponent) ** 2 * np.eye(2)
        for k in (1, 2):
            read = [within(middles[k, j]) for j in range(k)]
            v = np.concatenate([*read, np.zeros((sizes[k], 7 - starts[k]))], axis=1)
            p, q = (unit[cut[k]] - end[k - 1][:, None] * v for end in (lower, upper))
            weights = (given.multipliers[k - 1] / 4.0 ** given.exponents[k])[:, None]
            matrix += p.T @ (weights * q) + q.T @ (weights * p)
        matrix = powers[:, None] * matrix * powers
        for i, j in middle:
            assert np.all(np.abs(middle[i, j] - matrix[cut[i], cut[j]]) <= radius[i, j] * (1 + 1e-9))


def test_numbers_beyond_the_range_of_double_precision_are_left_to_balls():
    given, graph = certificate("mlp_relu"), TINY["mlp_relu"]
    far = change(given, multipliers=tuple(lam * 2.0**300 for lam in given.multipliers),
                 exponents=tuple(e + (150 if k else 0) for k, e in enumerate(given.exponents)))
    with precision(128):
        assert matrix_in_double(neuron_terms(far, constraint_rows(graph, BALLS))) is None
    verdict = check(far, graph)
    assert verdict.proved
    assert verdict.arithmetic == "128 bits"
    assert not check(far, graph, balls=False).proved


def test_negative_zeros_are_zeros():
    graph = TINY["step"]
    assert outcome(by_hand_step(-0.0, 2.0), graph) is Outcome.NOT_PROVED
    assert outcome(by_hand_step(1.0, -0.0), graph) is Outcome.NOT_PROVED


def by_hand_step(multiplier, value):
    return Certificate(value, TINY["step"].digest, (np.full(2, multiplier),), (0, 0), 0, "by hand")


def test_a_constant_map_may_claim_anything():
    graph, given = TINY["zero_layer"], certificate("zero_layer")
    for value in (0.0, 5e-324, 1.0):
        assert check(change(given, value=value), graph).proved
    assert outcome(change(given, value=-1.0), graph) is Outcome.MALFORMED


@pytest.mark.parametrize("name", ["mlp_relu", "skips", "mlp_group_sort", "batch_norm_after"])
def test_no_multipliers_no_proof(name, rng):
    graph, given = TINY[name], certificate(name)
    for factor in (0.0, 1e-30, 1e30):
        assert not check(change(given, multipliers=tuple(factor * lam for lam in given.multipliers)), graph).proved


def test_balls_are_not_asked_about_what_is_clearly_false(monkeypatch):
    graph = sequential((4,), [Affine(np.eye(4)), Relu(), Affine(np.eye(4))])
    certificate = lipschitz(graph, lower_bounds=False).certificate

    def asked(*arguments):
        raise AssertionError("a claim that is clearly false takes minutes in balls")

    monkeypatch.setitem(neuron_terms.__globals__, "proved_in_balls", asked)
    low = dataclasses.replace(certificate, value=0.99 * certificate.value)
    assert check(low, graph).outcome is Outcome.NOT_PROVED
    with pytest.raises(AssertionError, match="minutes"):
        check(dataclasses.replace(certificate, value=certificate.value * (1 - 1e-9)), graph)
