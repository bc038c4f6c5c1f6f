"""Primal-dual steps for the least value of one unknown under matrix inequalities on stacks of Hermitian matrices.

The direction is that of Helmberg, Rendl, Vanderbei and Wolkowicz, Kojima, Shindoh and Hara, and Monteiro (HKM) with
Mehrotra's predictor and corrector, as in `netgain.solvers.interior_point`. How the unknowns are shared among the cones,
and how the Schur matrix is factorised, is for others to say.
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import numpy as np
from scipy.linalg.lapack import dpotrf, zpotrf

from .family import adjoint
from .family_cone import Cone
from .schur import Solve

_STEP = 0.95
_SHORTEST_STEP = 1e-6
_PRECISION = 0.05
# From this gap on, relative to the objective, the dual equations are solved once more for what is left of them.
_LATE = 1e-3

Each = Callable[..., Iterable[Any]]
"""`map`, or one that works at several things side by side."""


class Unknowns(Protocol):
    """Which of the unknowns belong to which cone."""

    def parts(self, x: np.ndarray) -> Sequence[np.ndarray]:
        """The unknowns of each cone."""

    def total(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """The transpose of `parts`."""

    def factorised(self, parts: Sequence[np.ndarray], diagonal: np.ndarray) -> Solve | None:
        """Solves with the sum of one matrix for each cone, which may be overwritten, and a diagonal; None if it is not
        positive definite."""


@dataclasses.dataclass(frozen=True, eq=False)
class Bounds:
    """sign x[index] + offset > 0, entry by entry; an unknown may have several bounds."""

    index: np.ndarray
    sign: np.ndarray
    offset: np.ndarray

    @classmethod
    def below(cls, index: np.ndarray) -> "Bounds":
        """x[index] > 0."""
        return cls(index, np.ones(len(index)), np.zeros(len(index)))

    @classmethod
    def above(cls, index: np.ndarray, limit: np.ndarray) -> "Bounds":
        """x[index] < limit."""
        return cls(index, -np.ones(len(index)), limit)

    def joined(self, other: "Bounds") -> "Bounds":
        return Bounds(*(np.concatenate([getattr(part, field.name) for part in (self, other)])
                        for field in dataclasses.fields(self)))

    def slack(self, x: np.ndarray) -> np.ndarray:
        result: np.ndarray = self.change(x) + self.offset
        return result

    def change(self, dx: np.ndarray) -> np.ndarray:
        result: np.ndarray = self.sign * dx[self.index]
        return result

    def add(self, values: np.ndarray, to: np.ndarray) -> None:
        """Adds the transpose of `change`."""
        np.add.at(to, self.index, self.sign * values)


@dataclasses.dataclass(eq=False)
class Point:
    """A primal-dual iterate on all cones; `sign` holds the dual variables of the bounds."""

    x: np.ndarray
    m: list[np.ndarray]
    y: list[np.ndarray]
    sign: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class ConeProblem:
    """The least x[objective] with the matrices of all cones positive definite, within the bounds."""

    cones: Sequence[Cone]
    unknowns: Unknowns
    objective: int
    bounds: Bounds
    each: Each = map

    def matrices(self, x: np.ndarray) -> list[np.ndarray] | None:
        """All matrices at x, or None unless they are positive definite and x is within the bounds."""
        if not np.all(self.bounds.slack(x) > 0):
            return None
        m = list(self.each(Cone.matrix, self.cones, self.unknowns.parts(x)))
        return m if all(positive(matrix) for stack in m for matrix in stack) else None

    def inverses(self, m: list[np.ndarray]) -> list[np.ndarray]:
        return list(self.each(_inverse, m))

    def central(self, x: np.ndarray, m: list[np.ndarray]) -> Point:
        """x with Y = mu M^{-1}, which is on the central path of a problem with another cost."""
        z = self.inverses(m)
        trace = self.unknowns.total(list(self.each(Cone.gradient_at, self.cones, z)))[self.objective]
        return Point(x, m, [inverse / trace for inverse in z], 1 / trace / self.bounds.slack(x))

    def forms(self, point: Point) -> list[np.ndarray]:
        """`Cone.forms` of Y, for `dual` and `step`."""
        return list(self.each(Cone.forms, self.cones, point.y))

    def dual(self, point: Point, forms: list[np.ndarray]) -> float:
        """A lower bound on the least value, if x is about the optimum: Y may leave a residual r, which changes the
        objective by r^T x at most."""
        residual = self._residual(self.gradient(forms), point.sign)
        dual = sum(cone.cost(y) for cone, y in zip(self.cones, point.y, strict=True))
        dual -= float(self.bounds.offset @ point.sign)
        return max(dual - float(np.abs(residual * point.x).sum()), 0.0)

    def gradient(self, forms: list[np.ndarray]) -> np.ndarray:
        return self.unknowns.total(list(self.each(Cone.gradient, self.cones, forms)))

    def _residual(self, gradient: np.ndarray, sign: np.ndarray) -> np.ndarray:
        """What the dual equations lack."""
        residual = -gradient
        residual[self.objective] += 1
        self.bounds.add(-sign, residual)
        return residual

    def mean(self, point: Point) -> float:
        """mu: the mean eigenvalue of M Y."""
        order = sum(len(stack) * len(stack[0]) for stack in point.m) + len(point.sign)
        return (_inner(point.m, point.y) + float(self.bounds.slack(point.x) @ point.sign)) / order

    def step(self, point: Point, y_forms: list[np.ndarray]) -> Point | None:
        """The next point, or None where rounding leaves no step."""
        cones, parts, total = self.cones, self.unknowns.parts, self.unknowns.total
        slack, z = self.bounds.slack(point.x), self.inverses(point.m)
        z_forms = list(self.each(Cone.forms, cones, z))
        gap = _inner(point.m, point.y) + slack @ point.sign
        mu = self.mean(point)
        target_gradient, diagonal, cost = self.gradient(z_forms), np.zeros(len(point.x)), np.zeros(len(point.x))
        self.bounds.add(1 / slack, target_gradient)
        np.add.at(diagonal, self.bounds.index, point.sign / slack)
        cost[self.objective] = 1.0
        solve = self.unknowns.factorised(list(self.each(Cone.schur, cones, z_forms, y_forms)), diagonal)
        if solve is None:
            return None

        # Predictor: the affine direction, whose success decides how far mu is lowered.
        dx = solve(-cost)
        ds = list(self.each(_homogeneous, cones, parts(dx)))
        k = list(self.each(lambda cone, own, inverse: adjoint(cone.multiply(own, inverse)), cones, parts(dx), z))
        dy = list(self.each(lambda y, a: -y - _hermitian(a @ y), point.y, k))
        dslack = self.bounds.change(dx)
        dsign = -point.sign * (1 + dslack / slack)
        primal, dual = self._lengths(point, slack, dslack, ds, dy, dsign)
        reached = _inner([m + primal * d for m, d in zip(point.m, ds, strict=True)],
                         [y + dual * d for y, d in zip(point.y, dy, strict=True)])
        reached += (slack + primal * dslack) @ (point.sign + dual * dsign)
        centring = min(1.0, max((max(reached, 0.0) / gap) ** 2, 1e-3)) if min(primal, dual) > 0.1 else 0.5

        # Corrector: second-order terms of the predictor, and the target centring * mu.
        target = centring * mu
        second = list(self.each(lambda a, d: _hermitian(a @ d), k, dy))
        second_sign = dslack * dsign / slack
        right = target * target_gradient - cost - total(list(self.each(Cone.gradient_at, cones, second)))
        self.bounds.add(-second_sign, right)
        dx = solve(right)
        dslack = self.bounds.change(dx)
        ds = list(self.each(_homogeneous, cones, parts(dx)))
        dy = list(self.each(
            lambda cone, own, inverse, y, s: target * inverse - y - _hermitian(inverse @ cone.multiply(own, y)) - s,
            cones, parts(dx), z, point.y, second))
        dsign = target / slack - second_sign - point.sign * (1 + dslack / slack)
        if gap < _LATE * point.x[self.objective]:
            # Products of a large Z with a small step leave a residual, which the dual bound has to pay for.
            new = list(self.each(np.add, point.y, dy))
            fix = solve(self._residual(total(list(self.each(Cone.gradient_at, cones, new))), point.sign + dsign))
            dy = list(self.each(lambda cone, own, inverse, y, d: d + _hermitian(inverse @ cone.multiply(own, y)),
                                cones, parts(fix), z, point.y, dy))
            dsign += point.sign * self.bounds.change(fix) / slack
        primal, dual = (_STEP * length for length in self._lengths(point, slack, dslack, ds, dy, dsign))
        if not max(primal, dual) >= _SHORTEST_STEP:
            return None
        x = point.x + primal * dx
        m = self.matrices(x)
        if m is None:
            return None
        return Point(x, m, [y + dual * d for y, d in zip(point.y, dy, strict=True)], point.sign + dual * dsign)

    def _lengths(
        self, point: Point, slack: np.ndarray, dslack: np.ndarray, ds: list[np.ndarray], dy: list[np.ndarray],
        dsign: np.ndarray
    ) -> tuple[float, float]:
        """The longest admissible primal and dual steps up to 1."""
        primal = min(_longest(point.m, ds), _ratio_test(slack, dslack))
        return primal, min(_longest(point.y, dy), _ratio_test(point.sign, dsign))


def _homogeneous(cone: Cone, x: np.ndarray) -> np.ndarray:
    return cone.matrix(x, homogeneous=True)


def _inverse(stack: np.ndarray) -> np.ndarray:
    return _hermitian(np.linalg.inv(stack))


def _hermitian(stack: np.ndarray) -> np.ndarray:
    result: np.ndarray = (stack + adjoint(stack)) / 2
    return result


def _inner(left: list[np.ndarray], right: list[np.ndarray]) -> float:
    """The sum of traces of products of Hermitian matrices."""
    return float(sum(np.vdot(a, b).real for a, b in zip(left, right, strict=True)))


def positive(matrix: np.ndarray) -> bool:
    """Whether a Hermitian matrix is positive definite, as far as rounding allows to say."""
    factorise = zpotrf if np.iscomplexobj(matrix) else dpotrf
    return not factorise(matrix, lower=1, clean=0)[1]


def _longest(stacks: list[np.ndarray], directions: list[np.ndarray]) -> float:
    """A step in [0, 1] within a few per cent of the largest that keeps every matrix positive definite.

    The sets of admissible steps are intervals: a member that passes at the shortest so far needs no further test.
    """
    shortest = 1.0
    for stack, direction in zip(stacks, directions, strict=True):
        for matrix, change in zip(stack, direction, strict=True):
            if positive(matrix + shortest * change):
                continue
            low, high = 0.0, shortest
            while high - low > max(_PRECISION * low, _SHORTEST_STEP):
                middle = (low + high) / 2
                low, high = (middle, high) if positive(matrix + middle * change) else (low, middle)
            shortest = low
    return shortest


def _ratio_test(values: np.ndarray, direction: np.ndarray) -> float:
    falling = direction < 0
    return min(1.0, float(np.min(-values[falling] / direction[falling], initial=1.0)))
