"""From multipliers to certificates: nothing a solver returns can make the checker say more than is true."""

import dataclasses
import math

import numpy as np
import pytest
from netgain.solvers import ClosedForm, InteriorPoint, Limits, compress, scale
from netgain.verify import check
from netgain.verify.constraints import constraint_rows, to_inequality
from netgain.verify.proof import prove

from .small_networks import BANK, TINY


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def posed(name):
    return scale(compress(to_inequality(constraint_rows(BANK[name]))))


NAMES = ["step", "mlp_relu", "mlp_gelu", "mlp_abs", "mlp_softmax", "skips", "residual_outer", "divided", "deep_huge"]


@pytest.mark.parametrize("name", NAMES)
def test_the_least_inflation_that_is_proved_is_returned(name):
    scaled = posed(name)
    solution = InteriorPoint().solve(scaled, Limits())
    certificate = prove(BANK[name], scaled, solution)
    assert check(certificate, BANK[name]).proved
    assert solution.bound < certificate.value <= solution.bound * (1 + 1e-8)
    assert certificate.arithmetic
    assert certificate.solver.startswith(solution.solver)
    assert certificate.digest == BANK[name].digest


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("lie", [1 - 1e-9, 1 - 1e-5, 0.99])
def test_a_bound_too_low_for_its_multipliers_is_mended_or_nothing(name, lie):
    """The certified value returns to what the multipliers give, never to what the solver says."""
    scaled = posed(name)
    solution = InteriorPoint().solve(scaled, Limits(tolerance=1e-9))
    certificate = prove(BANK[name], scaled, dataclasses.replace(solution, bound=solution.bound * lie))
    assert check(certificate, BANK[name]).proved
    assert certificate.value >= solution.dual_bound * (1 - 1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_infeasible_multipliers_are_mended_or_nothing(name, rng):
    scaled = posed(name)
    solution = InteriorPoint().solve(scaled, Limits(tolerance=1e-9))
    for noise in (1e-12, 1e-8, 1e-4, 0.1):
        multipliers = tuple(lam * (1 + noise * rng.standard_normal(lam.shape)) for lam in solution.multipliers)
        certificate = prove(BANK[name], scaled, dataclasses.replace(solution, multipliers=multipliers))
        if noise <= 1e-4:
            assert certificate is not None
        if certificate is not None:
            assert check(certificate, BANK[name]).proved
            assert certificate.value >= solution.dual_bound * (1 - 1e-9)


@pytest.mark.parametrize("bound", [math.nan, math.inf, -math.inf, -1.0, 0.0, 5e-324, 1e-300, 1e300, 1.7e308])
def test_absurd_bounds_prove_nothing_false(bound):
    scaled = posed("step")
    solution = dataclasses.replace(ClosedForm().solve(scaled, Limits()), bound=bound)
    certificate = prove(TINY["step"], scaled, solution)
    assert certificate is None or (certificate.value >= 1 and check(certificate, TINY["step"]).proved)


@pytest.mark.parametrize("entry", [math.nan, math.inf, -math.inf, -1.0, 0.0, 1e300])
def test_absurd_multipliers_prove_nothing_false(entry):
    scaled = posed("step")
    solution = dataclasses.replace(ClosedForm().solve(scaled, Limits()), multipliers=(np.full(2, entry),))
    certificate = prove(TINY["step"], scaled, solution)
    assert certificate is None or (certificate.value >= 1 and check(certificate, TINY["step"]).proved)


def test_a_map_that_is_constant_is_certified_as_such():
    scaled = posed("zero_layer")
    certificate = prove(TINY["zero_layer"], scaled, ClosedForm().solve(scaled, Limits()))
    assert certificate.value == 0.0
    assert check(certificate, TINY["zero_layer"]).proved
