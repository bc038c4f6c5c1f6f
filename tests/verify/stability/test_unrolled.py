"""Bounds found with fewer inputs are those of the network itself, and proved of it."""

import numpy as np
import pytest
from netgain import layers
from netgain.layers.stable_block import StableBlock, StableNetwork
from netgain.solvers.result import Limits
from netgain.verify.check import check
from netgain.verify.lipschitz import lipschitz
from netgain.verify.stability.unrolled import lipschitz_of, with_fewer_inputs

LIMITS = Limits(time_limit=10)


def network(seed, m, before=(), after=()):
    rng = np.random.default_rng(seed)
    block = StableBlock((0.3 * rng.standard_normal((3, 3)) - np.eye(3),), (rng.standard_normal((3, m)),), (),
                        layers.Relu(), 0.8, 4)
    return StableNetwork((*before, block, *after), (1, m) if before else (m,), "network")


@pytest.mark.parametrize("seed", range(3))
def test_the_bound_is_that_of_all_inputs(seed):
    readout = layers.Affine(np.random.default_rng(seed).standard_normal((2, 3)))
    case = network(seed, 20, (layers.Flatten(),), (readout,))
    fewer = with_fewer_inputs(case)
    assert fewer.input_shape == (3,)
    found, direct = lipschitz_of(case, LIMITS), lipschitz(case.graph(), limits=LIMITS)
    assert found.upper == pytest.approx(direct.upper, rel=1e-5)
    assert check(found.certificate, case.graph()).proved
    assert 0 < found.lower <= found.upper
    assert found.norm_product == pytest.approx(direct.norm_product, rel=1e-9)


def test_few_inputs_are_left_as_they_are():
    assert with_fewer_inputs(network(0, 3)) is None
    assert lipschitz_of(network(0, 2), LIMITS).proved
