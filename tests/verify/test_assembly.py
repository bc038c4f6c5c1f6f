"""M in double precision with a metric and stacks of maps: the radius covers what exact arithmetic finds."""

import dataclasses
from fractions import Fraction

import numpy as np
import pytest
from flint import arb
from netgain.verify.assembly import Terms, matrix_in_balls, matrix_in_double
from netgain.verify.balls import precision
from netgain.verify.constraints import ActivationRows, Rows
from netgain.verify.enclosure import Enclosure

STACK, INPUT, ANSWERS, OUTPUTS = 3, 2, 5, 12


def rational(matrix: np.ndarray) -> np.ndarray:
    return np.frompyfunc(Fraction, 1, 1)(matrix)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def terms_of(rng: np.random.Generator, width: float, start: bool) -> Terms:
    """One layer of eight rows, five of them with an answer; slopes of both signs; maps off by up to `width`."""

    def maps(rows: int, columns: int) -> Enclosure:
        mid = rng.standard_normal((STACK, rows, columns))
        return Enclosure(mid, np.abs(mid) * width)

    root = rng.standard_normal((OUTPUTS, OUTPUTS))
    layer = ActivationRows("", {0: maps(8, INPUT)}, rng.uniform(-1, -0.1, 8), rng.uniform(0.1, 1, 8), 1,
                           np.array([0, 2, 3, 6, 7]))
    first = np.diag(rng.uniform(1, 2, INPUT)) if start else (1.3, -1)
    return Terms(Rows(INPUT, (layer,), {j: maps(OUTPUTS, size) for j, size in enumerate((INPUT, ANSWERS))}),
                 (rng.uniform(0.5, 2, 8),), (1, -2), 1, first, root + root.T)


def exact(terms: Terms, at: int, sign: np.ndarray | float) -> np.ndarray:
    """M in rational arithmetic, in place of each map one at the end of its radius."""
    power = [Fraction(2) ** e for e in terms.exponents]

    def chosen(a: Enclosure) -> np.ndarray:
        return rational(a.mid[at]) + rational(np.broadcast_to(sign, a.mid[at].shape)) * rational(a.rad[at])

    (layer,), o = terms.rows.activations, Fraction(2) ** terms.output_exponent
    v = np.concatenate([chosen(layer.maps[0]) * power[0] / power[1], rational(np.zeros((8, ANSWERS)))], axis=1)
    z = rational(np.zeros((8, INPUT + ANSWERS)))
    z[layer.kept, INPUT + np.arange(ANSWERS)] = Fraction(1)
    p, q = (z - rational(end)[:, None] * v for end in (layer.lower, layer.upper))
    y = np.concatenate([chosen(terms.rows.output[j]) * power[j] / o for j in range(2)], axis=1)
    lam = rational(terms.multipliers[0])[:, None]
    result = p.T @ (lam * q) + q.T @ (lam * p) - y.T @ rational(terms.metric) @ y
    if isinstance(terms.start, tuple):
        first = rational(np.eye(INPUT)) * (Fraction(terms.start[0]) * Fraction(2) ** terms.start[1]) ** 2
    else:
        first = rational(terms.start)
    result[:INPUT, :INPUT] = result[:INPUT, :INPUT] + first
    return result


@pytest.mark.parametrize("start", [False, True])
@pytest.mark.parametrize("width", [0.0, 1e-15, 0.1])
def test_the_radius_covers_every_member_of_a_stack(width: float, start: bool, rng: np.random.Generator) -> None:
    cut = (slice(0, INPUT), slice(INPUT, None))
    beyond = 0
    for _ in range(6):
        terms = terms_of(rng, width, start)
        middle, radius = matrix_in_double(terms)
        for at in range(STACK):
            expected = exact(terms, at, rng.choice([-1.0, 1.0]))
            for i, j in middle:
                far = np.abs(rational(np.broadcast_to(middle[i, j], (STACK, *expected[cut[i], cut[j]].shape))[at])
                             - expected[cut[i], cut[j]])
                bound = np.broadcast_to(radius[i, j], (STACK, *far.shape))[at]
                assert np.all(far <= rational(bound) * (1 + Fraction(1, 10**9)))
                beyond += np.count_nonzero(far > 2.0**-53 * np.abs(expected[cut[i], cut[j]]))
                if width < 0.1:
                    assert np.all(bound <= 1e-10)
    assert beyond > 10


@pytest.mark.parametrize("start", [False, True])
def test_balls_hold_the_same_matrix(start: bool, rng: np.random.Generator) -> None:
    terms = terms_of(rng, 0.0, start)
    expected, cut = exact(terms, 0, 0.0), (slice(0, INPUT), slice(INPUT, None))
    rows = terms.rows
    layers = tuple(dataclasses.replace(r, maps={j: a.mid[0] for j, a in r.maps.items()}) for r in rows.activations)
    one = dataclasses.replace(terms, rows=Rows(INPUT, layers, {j: c.mid[0] for j, c in rows.output.items()}))
    with precision(128):
        for (i, j), block in matrix_in_balls(one).items():
            for ball, value in zip(block.entries(), expected[cut[i], cut[j]].ravel(), strict=True):
                assert (ball * value.denominator).contains(arb(value.numerator))
                assert ball.rad() < 1e-30


@pytest.mark.parametrize("huge", ["metric", "start"])
def test_metrics_beyond_the_range_of_double_precision_are_left_to_balls(huge: str, rng: np.random.Generator) -> None:
    terms = terms_of(rng, 0.0, start=True)
    assert matrix_in_double(terms) is not None
    assert matrix_in_double(dataclasses.replace(terms, **{huge: getattr(terms, huge) * 2.0**201})) is None
