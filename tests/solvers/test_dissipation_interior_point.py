"""The structured solver of dissipation inequalities: against a conic solver, and against its program's own matrices."""

import dataclasses
import functools
import math

import numpy as np
import pytest
from netgain.solvers.conic_forms import ConeProgram
from netgain.solvers.dissipation import DissipationProblem, DissipationSolution, StageData, _Builder, solve_dissipation
from netgain.solvers.dissipation_cones import chain_cones
from netgain.solvers.dissipation_interior_point import DissipationInteriorPoint
from netgain.solvers.result import Limits, Progress, Status

from .bank import dense
from .dissipation_bank import BANK, delay, stage

each = pytest.mark.parametrize("name", BANK)
SOLVER = DissipationInteriorPoint()


@functools.cache
def optimum(name: str) -> float:
    """rho by another solver."""
    return solve_dissipation(BANK[name]).rho


def matrices(problem: DissipationProblem, point: DissipationSolution) -> list[np.ndarray]:
    """Everything that has to be positive semidefinite: from the conic program of the same problem, but for the head,
    which is cut into pixels there and is formed from its definition."""
    builder = _Builder(problem, 0.0)
    program: ConeProgram = builder.program()
    w = np.zeros(program.variables)
    w[0] = point.rho
    multipliers = [lam for lam in (*point.multipliers, *point.head) if lam is not None]
    w[1 : 1 + program.multipliers] = np.concatenate([*multipliers, []])
    symbols = [*zip(builder.metrics, point.metrics, strict=True)]
    symbols += [pair for k, parts in enumerate(point.storages)
                for pair in zip(builder.storages[k], parts, strict=True)]
    for symbol, value in symbols:
        if symbol is not None:
            found = np.linalg.lstsq(symbol.basis.toarray(), value.ravel(), rcond=None)[0]
            w[symbol.start : symbol.stop] = found
            assert np.allclose(symbol.value(w), value)
    reads_share = np.zeros(program.variables, dtype=bool)
    for share in builder.shares:
        reads_share[share.start : share.stop] = True
    result = []
    for block in program.blocks:
        if not np.any(abs(block.matrix).sum(axis=0)[reads_share]):
            result.append((block.matrix @ w - block.constant).reshape(block.order, block.order))
    if problem.head is not None:
        head = dense(problem.head, 0.0, list(point.head))
        size, metric = problem.head.input_size, point.metrics[-1]
        head[:size, :size] += np.kron(metric, np.eye(size // len(metric)))
        result.append(head)
    return result


def least_eigenvalue(problem: DissipationProblem, point: DissipationSolution) -> float:
    """Of all matrices, relative to the largest of each."""
    values = [np.linalg.eigvalsh(matrix) for matrix in matrices(problem, point)]
    return min(float(v[0] / v[-1]) for v in values)


@each
def test_agrees_with_clarabel_at_a_strictly_feasible_point(name: str) -> None:
    seen = []
    solution = SOLVER.solve(BANK[name], Limits(), seen.append)
    assert solution.status is Status.OPTIMAL
    assert solution.rho == pytest.approx(optimum(name), rel=2e-5)
    assert least_eigenvalue(BANK[name], solution) > 0
    assert tuple(seen) == solution.history
    bounds, duals = [line.bound for line in seen], [line.dual_bound for line in seen]
    assert bounds == sorted(bounds, reverse=True)
    assert duals == sorted(duals)
    assert duals[-1] <= bounds[-1] == math.sqrt(solution.rho) <= duals[-1] * (1 + 1.1e-6)


@each
def test_formulas_are_strictly_feasible(name: str) -> None:
    point = SOLVER.closed_form(BANK[name])
    assert point.status is Status.CLOSED_FORM
    assert point.rho >= optimum(name) * (1 - 1e-5)
    assert least_eigenvalue(BANK[name], point) > 0


@pytest.mark.parametrize("name", ["the plane", "strides and maxima", "stable states", "a head"])
@pytest.mark.parametrize("reason", [Status.TIME_LIMIT, Status.INTERRUPTED, Status.ITERATION_LIMIT])
def test_stopped_early_it_returns_a_feasible_point(name: str, reason: Status) -> None:
    def interrupt(progress: Progress) -> None:
        if progress.iteration == 3 and reason is Status.INTERRUPTED:
            raise KeyboardInterrupt

    limits = Limits(tolerance=1e-7, time_limit=1e-9 if reason is Status.TIME_LIMIT else math.inf)
    solver = DissipationInteriorPoint(max_iterations=3 if reason is Status.ITERATION_LIMIT else 100)
    solution = solver.solve(BANK[name], limits, interrupt)
    assert solution.status is reason
    assert solution.history[-1].dual_bound**2 <= optimum(name) * (1 + 1e-5)
    assert solution.rho >= optimum(name) * (1 - 1e-5)
    assert least_eigenvalue(BANK[name], solution) > 0


@each
def test_the_block_factor_solves_the_whole_system(name: str) -> None:
    cones, rng = chain_cones(BANK[name]), np.random.default_rng(0)
    whole, parts = np.zeros((cones.unknowns,) * 2), []
    for place in cones.chain.places:
        size = place.stop - place.start
        root = rng.normal(size=(size, size + 2))
        parts.append(root @ root.T)
        whole[place, place] += parts[-1]
    diagonal, right = rng.random(cones.unknowns), rng.normal(size=cones.unknowns)
    solve = cones.chain.factorised(parts, diagonal)
    assert solve is not None
    np.testing.assert_allclose(solve(right), np.linalg.solve(whole + np.diag(diagonal), right), rtol=1e-7, atol=1e-9)


def test_predictions_count_and_grow() -> None:
    small, large = (SOLVER.predict(DissipationProblem(tuple(BANK["many stages"].stages[:k]), None)) for k in (2, 6))
    assert (small.multipliers, large.multipliers) == (4, 12)
    assert small.memory < large.memory
    assert small.seconds < large.seconds


@pytest.mark.parametrize("memory", [0.0, 0.9, 0.999, 0.99999])
def test_gain_of_a_leaking_sum(memory: float) -> None:
    """x+ = a x + u, v = x: the gain is 1 / (1 - a), however near to a sum it is."""
    one = np.ones((1, 1))
    leaking = StageData(memory * one, one, one, 0 * one, (slice(0, 1),), False, 1, None, None, 1, False)
    solution = SOLVER.solve(DissipationProblem((leaking,), None))
    assert solution.status is Status.OPTIMAL
    assert math.sqrt(solution.rho) == pytest.approx(1 / (1 - memory), rel=1e-5)


@pytest.mark.parametrize("radius", [1.0, 1.5])
def test_what_is_not_stable_has_no_point(radius: float) -> None:
    problem = DissipationProblem((delay([1.0, 1.0]).stages[0], stage(np.random.default_rng(0), 1, 1, (2,),
                                                                       radius=radius)), None)
    solution = SOLVER.solve(problem)
    assert (solution.status, solution.rho) == (Status.FAILED, math.inf)
    assert "stage 2" in solution.detail
    assert SOLVER.closed_form(problem).status is Status.FAILED


def degenerate(kind: str) -> DissipationProblem:
    """Stages whose dual has no interior: a channel that answers nothing, states that nothing drives or reads."""
    rng = np.random.default_rng(3)
    first, second = stage(rng, 2, 3, (2, 2)), stage(rng, 3, 2, (2, 1), slopes=None)
    if kind == "dead channel":
        first = dataclasses.replace(first, C=first.C * [[1], [0], [1]], D=first.D * [[1], [0], [1]])
    elif kind == "undriven state":
        A, B = first.A.copy(), first.B.copy()
        A[[0, 2]], B[[0, 2]] = 0, 0
        first = dataclasses.replace(first, A=A, B=B)
    elif kind == "unread state":
        A, C = first.A.copy(), first.C.copy()
        A[:, [0, 2]], C[:, [0, 2]] = 0, 0
        first = dataclasses.replace(first, A=A, C=C)
    elif kind == "few columns":
        first = dataclasses.replace(first, B=first.B @ np.ones((2, 2)), D=first.D @ np.ones((2, 2)))
    elif kind == "small channel":
        first = dataclasses.replace(first, C=first.C * [[1], [1e-9], [1]], D=first.D * [[1], [1e-9], [1]])
    return DissipationProblem((first, second), None)


@pytest.mark.parametrize("kind", ["dead channel", "undriven state", "unread state", "few columns", "small channel"])
def test_nearly_singular_chains(kind: str) -> None:
    problem = degenerate(kind)
    solution = SOLVER.solve(problem, Limits(tolerance=1e-5))
    other = solve_dissipation(problem)
    assert solution.status is Status.OPTIMAL
    assert solution.rho == pytest.approx(other.rho, rel=1e-3)
    assert least_eigenvalue(problem, solution) > 0


@pytest.mark.parametrize("factor", [1e-7, 1e7])
def test_units_of_the_answer(factor: float) -> None:
    first, second = degenerate("undriven state").stages
    moved = dataclasses.replace(second, C=factor * second.C, D=factor * second.D)
    one, other = (SOLVER.solve(DissipationProblem((first, last), None)).rho for last in (second, moved))
    assert math.sqrt(other) == pytest.approx(factor * math.sqrt(one), rel=3e-6)
