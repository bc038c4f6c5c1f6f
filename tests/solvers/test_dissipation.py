"""The cone program of dissipation inequalities: closed forms, its arrow of pixels, and what backends may answer."""

import math

import numpy as np
import pytest
from netgain.solvers import conic
from netgain.solvers.availability import Backend
from netgain.solvers.dissipation import DissipationProblem, StageData, solve_dissipation
from netgain.solvers.dissipation_head import arrow
from netgain.solvers.inequality import Inequality, SlopeConstraint
from netgain.solvers.result import Limits, Status

from .dissipation_bank import delay, random_head


@pytest.mark.parametrize(("weights", "gain"), [([1.0, 1.0], 2.0), ([1.0, -1.0], 2.0), ([3.0, 4.0, 5.0], 12.0)])
def test_gain_of_a_filter_is_its_largest_frequency_response(weights: list[float], gain: float) -> None:
    solution = solve_dissipation(delay(weights, -0.5))
    assert solution.status is Status.OPTIMAL
    assert math.sqrt(solution.rho) == pytest.approx(gain / 2, rel=1e-6)
    (storage,), none = solution.storages
    assert none == ()
    assert np.linalg.eigvalsh(storage).min() >= -1e-7


def test_backends_agree() -> None:
    problem, limits = delay([1.0, 0.5, -0.25]), Limits(tolerance=1e-5)
    clarabel, scs = (solve_dissipation(problem, backend, limits) for backend in (Backend.CLARABEL, Backend.SCS))
    assert scs.rho == pytest.approx(clarabel.rho, rel=1e-3)
    assert scs.solver.startswith("scs")


def test_margin_is_kept() -> None:
    """Of (rho, -x; -x, 1) in scalars: lam = 1 and rho = 1 without it."""
    loose, tight = (solve_dissipation(delay([1.0, 0.0]), margin=margin) for margin in (0.0, 1e-3))
    assert loose.rho == pytest.approx(1.0, rel=1e-5)
    assert loose.rho + 1e-3 < tight.rho < loose.rho + 0.1


def test_arrow_is_the_inequality_lifted() -> None:
    """Eliminating y and s gives back M, with the metric in place of rho."""
    rng = np.random.default_rng(0)
    channels, pixels = 2, 3
    head = random_head(rng, channels, pixels)
    metric = rng.normal(size=(channels, channels))
    metric = metric @ metric.T
    lam = rng.uniform(0.5, 2.0, head.multipliers)
    found = arrow(head, channels)

    n = found.rest_order
    whole = np.zeros((channels * pixels + n,) * 2)
    whole[: channels * pixels, : channels * pixels] = np.kron(metric, np.eye(pixels))
    for pixel, (matrix, constant) in enumerate(found.pixels):
        place = np.concatenate([np.arange(channels) * pixels + pixel, channels * pixels + found.neighbours])
        whole[np.ix_(place, place)] += (matrix @ lam).reshape(found.pixel_order, -1) + constant
    whole[channels * pixels :, channels * pixels :] += (found.rest[0] @ lam).reshape(n, n) + found.rest[1]
    kept = sum(head.sizes)
    side = whole[kept:, :kept]
    reduced = whole[:kept, :kept] - side.T @ np.linalg.solve(whole[kept:, kept:], side)

    offsets, start = np.cumsum([0, *head.sizes]), 0
    expected = np.zeros((kept, kept))
    expected[: channels * pixels, : channels * pixels] = np.kron(metric, np.eye(pixels))
    c = np.zeros((2, kept))
    for j, part in head.output.items():
        c[:, offsets[j] : offsets[j + 1]] = part
    expected -= c.T @ c
    for k, constraint in enumerate(head.constraints, 1):
        v, z = np.zeros((2, constraint.rows, kept))
        for j, a in constraint.maps.items():
            v[:, offsets[j] : offsets[j + 1]] = a
        z[constraint.answering, offsets[k] : offsets[k + 1]] = np.eye(constraint.size)
        p, q = z - constraint.lower[:, None] * v, z - constraint.upper[:, None] * v
        weights = np.repeat(lam[start : start + constraint.groups], constraint.coupled)[:, None]
        expected += p.T @ (weights * q) + q.T @ (weights * p)
        start += constraint.groups
    assert np.allclose(reduced, expected, atol=1e-10)


def test_positive_products_of_slopes_at_the_pixels_are_given_away() -> None:
    """A bound with slopes in [0.5, 1] is no better than with [0, 1.5], whose sum is the same: never too small."""
    weight = np.array([[1.0, 2.0]])
    identity = StageData(np.zeros((0, 0)), np.zeros((0, 1)), np.zeros((1, 0)), np.eye(1), (), True, 1, None, None, 1,
                         False)
    bounds = []
    for low, high in ((0.5, 1.0), (0.0, 1.5)):
        rows = SlopeConstraint({0: weight}, np.array([low]), np.array([high]))
        head = Inequality(2, (rows,), {1: np.eye(1)})
        bounds.append(math.sqrt(solve_dissipation(DissipationProblem((identity,), head)).rho))
    assert bounds[0] == pytest.approx(bounds[1], rel=1e-6)
    assert bounds[1] == pytest.approx(1.5 * math.sqrt(5), rel=1e-6)


def test_statuses_that_are_not_known_are_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(conic.STATUSES, Backend.CLARABEL, {})
    with pytest.raises(RuntimeError, match="status 'Solved'"):
        solve_dissipation(delay([1.0, 1.0]))


def test_points_that_are_not_numbers_are_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(program: conic.ConeProgram, backend: Backend, limits: Limits) -> conic._Answer:
        return conic._Answer("Solved", np.full(program.variables, np.nan), math.nan, 3)

    monkeypatch.setattr(conic, "run", run)
    solution = solve_dissipation(delay([1.0, 1.0]))
    assert (solution.status, solution.rho) == (Status.FAILED, math.inf)
