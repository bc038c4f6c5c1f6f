r"""The linear algebra of an interior-point iteration on stacks of Hermitian matrices with shared variables.

A cone is the stack M_w(x) = M_0 + sum_r x_r (p_r^H q_r + q_r^H p_r) + sum_t K_t^H (X_t kron diag(weights_t)) K_t, with
scalars x_r for rows and symmetric matrices X_t, all shared by its members and by other cones. Everything an iteration
needs of a Hermitian stack X is H X H^H with H the rows p, q and K_t stacked; no constraint matrix is formed.
"""

import dataclasses
import functools
import itertools
from collections.abc import Mapping

import numpy as np
import scipy.sparse

from .family import adjoint
from .inequality import Inequality

Maps = Mapping[int, np.ndarray | None]
"""A linear map of x by block; None is the identity."""


@dataclasses.dataclass(frozen=True, eq=False)
class Rows:
    """Slope constraints of one block: `block` is the one that answers; `variable` counts in the vector of unknowns."""

    block: int
    maps: Mapping[int, np.ndarray]
    lower: np.ndarray
    upper: np.ndarray
    variable: np.ndarray
    kept: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Metric:
    """K^H (X kron diag(weights)) K, where the upper triangle of X, or its diagonal alone, starts at `first` in the
    vector of unknowns."""

    maps: Maps
    channels: int
    weights: tuple[float, ...]
    first: int
    diagonal: bool = False

    @property
    def copies(self) -> int:
        return len(self.weights)

    @functools.cached_property
    def triangle(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows and columns of the entries that are unknowns."""
        own = np.arange(self.channels)
        return (own, own) if self.diagonal else np.triu_indices(self.channels)

    @property
    def unknowns(self) -> slice:
        return slice(self.first, self.first + len(self.triangle[0]))

    def symmetric(self, x: np.ndarray) -> np.ndarray:
        """X."""
        a, b = self.triangle
        result = np.zeros((self.channels, self.channels))
        result[a, b] = result[b, a] = x[self.unknowns]
        return result


@dataclasses.dataclass(frozen=True, eq=False)
class Cone:
    """One stack of `members` matrices of order offsets[-1]; `constant`: K with M_0 = -K^H K, or None for zero."""

    members: int
    offsets: tuple[int, ...]
    rows: tuple[Rows, ...]
    metrics: tuple[Metric, ...]
    constant: Maps | None
    unknowns: int

    @property
    def order(self) -> int:
        return self.offsets[-1]

    def _part(self, j: int) -> slice:
        return slice(self.offsets[j], self.offsets[j + 1])

    def _times(self, maps: Maps, x: np.ndarray) -> np.ndarray:
        parts = [x[:, self._part(j)] if a is None else a @ x[:, self._part(j)] for j, a in maps.items()]
        return functools.reduce(np.add, parts)

    def _stacked(self, x: np.ndarray) -> np.ndarray:
        """H X: all p, then all q, then the K_t."""
        result = np.empty((len(x), self._height, x.shape[2]), dtype=np.result_type(x, self._kind))
        p, q = 0, self._count
        for rows in self.rows:
            size = len(rows.lower)
            image, answer = self._times(rows.maps, x), x[:, self._part(rows.block)]
            everywhere = len(rows.kept) == size
            for start, slopes in ((p, rows.lower), (q, rows.upper)):
                part = result[:, start : start + size]
                np.multiply(image, -slopes[:, None], out=part)
                if everywhere:
                    part += answer
                else:
                    part[:, rows.kept] += answer
            p, q = p + size, q + size
        for metric, place in zip(self.metrics, self._slices, strict=True):
            result[:, place] = self._times(metric.maps, x)
        return result

    @property
    def _height(self) -> int:
        return 2 * self._count + sum(metric.channels * metric.copies for metric in self.metrics)

    def forms(self, x: np.ndarray) -> np.ndarray:
        """H X H^H for a Hermitian stack X."""
        return adjoint(self._stacked(adjoint(self._stacked(x))))

    @functools.cached_property
    def _count(self) -> int:
        return sum(len(rows.lower) for rows in self.rows)

    @functools.cached_property
    def _kind(self) -> type[float] | type[complex]:
        """Of the entries of M."""
        maps = [*(rows.maps for rows in self.rows), *(metric.maps for metric in self.metrics), self.constant or {}]
        return complex if any(np.iscomplexobj(a) for part in maps for a in part.values() if a is not None) else float

    @functools.cached_property
    def _gather(self) -> scipy.sparse.csr_array:
        """Sums over the rows of each unknown, (unknowns, rows)."""
        variable = np.concatenate([rows.variable for rows in self.rows]) if self.rows else np.zeros(0, dtype=int)
        shape = (self.unknowns, self._count)
        return scipy.sparse.csr_array((np.ones(self._count), (variable, np.arange(self._count))), shape=shape)

    @functools.cached_property
    def _slices(self) -> list[slice]:
        ends = np.cumsum([2 * self._count, *(metric.channels * metric.copies for metric in self.metrics)])
        return [slice(int(a), int(b)) for a, b in itertools.pairwise(ends)]

    def matrix(self, x: np.ndarray, homogeneous: bool = False) -> np.ndarray:
        """M(x); without M_0 if `homogeneous`."""
        m = np.zeros((self.members, self.order, self.order), dtype=self._kind)
        for rows in self.rows:
            lam, own = x[rows.variable], self._part(rows.block)
            m[:, np.arange(own.start, own.stop), np.arange(own.start, own.stop)] += 2 * lam[rows.kept]
            coupling, product = lam * (rows.lower + rows.upper), 2 * lam * rows.lower * rows.upper
            for j, a in rows.maps.items():
                value = -coupling[rows.kept, None] * a[:, rows.kept]
                m[:, own, self._part(j)] += value
                m[:, self._part(j), own] += adjoint(value)
                if np.any(product):
                    for i, b in rows.maps.items():
                        m[:, self._part(i), self._part(j)] += adjoint(b) @ (product[:, None] * a)
        for metric in self.metrics:
            weight = np.kron(metric.symmetric(x), np.diag(metric.weights))
            self._add_gram(m, metric.maps, weight)
        if self.constant is not None and not homogeneous:
            self._add_gram(m, self.constant, None)
        return m

    def multiply(self, x: np.ndarray, right: np.ndarray) -> np.ndarray:
        """(M(x) - M_0) R for a stack R, from the maps as they are."""
        result = np.zeros(right.shape, dtype=np.result_type(right, self._kind))
        for rows in self.rows:
            lam, own = x[rows.variable], self._part(rows.block)
            answer, image = right[:, own], self._times(rows.maps, right)
            coupling, product = lam * (rows.lower + rows.upper), 2 * lam * rows.lower * rows.upper
            result[:, own] += 2 * lam[rows.kept, None] * answer - coupling[rows.kept, None] * image[:, rows.kept]
            back = product[:, None] * image
            back[:, rows.kept] -= coupling[rows.kept, None] * answer
            for j, a in rows.maps.items():
                result[:, self._part(j)] += adjoint(a) @ back
        for metric in self.metrics:
            weight = np.kron(metric.symmetric(x), np.diag(metric.weights))
            image = weight @ self._times(metric.maps, right)
            for j, b in metric.maps.items():
                result[:, self._part(j)] += image if b is None else adjoint(b) @ image
        return result

    def _add_gram(self, m: np.ndarray, maps: Maps, weight: np.ndarray | None) -> None:
        """Adds K^H weight K, or -K^H K."""
        for i, b in maps.items():
            for j, a in maps.items():
                if weight is None:
                    value = -(adjoint(_whole(b, self, i)) @ _whole(a, self, j))
                else:
                    right = weight if a is None else weight @ a
                    value = right if b is None else adjoint(b) @ right
                m[:, self._part(i), self._part(j)] += value

    def cost(self, y: np.ndarray) -> float:
        """-<M_0, Y>."""
        if self.constant is None:
            return 0.0
        left = adjoint(self._times(self.constant, y))
        return float(np.einsum("fii->", self._times(self.constant, left)).real)

    def gradient(self, forms: np.ndarray) -> np.ndarray:
        """<F_i, X> for every unknown, given the forms of X."""
        r = self._count
        values = np.einsum("fii->i", forms[:, r : 2 * r, :r]).real
        return self._collected(values, [forms[:, part, part] for part in self._slices])

    def gradient_at(self, x: np.ndarray) -> np.ndarray:
        """The same given a Hermitian stack X itself, for less than its forms cost."""
        values = [np.zeros(0)]
        for rows in self.rows:
            left = -rows.lower[:, None] * self._times(rows.maps, x)
            left[:, rows.kept] += x[:, self._part(rows.block)]
            value = np.zeros(len(rows.lower))
            value[rows.kept] = np.einsum("fii->i", left[:, rows.kept, self._part(rows.block)]).real
            for j, a in rows.maps.items():
                value -= rows.upper * np.einsum("fri,fri->r", left[:, :, self._part(j)], np.conj(a)).real
            values.append(value)
        squares = [self._times(metric.maps, adjoint(self._times(metric.maps, x))) for metric in self.metrics]
        return self._collected(np.concatenate(values), squares)

    def _collected(self, values: np.ndarray, squares: list[np.ndarray]) -> np.ndarray:
        """By unknown, from p_r X q_r^H by row and K X K^H by metric."""
        result: np.ndarray = self._gather @ (2 * values)
        for metric, square in zip(self.metrics, squares, strict=True):
            g = np.einsum("fanbn,n->ab", _split(square, metric, metric), metric.weights).real
            a, b = metric.triangle
            result[metric.unknowns] += np.where(a == b, 1, 2) * (g[a, b] + g[b, a]) / 2
        return result

    def schur(self, z: np.ndarray, y: np.ndarray) -> np.ndarray:
        """trace(F_i Z F_j Y), given the forms of Z and Y."""
        r = self._count
        p, q = slice(0, r), slice(r, 2 * r)

        def paired(left: np.ndarray, right: np.ndarray) -> np.ndarray:
            """sum_f Re(left_ij right_ji)."""
            value: np.ndarray = np.einsum("fij,fji->ij", left, right).real
            return value

        own = paired(z[:, q, p], y[:, q, p]) + paired(z[:, q, q], y[:, p, p])
        own += paired(z[:, p, p], y[:, q, q]) + paired(z[:, p, q], y[:, p, q])
        result = np.asarray(self._gather @ (self._gather @ own).T)
        for t, (metric, part) in enumerate(zip(self.metrics, self._slices, strict=True)):
            cross = _mixed(z[:, q, part], y[:, part, p], metric) + _mixed(z[:, p, part], y[:, part, q], metric)
            cross = self._gather @ cross
            result[:, metric.unknowns] += cross
            result[metric.unknowns, :] += cross.T
            for other, place in list(zip(self.metrics, self._slices, strict=True))[: t + 1]:
                value = _metrics(z[:, part, place], y[:, place, part], metric, other)
                result[metric.unknowns, other.unknowns] += value
                if other is not metric:
                    result[other.unknowns, metric.unknowns] += value.T
        return result


def inequality_cone(head: Inequality, metric: Metric) -> Cone:
    """An inequality whose input is measured by `metric`, which comes first among its unknowns, on every pixel."""
    first = len(metric.triangle[0])
    ends = [first, *(first + int(end) for end in np.cumsum([c.groups for c in head.constraints]))]
    rows = tuple(Rows(k, {j: a[None] for j, a in c.maps.items()}, c.lower, c.upper,
                      np.arange(c.rows) // c.coupled + ends[k - 1], np.arange(c.rows)[c.answering])
                 for k, c in enumerate(head.constraints, start=1))
    energy = dataclasses.replace(metric, maps={0: None}, weights=(1.0,) * (head.input_size // metric.channels), first=0)
    output = {j: c[None] for j, c in head.output.items()}
    return Cone(1, head.offsets, rows, (energy,), output, ends[-1])


def _whole(a: np.ndarray | None, cone: Cone, j: int) -> np.ndarray:
    return np.eye(cone.offsets[j + 1] - cone.offsets[j])[None] if a is None else a


def _split(x: np.ndarray, left: Metric, right: Metric) -> np.ndarray:
    return x.reshape((len(x), left.channels, left.copies, right.channels, right.copies))


def _mixed(z: np.ndarray, y: np.ndarray, metric: Metric) -> np.ndarray:
    """trace(p^H q Z F_ab Y) over rows and entries of X: z = (rows, K), y = (K, rows)."""
    left = z.reshape((len(z), z.shape[1], metric.channels, metric.copies)) * np.array(metric.weights)
    right = y.reshape((len(y), metric.channels, metric.copies, y.shape[2]))
    g = np.einsum("fran,fbnr->rab", left, right, optimize=True).real
    a, b = metric.triangle
    value: np.ndarray = (g[:, a, b] + g[:, b, a]) * np.where(a == b, 0.5, 1.0)
    return value


def _metrics(z: np.ndarray, y: np.ndarray, metric: Metric, other: Metric) -> np.ndarray:
    """trace(F_ab Z F_cd Y) over entries of two symmetric matrices: z = K Z K'^H, y = K' Y K^H."""
    c, d = metric.channels, other.channels
    weighted = _split(z, metric, other) * np.array(metric.weights)[:, None, None] * np.array(other.weights)
    left = weighted.transpose(1, 3, 0, 2, 4).reshape((c * d, -1))
    right = _split(y, other, metric).transpose(1, 3, 0, 4, 2).reshape((d * c, -1))
    t = (left @ right.T).real.reshape((c, d, d, c))  # b, c, d, a
    (a, b), (e, f) = metric.triangle, other.triangle
    a, b = a[:, None], b[:, None]
    value = t[b, e, f, a] + t[a, e, f, b] + t[b, f, e, a] + t[a, f, e, b]
    weight = np.where(a == b, 0.5, 1.0) * np.where(e == f, 0.5, 1.0)
    result: np.ndarray = weight * value
    return result
