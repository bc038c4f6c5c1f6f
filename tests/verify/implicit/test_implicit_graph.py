"""Implicit layers in graphs: bounds, certificates and witnesses; and certificates that must be refused."""

import dataclasses
import functools
from fractions import Fraction

import numpy as np
import pytest
from netgain.layers import Add, Affine, FixedPoint, GraphBuilder, LeakyRelu, Relu, Scale, Tanh, sequential
from netgain.verify import Certificate, Outcome, check, lipschitz, load_certificate
from netgain.verify.channelwise import ModeError
from netgain.verify.inspection import inspect
from netgain.verify.lower_bound import UndecidedError, prove_witness
from netgain.verify.mode import Mode

from ..exact_inequality import is_semidefinite


def stable(seed, n):
    rng = np.random.default_rng(seed)
    V, S = rng.standard_normal((n, n)), rng.standard_normal((n, n))
    return np.eye(n) - np.exp(rng.standard_normal(n) / 2)[:, None] * (V @ V.T / n + 0.5 * np.eye(n) + S - S.T)


def normal(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


def single(seed, activation, n=6):
    return sequential((3,), [Affine(normal(seed, n, 3), normal(seed, n)),
                             FixedPoint(Affine(stable(seed, n)), activation),
                             Affine(normal(seed + 1, 2, n))])


def mixed():
    """Two implicit layers, an explicit one, a normalisation and a skip."""
    builder = GraphBuilder()
    u = builder.input((3,))
    first = builder.add(FixedPoint(Affine(stable(1, 5)), Tanh()),
                        builder.add(Affine(normal(1, 5, 3)), builder.add(Scale(divisor=np.full(3, 0.3)), u)))
    explicit = builder.add(LeakyRelu(0.1), builder.add(Affine(normal(2, 4, 5)), first))
    fed = builder.add(Add((1, 1)), builder.add(Affine(normal(3, 4, 4)), explicit),
                      builder.add(Affine(normal(4, 4, 3)), u))
    second = builder.add(FixedPoint(Affine(stable(2, 4)), Relu()), fed)
    return builder.build(builder.add(Affine(normal(5, 2, 4)), second))


BANK = {"relu": single(0, Relu()), "tanh": single(1, Tanh()), "leaky": single(2, LeakyRelu(0.2)), "mixed": mixed()}


@functools.cache
def report(name):
    return lipschitz(BANK[name])


@pytest.mark.parametrize("name", BANK)
def test_the_bracket_is_proved_from_both_sides(name):
    found, graph = report(name), BANK[name]
    assert check(found.certificate, graph).proved
    assert 0 < found.lower <= found.upper <= found.norm_product * (1 + 1e-9)
    assert found.lower >= (0.3 if name == "mixed" else 0.7) * found.upper
    x, x_prime = found.witness.x, found.witness.x_prime
    change = np.linalg.norm(np.subtract(*graph.forward(np.stack([x, x_prime]))))
    assert found.lower == pytest.approx(change / np.linalg.norm(x - x_prime), rel=1e-6)


@pytest.mark.parametrize("name", BANK)
def test_certificates_survive_files_and_lower_claims_do_not(name, tmp_path):
    found = report(name).certificate
    found.save(tmp_path / "c.json")
    loaded = load_certificate(tmp_path / "c.json")
    assert check(loaded, BANK[name]).proved
    for factor in (1 - 1e-3, 0.5):
        lower = dataclasses.replace(loaded, value=loaded.value * factor)
        assert check(lower, BANK[name]).outcome is Outcome.NOT_PROVED


@pytest.mark.parametrize("name", BANK)
def test_without_a_proof_of_well_posedness_nothing_is_proved(name):
    found, graph = report(name).certificate, BANK[name]
    first, rest = found.loop_metrics[0], found.loop_metrics[1:]

    def outcome(*metrics):
        return check(dataclasses.replace(found, loop_metrics=metrics), graph).outcome

    assert outcome() is Outcome.MALFORMED
    assert outcome(first[:-1], *rest) is Outcome.MALFORMED
    assert outcome(-first, *rest) is Outcome.MALFORMED
    assert outcome(first * np.inf, *rest) is Outcome.MALFORMED
    assert outcome(0 * first, *rest) is Outcome.NOT_WELL_POSED
    assert outcome(np.eye(len(first))[0], *rest) is Outcome.NOT_WELL_POSED
    assert outcome(2.0**40 * first, *rest) is Outcome.PROVED


@pytest.mark.parametrize("name", ["relu", "tanh", "leaky"])
def test_certificates_in_rational_numbers(name):
    """M and H straight from their definitions, for x = s(A x + v), v = B u, y = C x."""
    graph, given = BANK[name], report(name).certificate
    exact = np.frompyfunc(Fraction, 1, 1)
    B, A, C = (exact(layer.weight) for layer in (graph.layer("affine"), graph.layer("fixedpoint").recurrence,
                                                 graph.layer("affine_2")))
    interval = graph.layer("fixedpoint").activation.slopes((len(A),))
    low, high = Fraction(interval.lower), Fraction(interval.upper)
    n, m = B.shape

    def coupled(metric, rows):
        p = np.hstack([np.zeros((n, rows.shape[1] - n), dtype=int), np.eye(n, dtype=int)])
        left, right = p - low * rows, p - high * rows
        return left.T @ (metric[:, None] * right) + right.T @ (metric[:, None] * left)

    multipliers = exact(given.multipliers[0]) * Fraction(2) ** (2 * (given.output_exponent - given.exponents[1]))
    M = coupled(multipliers, np.hstack([B, A]))
    M[:m, :m] += Fraction(given.value) ** 2 * np.eye(m, dtype=int)
    M[m:, m:] -= C.T @ C
    assert is_semidefinite(M)
    H = coupled(exact(given.loop_metrics[0]), A)
    assert is_semidefinite(H - Fraction(1, 10**9) * np.eye(n, dtype=int))


@pytest.mark.parametrize("A", [[[2.0]], [[1.0]], [[0.0, 1.0], [1.0, 0.0]]])
def test_a_constant_network_without_solutions_is_refused(A):
    """y = 0 x: the inequality holds with value 0, but x = max(A x + u, 0) has no solution, or many."""
    n = len(A)
    graph = sequential((n,), [FixedPoint(Affine(A), Relu()), Affine(np.zeros((1, n)))])
    for metric in (np.ones(n), np.full(n, 1e-300), np.full(n, 1e300)):
        for value in (0.0, 1.0):
            claim = Certificate(value, graph.digest, (np.ones(n),), (0, 0), 0, "by hand", loop_metrics=(metric,))
            assert check(claim, graph).outcome is Outcome.NOT_WELL_POSED
    found = lipschitz(graph)
    assert not found.proved
    assert found.upper == np.inf
    assert "not proved well-posed" in found.notes[0]


def test_a_layer_that_no_input_reaches_has_to_be_well_posed():
    fine, wrong = (sequential((2,), [Affine(np.zeros((1, 2)), np.ones(1)), FixedPoint(Affine([[a]]), Relu())])
                   for a in (0.5, 2.0))
    assert lipschitz(fine).upper < 1e-100
    assert not lipschitz(wrong).proved


def test_metrics_are_needed_for_witnesses():
    graph, found = BANK["relu"], report("relu")
    pair = found.witness.x, found.witness.x_prime
    metrics = {"fixedpoint": found.certificate.loop_metrics[0]}
    assert prove_witness(graph, *pair, metrics) == found.lower
    for given in ({}, {"fixedpoint": 0 * metrics["fixedpoint"]}):
        with pytest.raises(UndecidedError, match="well-posed"):
            prove_witness(graph, *pair, given)


@pytest.mark.parametrize("mode", [Mode.SPECTRAL, Mode.ROESSER])
def test_other_modes_say_that_they_are_not_for_implicit_layers(mode):
    with pytest.raises(ModeError, match="Implicit layers"):
        lipschitz(BANK["relu"], mode=mode)


def test_inspection_shows_why_there_is_no_bound():
    wrong = sequential((1,), [FixedPoint(Affine([[2.0]]), Relu())])
    assert "not proved well-posed" in inspect(wrong).predictions[0].obstacle
    assert inspect(BANK["mixed"]).predictions[0].multipliers == 13
