import dataclasses
import math

import numpy as np
import pytest
from netgain.solvers.contractivity.exact_lower_slope import exact_lower_slope
from netgain.solvers.contractivity.logarithmic_norm import SlopeField
from netgain.solvers.contractivity.sdp import least_lower_slope, upper_bound
from netgain.solvers.contractivity.slope_branch_and_bound import SlopeBranchAndBound
from netgain.solvers.result import Limits
from netgain.verify.contractivity import check as contractivity_check
from netgain.verify.contractivity.check import Decision, LogNormClaim, LogNormProof, Symmetries, check_log_norm
from netgain.verify.contractivity.proof import all_boxes, log_norm_claim, one_box, prove_log_norm, prove_lower_slope

A3 = np.array([[-1, 2, 0], [0, -1, 1.5], [-1, 0, -0.5]])


def circulant(n):
    row = np.zeros(n)
    row[[0, 1, 2, -1]] = -1, 0.8, 0.4, -0.6
    return np.array([np.roll(row, i) for i in range(n)])


def field_of(seed):
    """Square, with linear part, and of general shape, in turn."""
    rng = np.random.default_rng(seed)
    n, k = int(rng.integers(1, 7)), int(rng.integers(1, 7))
    weights = rng.standard_normal((n, n)) / np.sqrt(n)
    lower = float(rng.choice([-0.2, 0, 0.1, 0.7]))
    if seed % 3 == 0:
        return SlopeField(weights - np.eye(n), lower)
    if seed % 3 == 1:
        return SlopeField(weights, lower, 1.1, linear=rng.standard_normal((n, n)) - np.eye(n))
    return SlopeField(rng.standard_normal((k, n)), lower, 1.0, rng.standard_normal((n, k)) / 2, -np.eye(n))


def worst(field):
    """The largest logarithmic norm over all vertices."""
    patterns = (np.arange(2**field.neurons)[:, None] >> np.arange(field.neurons)) & 1
    return np.linalg.eigvalsh(field.symmetric(np.where(patterns, field.upper, field.lower)))[:, -1].max()


@pytest.mark.parametrize("seed", range(60))
def test_bounds_of_the_solvers_are_proved_and_true(seed):
    field = field_of(seed)
    bound = upper_bound(field)
    proved = prove_log_norm(field, one_box(field, bound.multipliers), bound.value)
    assert proved is not None
    assert proved.claim.level <= bound.value + 1e-9
    assert worst(field) <= proved.claim.level
    found = SlopeBranchAndBound().solve(field)
    proved = prove_log_norm(field, all_boxes(found.leaves), found.upper)
    assert proved is not None
    assert proved.claim.level <= found.upper + 1e-9
    assert worst(field) <= proved.claim.level <= worst(field) + 1e-4


@pytest.mark.parametrize("seed", range(60))
@pytest.mark.parametrize("margin", [1e-3, 1e-9, 1e-15])
def test_what_is_false_is_never_proved(seed, margin):
    """A level below the truth, with multipliers good and arbitrary."""
    field = field_of(seed)
    level = worst(field) - margin * (1 + abs(worst(field)))
    claim = log_norm_claim(field, level)
    rng = np.random.default_rng(seed)
    found = SlopeBranchAndBound().solve(field)
    for proof in (
        one_box(field, upper_bound(field).multipliers),
        one_box(field, np.exp(rng.normal(-1, 2, field.neurons))),
        all_boxes(found.leaves),
    ):
        assert check_log_norm(claim, proof).decision is not Decision.PROVED


@pytest.mark.parametrize(("slack", "arithmetics"), [(1e-9, {"double"}), (1e-14, {"double", "128 bits"})])
def test_double_precision_decides_by_a_small_margin(slack, arithmetics):
    field = SlopeField(A3, 0.1)
    bound = upper_bound(field, Limits(tolerance=1e-9))
    verdict = check_log_norm(log_norm_claim(field, bound.value + slack), one_box(field, bound.multipliers))
    assert verdict.arithmetic in arithmetics
    short = check_log_norm(log_norm_claim(field, bound.value - slack), one_box(field, bound.multipliers))
    assert short.decision is Decision.NOT_PROVED


def test_balls_decide_where_double_precision_cannot():
    """-1 times slopes in [1/2, 1] is at most -1/2, by lam = 1/8 exactly: a margin of one ulp is for balls."""
    claim = LogNormClaim(np.array([[-1.0, 0], [0, -1]]), 0.5, 1.0, -0.5 + 2.0**-52)
    proof = LogNormProof(np.zeros((1, 2), dtype=int), np.full((1, 2), 0.125))
    assert check_log_norm(claim, proof, balls=False).decision is Decision.NOT_PROVED
    assert check_log_norm(claim, proof).arithmetic == "128 bits"


@pytest.mark.parametrize("exponent", [-300, -60, 60, 300])
def test_units_do_not_matter(exponent):
    field = SlopeField(np.ldexp(A3, exponent), 0.1)
    bound = upper_bound(field)
    proof = one_box(field, bound.multipliers)
    assert check_log_norm(log_norm_claim(field, bound.value * (1 + 1e-8)), proof).proved
    assert not check_log_norm(log_norm_claim(field, bound.value * (1 - 1e-3)), proof).proved


@pytest.mark.parametrize("n", [6, 9, 10])
def test_symmetric_searches_are_proved(n):
    field = SlopeField(circulant(n), 0.1)
    found = SlopeBranchAndBound().solve(field)
    proof = all_boxes(found.leaves)
    assert proof.symmetries is not None
    assert len(proof.symmetries.left_out) > 0
    assert check_log_norm(log_norm_claim(field, found.upper + 1e-9), proof).proved
    without = dataclasses.replace(proof, symmetries=None)
    assert check_log_norm(log_norm_claim(field, found.upper + 1e-9), without).decision is Decision.NOT_COVERED
    # The same symmetries are none of another matrix.
    other = field.inputs.copy()
    other[0, 1] = np.nextafter(other[0, 1], 1)
    claim = LogNormClaim(other, 0.1, 1.0, found.upper + 1e-3)
    assert check_log_norm(claim, proof).decision is Decision.MALFORMED


def symmetric_proof():
    """A search of a convolution: the field, a level it proves, and the proof."""
    field = SlopeField(circulant(8), 0.1)
    found = SlopeBranchAndBound().solve(field)
    return log_norm_claim(field, found.upper + 1e-9), all_boxes(found.leaves)


def with_symmetries(**changes):
    def change(proof):
        return dataclasses.replace(proof, symmetries=dataclasses.replace(proof.symmetries, **{
            name: function(getattr(proof.symmetries, name)) for name, function in changes.items()}))

    return change


@pytest.mark.parametrize("change", [
    with_symmetries(by=lambda by: by + 100),
    with_symmetries(by=lambda by: by.astype(float)),
    with_symmetries(by=lambda by: by[1:]),
    with_symmetries(left_out=lambda boxes: np.zeros_like(boxes)),
    with_symmetries(left_out=lambda boxes: -boxes),
    with_symmetries(left_out=lambda boxes: 2 * boxes),
    with_symmetries(permutations=lambda p: np.zeros_like(p)),
    with_symmetries(permutations=lambda p: p[:, ::-1]),
    with_symmetries(permutations=lambda p: np.repeat(np.arange(8)[None], len(p), axis=0)),
    with_symmetries(signs=lambda s: 0 * s),
    with_symmetries(signs=lambda s: s * np.where(np.arange(8) == 0, -1, 1)),
])
def test_forged_symmetries_are_refused(change):
    claim, proof = symmetric_proof()
    assert check_log_norm(claim, proof).proved
    assert check_log_norm(claim, change(proof)).decision is Decision.MALFORMED


def test_boxes_are_raised_only_if_all_their_patterns_are():
    rng = np.random.default_rng(0)
    seen = 0
    for _ in range(3000):
        box, pi = rng.choice([-1, 0, 1], 5), rng.permutation(5)
        if contractivity_check._raised(box, pi):
            seen += 1
            free = np.flatnonzero(box == 0)
            for choice in range(2 ** len(free)):
                p = box.copy()
                p[free] = np.where((choice >> np.arange(len(free))) & 1, 1, -1)
                assert tuple(p[pi]) > tuple(p)
    assert seen > 300


@pytest.mark.parametrize("change", [
    lambda p: LogNormProof(p.signs[1:], p.multipliers[1:]),
    lambda p: LogNormProof(p.signs[:0], p.multipliers[:0]),
    lambda p: LogNormProof(np.abs(p.signs), p.multipliers),
])
def test_boxes_that_do_not_cover_prove_nothing(change):
    field = SlopeField(circulant(7), 0.1)
    found = SlopeBranchAndBound(symmetry=False).solve(field)
    assert len(found.leaves.signs) > 1
    claim, proof = log_norm_claim(field, found.upper + 1e-9), all_boxes(found.leaves)
    assert check_log_norm(claim, proof).proved
    assert check_log_norm(claim, change(proof)).decision is Decision.NOT_COVERED


@pytest.mark.parametrize("change", [
    lambda c, p: (c, LogNormProof(p.signs[:, 1:], p.multipliers[:, 1:])),
    lambda c, p: (c, LogNormProof(p.signs[0], p.multipliers[0])),
    lambda c, p: (c, LogNormProof(p.signs, -p.multipliers)),
    lambda c, p: (c, LogNormProof(p.signs, 0 * p.multipliers)),
    lambda c, p: (c, LogNormProof(p.signs, np.nan * p.multipliers)),
    lambda c, p: (c, LogNormProof(p.signs, np.inf * p.multipliers)),
    lambda c, p: (c, LogNormProof(p.signs, p.multipliers.astype(np.float32))),
    lambda c, p: (c, LogNormProof(p.signs + 2, p.multipliers)),
    lambda c, p: (dataclasses.replace(c, level=math.nan), p),
    lambda c, p: (dataclasses.replace(c, level=2**60 + 1), p),
    lambda c, p: (dataclasses.replace(c, level=math.inf), p),
    lambda c, p: (dataclasses.replace(c, lower=2.0), p),
    lambda c, p: (dataclasses.replace(c, lower=-math.inf), p),
    lambda c, p: (dataclasses.replace(c, inputs=c.inputs[0]), p),
    lambda c, p: (dataclasses.replace(c, inputs=c.inputs[:2]), p),
    lambda c, p: (dataclasses.replace(c, inputs=c.inputs * np.nan), p),
    lambda c, p: (dataclasses.replace(c, inputs=c.inputs.astype(np.float32)), p),
    lambda c, p: (dataclasses.replace(c, linear=np.eye(2)), p),
    lambda c, p: (dataclasses.replace(c, outputs=np.ones((2, 3))), p),
])
def test_what_is_malformed_is_told(change):
    claim = LogNormClaim(A3, 0.1, 1.0, 10.0)
    proof = LogNormProof(np.zeros((1, 3), dtype=np.int8), np.ones((1, 3)))
    assert check_log_norm(claim, proof).proved
    assert check_log_norm(*change(claim, proof)).decision is Decision.MALFORMED


@pytest.mark.parametrize("value", [5e-324, 1e-300, 1e300, 1.7e308])
def test_absurd_numbers_neither_crash_nor_prove(value):
    for claim in (LogNormClaim(A3 / 2 * value, 0.1, 1.0, -1e-3), LogNormClaim(A3, -value, value, -1e-3),
                  LogNormClaim(A3, 0.1, 1.0, -value)):
        for multiplier in (value, 1.0):
            proof = LogNormProof(np.zeros((1, 3), dtype=np.int8), np.full((1, 3), multiplier))
            assert check_log_norm(claim, proof).decision is Decision.NOT_PROVED


@pytest.mark.parametrize("seed", range(6))
def test_slope_intervals_are_proved(seed):
    rng = np.random.default_rng(seed)
    weights = rng.standard_normal((6, 6)) / np.sqrt(6)
    weights -= (np.linalg.eigvalsh((weights + weights.T) / 2)[-1] + 0.3) * np.eye(6)
    field = SlopeField(weights, 0.0)
    sdp, exact = least_lower_slope(field, 0.0), exact_lower_slope(field)
    by_sdp = prove_lower_slope(field.with_lower(sdp.lower_slope), one_box(field, sdp.bound.multipliers), 0.0)
    by_boxes = prove_lower_slope(field.with_lower(exact.high), all_boxes(exact.worst.leaves), 0.0)
    assert by_sdp.claim.lower <= sdp.lower_slope + 1e-6
    assert by_boxes.claim.lower <= exact.high + 1e-6
    assert by_boxes.claim.level == 0
    assert worst(field.with_lower(by_boxes.claim.lower)) <= 0
    below = log_norm_claim(field.with_lower(exact.low - 1e-6), 0.0)
    assert not check_log_norm(below, all_boxes(exact.worst.leaves)).proved


def test_idle_neurons_and_single_points_need_no_multipliers():
    inputs, outputs = np.array([[1.0, 0], [0, 0], [3, 1]]), np.array([[-1.0, 5, 0], [0, 5, 0]])
    claim = LogNormClaim(inputs, 0.5, 1.0, 1e-9, outputs)
    zero = np.zeros((1, 3), dtype=int)
    assert check_log_norm(claim, LogNormProof(zero, np.array([[0.25, 0, 0]]))).proved
    assert check_log_norm(claim, LogNormProof(zero, np.array([[0, 0.25, 0]]))).decision is Decision.MALFORMED
    point = LogNormClaim(A3, 1.0, 1.0, 0.1227098)
    assert check_log_norm(point, LogNormProof(np.zeros((1, 3), dtype=int), np.zeros((1, 3)))).proved
    assert not check_log_norm(dataclasses.replace(point, level=0.1227097), LogNormProof(zero, np.zeros((1, 3)))).proved
    field = SlopeField(A3, 1.0)
    found = SlopeBranchAndBound().solve(field)
    assert prove_log_norm(field, all_boxes(found.leaves), found.upper).claim.level == pytest.approx(0.1227097, abs=1e-7)


def test_the_checker_imports_no_solver():
    own = ("check", "box_cover", "multilayer_check", "flow_check")
    names = ("enclosed_matrix", *(f"contractivity.{name}" for name in own))
    for module in names:
        source = __import__(f"netgain.verify.{module}", fromlist=["_"]).__file__
        with open(source) as file:
            assert "solvers" not in file.read()


def test_symmetries_of_general_shapes_are_refused():
    claim = LogNormClaim(np.eye(2), 0.1, 1.0, 10.0, np.eye(2))
    nothing = Symmetries(np.zeros((0, 2), dtype=int), np.zeros((0, 2), dtype=int), np.zeros((0, 2), dtype=int),
                         np.zeros(0, dtype=int))
    proof = LogNormProof(np.zeros((1, 2), dtype=int), np.ones((1, 2)), nothing)
    assert check_log_norm(claim, proof).decision is Decision.MALFORMED
    assert check_log_norm(dataclasses.replace(claim, outputs=None), proof).proved
