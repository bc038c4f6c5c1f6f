"""Families with shared multipliers: the linear algebra against formed matrices, the optimum against another solver."""

import dataclasses
import functools
import math

import cvxpy as cp
import numpy as np
import pytest
from netgain.solvers import Inequality, Limits, Status
from netgain.solvers.family import Family, Point, ScaledFamily, SharedConstraint, family_norm_product, scale_family
from netgain.solvers.family_chain import FamilyChain
from netgain.solvers.family_cone import Cone
from netgain.solvers.family_interior_point import FamilyInteriorPoint

from .bank import constraint, dense

LIMITS = Limits(tolerance=1e-7)
# With slopes of both signs Clarabel does not reach its defaults.
_TOLERANCES = dict.fromkeys(("tol_gap_abs", "tol_gap_rel", "tol_feas"), 1e-6)


def draw(rng: np.random.Generator, members: int, *shape: int) -> np.ndarray:
    return (rng.standard_normal((members, *shape)) + 1j * rng.standard_normal((members, *shape))) / np.sqrt(shape[-1])


def shared(maps: dict, lower: list, upper: list, variable: list, kept: list | None = None) -> SharedConstraint:
    rows = np.arange(len(lower)) if kept is None else np.array(kept)
    return SharedConstraint(maps, np.array(lower, float), np.array(upper, float), np.array(variable), rows)


def chain(seed: int, members: int, head: Inequality | Family | None = None, copies: int = 1,
          layers: int = 2, low: float = 0.0, inputs: int = 2) -> Family:
    """Layers of three rows and two multipliers."""
    rng, size, constraints = np.random.default_rng(seed), inputs, []
    for k in range(layers):
        constraints.append(shared({k: draw(rng, members, 3, size)}, [low] * 3, [1.0] * 3, [0, 0, 1]))
        size = 3
    return Family(inputs, tuple(constraints), {layers: draw(rng, members, 2 * copies, size)}, 2, copies, head)


def branching(seed: int, members: int, head: Inequality | Family | None = None) -> Family:
    """A layer that reads two blocks, slopes that differ by row, and an output of three blocks."""
    rng = np.random.default_rng(seed)
    first = shared({0: draw(rng, members, 3, 2)}, [0, -0.3, -0.3], [1, 0.8, 1.2], [0, 1, 1])
    second = shared({0: draw(rng, members, 2, 2), 1: draw(rng, members, 2, 3)}, [-1, 0], [0.5, 0.5], [0, 1])
    output = {j: draw(rng, members, 2, size) for j, size in enumerate((2, 3, 2))}
    return Family(2, (first, second), output, 2, 1, head)


def silent(seed: int, members: int, rows: slice) -> Family:
    """The second of two layers, both of which the output reads, has rows that read nothing: their answers are zero."""
    rng = np.random.default_rng(seed)
    second = draw(rng, members, 3, 3)
    second[:, rows] = 0
    layers = (shared({0: draw(rng, members, 3, 2)}, [0] * 3, [1] * 3, [0, 0, 1]),
              shared({1: second}, [0] * 3, [1] * 3, [0, 1, 2]))
    return Family(2, layers, {j: draw(rng, members, 2, 3) for j in (1, 2)}, 2, 1, None)


def pooled(seed: int, members: int) -> Family:
    """Maxima over pairs: of each pair one row answers, and both pairs share a multiplier."""
    rng = np.random.default_rng(seed)
    first = shared({0: draw(rng, members, 4, 2)}, [0] * 4, [1] * 4, [0, 0, 1, 1])
    pool = shared({1: np.broadcast_to(np.eye(4, dtype=complex), (members, 4, 4))}, [-1] * 4, [1] * 4, [0] * 4, [0, 2])
    return Family(2, (first, pool), {2: draw(rng, members, 2, 2)}, 2, 1, None)


def head(seed: int, pixels: int, lower: float = 0.0, coupled: int = 1) -> Inequality:
    """Two layers on v = (2 channels, pixels)."""
    rng = np.random.default_rng(seed)
    first = constraint({0: rng.standard_normal((4, 2 * pixels))}, lower, 1.0)
    second = constraint({1: rng.standard_normal((4, 4)) / 2}, -1.0 if coupled > 1 else lower, 1.0, coupled)
    return Inequality(2 * pixels, (first, second), {2: rng.standard_normal((2, 4))})


def without_layers(pixels: int) -> Inequality:
    return Inequality(2 * pixels, (), {0: np.random.default_rng(3).standard_normal((3, 2 * pixels))})


BANK = {
    "one layer": chain(0, 26, layers=1),
    "three layers": chain(1, 26, layers=3),
    "negative slopes": chain(2, 26, low=-0.4),
    "branching": branching(3, 26),
    "pooled": pooled(4, 26),
    "no layer": chain(5, 26, layers=0),
    "head": chain(6, 26, head(7, 3), copies=2),
    "head with slopes above 0": chain(8, 26, head(9, 2, 0.2)),
    "head with groups": chain(10, 26, head(11, 2, coupled=2), low=-0.2),
    "linear head": chain(12, 26, without_layers(2)),
    "head, no layer before": chain(13, 26, head(14, 2), layers=0),
    "linear throughout": chain(15, 26, without_layers(2), copies=2, layers=0),
    "two stages": chain(16, 26, chain(17, 30)),
    "three stages": chain(18, 26, branching(19, 12, chain(20, 26, layers=0)), layers=1),
    "stages and phases": chain(21, 26, chain(22, 28, low=-0.3, inputs=6, layers=1), copies=2),
    "stages and a head": chain(23, 26, chain(24, 9, head(25, 3), copies=2, inputs=4, layers=1), layers=1),
    "stages and a head with slopes above 0": chain(26, 26, chain(27, 9, head(28, 2, 0.2), layers=1), layers=1),
}
each = pytest.mark.parametrize("name", BANK)


def inner(family: Family) -> list[int]:
    """Numbers of multipliers of the inequality at the end."""
    return [c.groups for c in family.inequality.constraints] if family.inequality else []


def split(family: Family, x: np.ndarray) -> list[tuple[np.ndarray, list[np.ndarray]]]:
    """Of every stage and the inequality at the end, rho or Q, and its multipliers; at last what stands for Q there."""
    result, place = [], 0
    ends = [*([c.multipliers for c in stage.constraints] for stage in family.stages), *([inner(family)] * (
        family.inequality is not None))]
    channels = [stage.channels for stage in family.stages]
    for k, counts in enumerate(ends):
        if k:
            a, b = np.triu_indices(channels[k - 1])
            before = np.zeros((channels[k - 1],) * 2)
            before[a, b] = before[b, a] = x[place : place + len(a)]
            place += len(a)
        else:
            before, place = np.array([[x[0]]]), 1
        lam = []
        for count in counts:
            lam.append(x[place : place + count])
            place += count
        result.append((before, lam))
    if family.inequality is None:
        result.append((np.eye(channels[-1]), []))
    assert place == len(x)
    return result


def formed(family: Family, x: np.ndarray) -> list[np.ndarray]:
    """All matrices from their definitions, a row at a time: the members' of each stage, the head's, and its Q."""
    parts = split(family, x)
    stacks = [formed_stage(stage, before, lam, after)
              for stage, (before, lam), (after, _) in zip(family.stages, parts, parts[1:], strict=False)]
    if family.inequality is None:
        return stacks
    metric, lam = parts[-1]
    last = dense(family.inequality, 0.0, lam)
    v = family.inequality.input_size
    last[:v, :v] += np.kron(metric, np.eye(v // len(metric)))
    return [*stacks, last[None], metric[None]]


def formed_stage(family: Family, before: np.ndarray, lam: list[np.ndarray], after: np.ndarray) -> np.ndarray:
    starts, n = family.offsets, family.offsets[-1]

    def row(maps: dict, w: int, i: int) -> np.ndarray:
        result = np.zeros(n, dtype=complex)
        for j, a in maps.items():
            result[starts[j] : starts[j + 1]] = a[w, i]
        return result

    stack = []
    for w in range(family.members):
        c = np.array([row(family.output, w, i) for i in range(family.channels * family.copies)])
        m = -c.conj().T @ np.kron(after, np.eye(family.copies)) @ c
        m[: family.input_size, : family.input_size] += np.kron(before, np.eye(family.input_size // len(before)))
        for k, layer in enumerate(family.constraints, 1):
            for i, variable in enumerate(layer.variable):
                z, v = np.zeros(n), row(layer.maps, w, i)
                if i in layer.kept:
                    z[starts[k] + list(layer.kept).index(i)] = 1
                p, q = z - layer.lower[i] * v, z - layer.upper[i] * v
                m += lam[k - 1][variable] * (np.outer(p.conj(), q) + np.outer(q.conj(), p))
        stack.append(m)
    return np.array(stack)


def unknowns(family: Family) -> int:
    triangles = [stage.channels * (stage.channels + 1) // 2 for stage in family.stages if stage.head]
    return 1 + sum(stage.multipliers for stage in family.stages) + sum(inner(family)) + sum(triangles)


def multipliers(family: Family) -> np.ndarray:
    """Their places among the unknowns."""
    x = np.arange(unknowns(family), dtype=float)
    return np.concatenate([np.zeros(0), *(own for _, lam in split(family, x) for own in lam)]).astype(int)


@functools.cache
def optimum(name: str) -> float:
    """The bound of another solver, on the matrices as they are defined."""
    family = BANK[name]
    count, positive = unknowns(family), multipliers(family)
    x = cp.Variable(count)
    zero = formed(family, np.zeros(count))
    parts = [formed(family, unit) for unit in np.eye(count)]
    sides = [x[positive] >= 0] if len(positive) else []
    for index, stack in enumerate(zero):
        for w, constant in enumerate(stack):
            n = len(constant)

            def real(m: np.ndarray) -> np.ndarray:
                return np.block([[m.real, -m.imag], [m.imag, m.real]]).ravel()

            terms = np.array([real(part[index][w] - constant) for part in parts])
            flat = cp.reshape(real(constant) + terms.T @ x, (2 * n, 2 * n), order="C")
            sides.append((flat + flat.T) / 2 >> 0)
    cp.Problem(cp.Minimize(x[0]), sides).solve(solver=cp.CLARABEL, **_TOLERANCES)
    return math.sqrt(x.value[0])


def found_point(scaled: ScaledFamily, solution) -> np.ndarray:
    """The unknowns of a solution, in scaled coordinates."""
    rho = math.ldexp(solution.bound, -scaled.output_exponent) ** 2
    return FamilyChain.of(scaled.family).vector(Point(rho, solution.multipliers, solution.metrics))


def least_eigenvalue(family: Family, x: np.ndarray) -> float:
    """Of all matrices, relative to the largest."""
    return min(float(np.linalg.eigvalsh(stack).min() / np.linalg.eigvalsh(stack).max())
               for stack in formed(family, x))


def cones(name: str) -> tuple[Family, list[Cone], list[slice]]:
    """Of four members of every stage."""
    def few(family: Family) -> Family:
        after = few(family.head) if isinstance(family.head, Family) else family.head
        return dataclasses.replace(family.restrict(np.arange(4)), head=after)

    family = few(scale_family(BANK[name]).family)
    layout = FamilyChain.of(family)
    found = [layout.stage_cone(number, stage) for number, stage in enumerate(family.stages)]
    return family, found + layout.head_cones(), list(layout.chain([1] * len(family.stages)).places)


def hermitian(rng: np.random.Generator, like: np.ndarray) -> np.ndarray:
    x = rng.standard_normal(like.shape) + (1j * rng.standard_normal(like.shape) if np.iscomplexobj(like) else 0)
    return x @ np.conj(np.swapaxes(x, 1, 2))


@each
def test_linear_algebra_is_that_of_the_definition(name: str) -> None:
    """Against every constraint matrix F_i formed."""
    family, stacks, places = cones(name)
    rng, count = np.random.default_rng(0), unknowns(family)
    zero, x = formed(family, np.zeros(count)), rng.random(count)
    units = [formed(family, unit) for unit in np.eye(count)]
    assert len(stacks) == len(zero)
    for index, (cone, place) in enumerate(zip(stacks, places, strict=True)):
        constant = zero[index]
        f = np.array([unit[index] - constant for unit in units])
        assert not np.any(np.delete(f, place, axis=0))
        f, own = f[place], x[place]
        expected = np.tensordot(own, f, 1)
        np.testing.assert_allclose(cone.matrix(own), expected + constant, atol=1e-12)
        np.testing.assert_allclose(cone.matrix(own, homogeneous=True), expected, atol=1e-12)
        right = rng.standard_normal((*constant.shape[:2], 3)) + (0j if np.iscomplexobj(constant) else 0)
        np.testing.assert_allclose(cone.multiply(own, right), expected @ right, atol=1e-11)
        z, y = hermitian(rng, constant), hermitian(rng, constant)
        z_forms, y_forms = cone.forms(z), cone.forms(y)
        size = np.abs(z).max() * np.abs(y).max()
        np.testing.assert_allclose(cone.gradient(z_forms), np.einsum("ifab,fba->i", f, z).real, atol=1e-10 * size)
        assert cone.cost(y) == pytest.approx(-np.einsum("fab,fba->", constant, y).real, abs=1e-9)
        fz, fy = f @ z, f @ y
        schur = np.einsum("ifab,jfba->ij", fz, fy).real
        np.testing.assert_allclose(cone.schur(z_forms, y_forms), schur, rtol=1e-9, atol=1e-10 * size)


@each
def test_the_closed_form_is_strictly_feasible_in_every_member(name: str) -> None:
    scaled = scale_family(BANK[name])
    point = scaled.strictly_feasible()
    x = FamilyChain.of(scaled.family).vector(point)
    assert least_eigenvalue(scaled.family, x) > 1e-9
    assert optimum(name) <= scaled.unscale(math.sqrt(point.rho)) * (1 + 1e-5)
    assert optimum(name) <= family_norm_product(scaled) * (1 + 1e-6)


@each
def test_agrees_with_clarabel(name: str) -> None:
    scaled = scale_family(BANK[name])
    solution = FamilyInteriorPoint().solve(scaled, LIMITS)
    assert solution.status is Status.OPTIMAL
    assert solution.bound == pytest.approx(optimum(name), rel=1e-4)
    assert solution.dual_bound <= solution.bound <= solution.dual_bound * (1 + 1.1e-7)
    assert [len(lam) for lam in solution.multipliers] == [
        *(c.multipliers for stage in BANK[name].stages for c in stage.constraints), *inner(BANK[name])]
    assert least_eigenvalue(scaled.family, found_point(scaled, solution)) >= -1e-11


@each
@pytest.mark.parametrize("first", [1, 10**6])
def test_members_may_come_one_by_one_or_all_at_once(name: str, first: int, monkeypatch) -> None:
    module = "netgain.solvers.family_interior_point"
    monkeypatch.setattr(f"{module}._FIRST_MEMBERS", first)
    monkeypatch.setattr(f"{module}._MORE_MEMBERS", 3)
    monkeypatch.setattr(f"{module}._CHUNK", 1)
    solution = FamilyInteriorPoint().solve(scale_family(BANK[name]), Limits(tolerance=1e-6))
    assert solution.status is Status.OPTIMAL
    assert solution.bound == pytest.approx(optimum(name), rel=1e-4)


@each
def test_every_report_is_a_bracket_and_the_course_is_monotone(name: str) -> None:
    seen = []
    solution = FamilyInteriorPoint().solve(scale_family(BANK[name]), LIMITS, seen.append)
    assert tuple(seen) == solution.history
    bounds, duals = [line.bound for line in seen], [line.dual_bound for line in seen]
    assert bounds == sorted(bounds, reverse=True)
    assert duals == sorted(duals)
    assert duals[-1] <= optimum(name) * (1 + 1e-5)
    assert bounds[-1] >= optimum(name) * (1 - 1e-5)


@pytest.mark.parametrize("name", ["three layers", "branching", "pooled", "head", "three stages", "stages and a head"])
@pytest.mark.parametrize("reason", [Status.TIME_LIMIT, Status.INTERRUPTED, Status.ITERATION_LIMIT])
def test_stopped_early_it_returns_its_best_point(name: str, reason: Status) -> None:
    scaled = scale_family(BANK[name])

    def interrupt(progress) -> None:
        if progress.iteration == 4 and reason is Status.INTERRUPTED:
            raise KeyboardInterrupt

    limits = Limits(tolerance=1e-9, time_limit=1e-9) if reason is Status.TIME_LIMIT else LIMITS
    solver = FamilyInteriorPoint(max_iterations=3 if reason is Status.ITERATION_LIMIT else 100)
    solution = solver.solve(scaled, limits, interrupt)
    assert solution.status is reason
    assert solution.dual_bound <= optimum(name) * (1 + 1e-5)
    assert solution.bound >= optimum(name) * (1 - 1e-5)
    assert least_eigenvalue(scaled.family, found_point(scaled, solution)) >= -1e-11


@pytest.mark.parametrize("name", ["one layer", "no layer", "head", "linear throughout"])
def test_nothing_reaches_the_output(name: str) -> None:
    family = BANK[name]
    if family.head:
        blind = Inequality(family.head.input_size, family.head.constraints,
                           {j: 0 * c for j, c in family.head.output.items()})
        family = dataclasses.replace(family, head=blind)
    else:
        family = dataclasses.replace(family, output={j: 0 * c for j, c in family.output.items()})
    scaled = scale_family(family)
    solution = FamilyInteriorPoint().solve(scaled, LIMITS)
    assert (solution.status, solution.bound, solution.iterations) == (Status.OPTIMAL, 0.0, 0)
    point = found_point(scaled, solution)
    assert all(np.linalg.eigvalsh(stack).min() >= -1e-12 for stack in formed(scaled.family, point))


@pytest.mark.parametrize("rows", [slice(0, 3), slice(1, 2)])
def test_answers_of_zero_are_as_good_as_left_out(rows: slice) -> None:
    """Least rho is not attained, since their multipliers want to be infinite: Clarabel ends 1e-4 above."""
    family = silent(17, 26, rows)
    outputs = {j: c.copy() for j, c in family.output.items()}
    outputs[2][:, :, rows] = 0
    scaled = scale_family(family)
    found, without = (FamilyInteriorPoint().solve(s, Limits(tolerance=1e-7))
                      for s in (scaled, scale_family(dataclasses.replace(family, output=outputs))))
    assert (found.status, without.status) == (Status.OPTIMAL, Status.OPTIMAL)
    assert found.bound == pytest.approx(without.bound, rel=1e-6)
    assert found.iterations <= 25
    point = found_point(scaled, found)
    assert all(np.linalg.cholesky(stack).size for stack in formed(scaled.family, point))


def test_without_layers_the_bound_is_the_largest_norm() -> None:
    family = BANK["no layer"]
    solution = FamilyInteriorPoint().solve(scale_family(family), LIMITS)
    assert solution.bound == pytest.approx(np.linalg.norm(family.output[0], 2, axis=(1, 2)).max(), rel=1e-6)


@pytest.mark.parametrize("factor", [1e-40, 1e40])
@pytest.mark.parametrize("name", ["three layers", "branching", "head", "stages and a head"])
def test_any_units_do(name: str, factor: float) -> None:
    family = BANK[name]
    output = {j: factor * c for j, c in family.output.items()}
    moved = dataclasses.replace(family, output=output)
    solution = FamilyInteriorPoint().solve(scale_family(moved), LIMITS)
    assert solution.bound == pytest.approx(factor * optimum(name), rel=1e-4)


def test_a_gain_beyond_float64_is_refused() -> None:
    family = BANK["one layer"]
    layer = family.constraints[0]
    steep = SharedConstraint({0: layer.maps[0] * 1e200}, layer.lower, layer.upper, layer.variable, layer.kept)
    with np.errstate(over="ignore", invalid="ignore"), pytest.raises(OverflowError, match="beyond float64"):
        scale_family(Family(2, (steep,), family.output, 2, 1, None))
