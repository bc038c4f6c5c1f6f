"""A metric of channels, or of units for all stages: the blocks written out as matrices never exceed the proved rate."""

import dataclasses

import numpy as np
import pytest
import scipy.linalg
from netgain import layers
from netgain.layers.stable_block import Border, StableBlock
from netgain.solvers.stability.common_metric import _Problem
from netgain.verify.stability.block_symbols import kernel_of, torus
from netgain.verify.stability.common_metric import common_gain, gain_of, prove_common_rate, symbols_of
from netgain.verify.stability.common_metric_check import CommonStep, check_common_step
from netgain.verify.stability.conditions import SlopeBox
from netgain.verify.stability.facts import BlockFacts


def facts(seed, channels, taps, image, border, lower=0.2, stages=1, scale=0.3, input_taps=None):
    rng = np.random.default_rng(seed)
    states, middle = [], tuple(extent // 2 for extent in taps)
    for _ in range(stages):
        kernel = scale * rng.standard_normal((channels, channels, *taps)) / np.sqrt(channels * max(1, np.prod(taps)))
        kernel[(np.arange(channels), np.arange(channels), *middle)] -= 1
        states.append(kernel)
    inputs = tuple(rng.standard_normal((channels, 2, *(input_taps or taps))) for _ in range(stages))
    block = StableBlock(tuple(states), inputs, (), layers.LeakyRelu(lower), 0.8, max(stages, 4), border)
    return BlockFacts(block, (2, *image))


BANK = [
    facts(0, 2, (3,), (5,), Border.ZEROS),
    facts(1, 2, (3,), (5,), Border.CIRCULAR),
    facts(2, 2, (3, 3), (4, 3), Border.ZEROS, 0.3),
    facts(3, 1, (3, 5), (4, 5), Border.CIRCULAR, 0.3),
    facts(4, 3, (5,), (3,), Border.ZEROS, 0.5),  # taps that reach beyond the whole image
    facts(5, 2, (3,), (4,), Border.ZEROS, 0.4, stages=4, input_taps=(5,)),
    facts(6, 2, (3,), (4,), Border.CIRCULAR, 0.4, stages=4, input_taps=(1,)),
    facts(7, 5, (), (), Border.ZEROS, 0.3, stages=4),
]
FOUND = {}


def found_of(index):
    if index not in FOUND:
        FOUND[index] = prove_common_rate(BANK[index], 1e-4)
    return FOUND[index]


def norms(case, metric, box, tries, seed=0):
    """Norms of steps at random vertices, improved by flips that enlarge them."""
    rng, n = np.random.default_rng(seed), case.size
    root = np.kron(np.real(scipy.linalg.sqrtm(metric)), np.eye(n // len(metric)))
    inverse, found = np.linalg.inv(root), []

    def norm(d, a):
        return np.linalg.norm(root @ (np.eye(n) + box.step * d[:, None] * a) @ inverse, 2)

    for k in range(len(case.block.states)):
        a = case.block.matrices(case.input_shape, k)[0]
        for _ in range(tries):
            d = rng.choice((box.lower, box.upper), n)
            best = norm(d, a)
            for place in rng.permutation(n):
                flipped = d.copy()
                flipped[place] = box.lower + box.upper - d[place]
                if (there := norm(flipped, a)) > best:
                    d, best = flipped, there
            found.append(best)
    return found


@pytest.mark.parametrize("index", range(len(BANK)))
def test_no_slopes_reach_beyond_the_rate(index):
    """Every pixel and every stage with slopes of its own, on the matrices with their true borders."""
    case, step = BANK[index], found_of(index)
    reached = max(norms(case, step.metric, case.box, 4))
    assert reached <= step.rate * (1 + 1e-9)
    assert step.rate < 1
    assert reached > 0.8 * step.rate  # not so far apart that the comparison says nothing
    values = np.linalg.eigvalsh(step.metric)
    assert values[0] >= 1 - 1e-12
    assert values[-1] <= step.condition


@pytest.mark.parametrize("border", list(Border))
@pytest.mark.parametrize(("lower", "upper"), [(-0.3, 1.0), (0.0, 1.0), (-1.0, -0.4), (0.6, 0.6), (0.9, 1.7)])
@pytest.mark.parametrize("taps", [(3,), (5,)])
def test_other_slope_intervals_and_rates_above_one(border, lower, upper, taps):
    """Also where a step may expand: a proved rate bounds the matrices, and none is proved below what they reach."""
    case, box = facts(8, 2, taps, (4,), border), SlopeBox(0.8, lower, upper)
    symbols = 0.8 * symbols_of(case, case.block.states)
    problem = _Problem(symbols, lower, upper)
    rate = 1.05 * problem.below
    while (found := problem.metric_at(rate, np.inf)) is None:
        rate *= 1.05
    step = CommonStep(box, rate, float(np.linalg.eigvalsh(found.metric)[-1]) * 1.01, found.metric,
                      found.multipliers * 0.8**2)
    assert check_common_step(case, step)
    reached = max(norms(case, step.metric, box, 4))
    assert reached <= rate * (1 + 1e-9)
    rng = np.random.default_rng(0)
    for metric in (step.metric, np.eye(2), step.metric + 0.5 * np.diag(rng.uniform(size=2))):
        false = max(norms(case, metric, box, 2)) * (1 - 1e-6)
        for lam in (step.multipliers, np.exp(rng.normal(0, 1, step.multipliers.shape))):
            assert not check_common_step(case, dataclasses.replace(step, rate=false, condition=1e6, metric=metric,
                                                                   multipliers=lam))


@pytest.mark.parametrize("index", range(len(BANK)))
def test_gains_bound_trajectories_of_inputs_that_vary(index):
    case, step = BANK[index], found_of(index)
    block, rng = case.block, np.random.default_rng(index)
    gained = common_gain(case, step, block.depth)
    for _ in range(30):
        x = np.zeros((2, *block.state_shape(case.input_shape)))
        largest, shift = 0.0, rng.standard_normal(case.input_shape)
        base = 3 * rng.standard_normal(case.input_shape)
        for k in range(block.depth):
            other = base + (shift if rng.uniform() < 0.7 else rng.standard_normal(case.input_shape))
            largest = max(largest, np.linalg.norm(other - base))
            x = block.advance(x, np.stack([base, other]), k)
            assert np.linalg.norm(x[0] - x[1]) <= gain_of(gained, k + 1) * largest
    exact = np.linalg.norm(case.box.step * block.matrices(case.input_shape)[1], 2)
    assert gain_of(gained, block.depth) >= exact * case.block.slopes[1] * (1 - 1e-9)


def test_symbols_act_on_plane_waves_as_the_convolution_does():
    case = BANK[3]
    a, (rows, columns) = case.block.matrices(case.input_shape)[0], torus(case)
    values = np.linalg.eigvals(a)
    symbols = symbols_of(case, case.block.states)[0, :, 0, 0]
    both = np.concatenate([symbols, symbols.conj()])
    assert len(values) == rows * columns
    assert all(np.min(np.abs(both - value)) < 1e-10 for value in values)
    assert all(np.min(np.abs(values - value)) < 1e-10 for value in both)


def test_the_torus_around_an_image_of_zeros_has_room_for_all_taps():
    case = facts(0, 1, (5, 3), (4, 2), Border.ZEROS, input_taps=(1, 7))
    assert torus(case) == (6, 5)
    for weight, which in ((case.block.states[0], 0), (case.block.inputs[0], 1)):
        kernel = kernel_of(weight)
        source = weight.shape[1]
        full = np.zeros((1, 6, 5, source, 6, 5))
        for shift, taps in zip(kernel.shifts, kernel.coefficients, strict=True):
            for row in range(6):
                for column in range(5):
                    full[:, row, column, :, (row + shift[0]) % 6, (column + shift[1]) % 5] += taps
        inside = full[:, :4, :2, :, :4, :2].reshape(8, -1)
        assert np.array_equal(inside, case.block.matrices(case.input_shape)[which])


def test_claims_for_other_stages_or_with_other_data_are_refused():
    case, step = BANK[5], found_of(5)
    assert check_common_step(case, step)
    for change in ({"rate": 0.9 * step.rate}, {"condition": 1.0}, {"multipliers": step.multipliers[:3]},
                   {"multipliers": -step.multipliers}, {"multipliers": 0 * step.multipliers},
                   {"metric": step.metric * np.nan}, {"metric": step.metric + np.array([[0, 1e-9], [0, 0]])},
                   {"rate": -1.0}, {"supply": 0.0}, {"rate": np.nan}):
        assert not check_common_step(case, dataclasses.replace(step, **change))
    worse = tuple(1.8 * a if k == 3 else a for k, a in enumerate(case.block.states))
    other = BlockFacts(dataclasses.replace(case.block, states=worse), case.input_shape)
    assert not check_common_step(other, step)


def test_slopes_of_zero_are_refused_with_the_reason():
    with pytest.raises(ValueError, match="slope zero"):
        prove_common_rate(facts(0, 2, (3,), (5,), Border.ZEROS, 0.0))
