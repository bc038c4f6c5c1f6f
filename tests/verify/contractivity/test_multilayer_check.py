import dataclasses
import itertools
import math

import numpy as np
import pytest
from netgain.solvers.contractivity.multilayer_field import MultilayerField
from netgain.solvers.contractivity.multilayer_sdp import multilayer_upper_bound
from netgain.verify.contractivity.check import Decision, LogNormClaim, LogNormProof, check_log_norm
from netgain.verify.contractivity.flow_proof import prove_multilayer
from netgain.verify.contractivity.multilayer_check import MultilayerClaim, check_multilayer


def field_of(seed):
    rng = np.random.default_rng(seed)
    sizes = [int(size) for size in rng.integers(1, 4, int(rng.integers(1, 4)))]
    lower, upper = ((0.0, 1.0), (0.1, 1.0), (-0.2, 1.1))[seed % 3]
    weights = tuple(rng.standard_normal((b, a)) for a, b in itertools.pairwise([*sizes, sizes[0]]))
    return MultilayerField(weights, lower, upper)


def worst(field):
    sizes = [len(weight) for weight in field.weights]
    best = -math.inf
    for d in itertools.product((field.lower, field.upper), repeat=sum(sizes)):
        jacobian = field.jacobian(np.split(np.array(d), np.cumsum(sizes)[:-1]))
        best = max(best, np.linalg.eigvalsh((jacobian + jacobian.T) / 2)[-1])
    return best


@pytest.mark.parametrize("seed", range(30))
def test_bounds_are_proved_and_hold(seed):
    field = field_of(seed)
    bound = multilayer_upper_bound(field)
    proved = prove_multilayer(field, bound)
    assert proved is not None
    assert bound.value <= proved.claim.level <= bound.value + 1e-5 * (1 + abs(bound.value))
    assert worst(field) <= proved.claim.level


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("margin", [1e-2, 1e-9])
def test_what_is_false_is_never_proved(seed, margin):
    field, rng = field_of(seed), np.random.default_rng(seed)
    claim = MultilayerClaim(field.weights, field.lower, field.upper, worst(field) - margin)
    arbitrary = tuple(np.exp(rng.normal(0, 2, len(weight))) for weight in field.weights)
    for multipliers in (multilayer_upper_bound(field).multipliers, arbitrary):
        assert check_multilayer(claim, multipliers).decision is Decision.NOT_PROVED


def test_one_layer_agrees_with_the_smaller_form():
    """With lam scaled by r^2, both forms prove the same level.

    (y - l v) lam (u v - y) = lam (r^2 v^2 - (y - r0 v)^2), and the smaller form takes lam' v^2 + r^2 / (4 lam') x^2.
    """
    weights = np.array([[-1, 2, 0], [0, -1, 1.5], [-1, 0, -0.5]])
    bound = multilayer_upper_bound(MultilayerField((weights,), 0.1))
    for level, decision in ((0.5996, Decision.PROVED), (0.5994, Decision.NOT_PROVED)):
        assert check_multilayer(MultilayerClaim((weights,), 0.1, 1.0, level), bound.multipliers).decision is decision
        smaller = LogNormProof(np.zeros((1, 3), dtype=int), bound.multipliers[0][None] * 0.45**2)
        assert check_log_norm(LogNormClaim(weights, 0.1, 1.0, level), smaller).decision is decision


@pytest.mark.parametrize("change", [
    lambda c, m: (c, m[:1]),
    lambda c, m: (c, (m[0][:1], m[1])),
    lambda c, m: (c, (-m[0], m[1])),
    lambda c, m: (c, (m[0] * np.nan, m[1])),
    lambda c, m: (dataclasses.replace(c, level=math.nan), m),
    lambda c, m: (dataclasses.replace(c, lower=2.0), m),
    lambda c, m: (dataclasses.replace(c, weights=()), ()),
    lambda c, m: (dataclasses.replace(c, weights=(np.ones((2, 3)), np.ones((2, 2)))), m),
    lambda c, m: (dataclasses.replace(c, weights=(np.ones((2, 2)), np.full((2, 2), np.inf))), m),
    lambda c, m: (dataclasses.replace(c, weights=(np.ones((2, 2)), np.ones((2, 2), dtype=np.float32))), m),
])
def test_what_is_malformed_is_told(change):
    claim = MultilayerClaim((np.eye(2), -np.eye(2)), 0.1, 1.0, 5.0)
    multipliers = (np.ones(2), np.ones(2))
    assert check_multilayer(claim, multipliers).proved
    assert check_multilayer(*change(claim, multipliers)).decision is Decision.MALFORMED
