"""The linear map u -> y that fixed slopes give, and its adjoint, for a batch of slopes at once."""

import abc
import dataclasses
from collections.abc import Sequence
from typing import Self

import numpy as np

from .inequality import Inequality, SlopeConstraint


def normalised(x: np.ndarray) -> np.ndarray:
    """Rows of length 1; rows of zeros stay."""
    unit: np.ndarray = x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), np.finfo(np.float64).tiny)
    return unit


class Slopes(abc.ABC):
    """D of one layer, for each member of a batch."""

    @abc.abstractmethod
    def apply(self, v: np.ndarray) -> np.ndarray:
        """D v, shape (batch, n)."""

    @abc.abstractmethod
    def apply_transposed(self, w: np.ndarray) -> np.ndarray:
        """D^T w, shape (batch, n)."""

    @abc.abstractmethod
    def respond(self, left: np.ndarray, right: np.ndarray) -> Self:
        """The D that maximises left^T D right; as before where that is 0 for all."""

    @abc.abstractmethod
    def move(self, left: np.ndarray, right: np.ndarray, step: np.ndarray) -> Self:
        """The projection of D + step * gradient on the admissible D, for the gradient of left^T D right."""

    @abc.abstractmethod
    def take(self, members: np.ndarray) -> Self:
        """The batch of these members."""

    @abc.abstractmethod
    def where(self, chosen: np.ndarray, other: Self) -> Self:
        """This where chosen (shape (batch,)), the other elsewhere."""

    @abc.abstractmethod
    def join(self, other: Self) -> Self:
        """Both batches, one after the other."""

    @abc.abstractmethod
    def recombine(self, mothers: np.ndarray, fathers: np.ndarray, mutation: float, rng: np.random.Generator) -> Self:
        """Each slope from one of two members at random; then up to the fraction `mutation` of them changed."""

    @abc.abstractmethod
    def matrix(self) -> np.ndarray:
        """D of the first member: its diagonal, or its blocks of shape (groups, size, size)."""


def _choices(shape: tuple[int, ...], mutation: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Fair coins, and coins that fall with a probability drawn for each member from [0, mutation]."""
    rate = mutation * rng.uniform(size=(shape[0],) + (1,) * (len(shape) - 1))
    return rng.uniform(size=shape) < 0.5, rng.uniform(size=shape) < rate


@dataclasses.dataclass(frozen=True, eq=False)
class Diagonal(Slopes):
    """D = diag(values) with lower <= values <= upper; `values` has shape (batch, n)."""

    values: np.ndarray
    lower: np.ndarray
    upper: np.ndarray

    def apply(self, v: np.ndarray) -> np.ndarray:
        return _product(self.values, v)

    def apply_transposed(self, w: np.ndarray) -> np.ndarray:
        return _product(self.values, w)

    def respond(self, left: np.ndarray, right: np.ndarray) -> Self:
        gradient = left * right
        ends = np.where(gradient > 0, self.upper, np.where(gradient < 0, self.lower, self.values))
        return dataclasses.replace(self, values=ends)

    def move(self, left: np.ndarray, right: np.ndarray, step: np.ndarray) -> Self:
        moved = np.clip(self.values + step[:, None] * left * right, self.lower, self.upper)
        return dataclasses.replace(self, values=moved)

    def take(self, members: np.ndarray) -> Self:
        return dataclasses.replace(self, values=self.values[members])

    def where(self, chosen: np.ndarray, other: Self) -> Self:
        return dataclasses.replace(self, values=np.where(chosen[:, None], self.values, other.values))

    def join(self, other: Self) -> Self:
        return dataclasses.replace(self, values=np.concatenate([self.values, other.values]))

    def recombine(self, mothers: np.ndarray, fathers: np.ndarray, mutation: float, rng: np.random.Generator) -> Self:
        from_mother, changed = _choices((len(mothers), self.values.shape[1]), mutation, rng)
        values = np.where(from_mother, self.values[mothers], self.values[fathers])
        return dataclasses.replace(self, values=np.where(changed, self.lower + self.upper - values, values))

    def matrix(self) -> np.ndarray:
        diagonal: np.ndarray = self.values[0]
        return diagonal


@dataclasses.dataclass(frozen=True, eq=False)
class Coupled(Slopes):
    """D = c + a b^T r in every group, |a| and |b| at most 1, both of shape (batch, groups, size).

    The best response to any left and right has this form, so no other U is needed. `centre`, `radius` and `kept` have
    shape (1, groups, size). c is constant within a group; `kept` is 1 in rows that have an answer, and a is 0 in the
    others: what they ask for adds to how far the answers may be from c v.
    """

    a: np.ndarray
    b: np.ndarray
    centre: np.ndarray
    radius: np.ndarray
    kept: np.ndarray

    def _grouped(self, x: np.ndarray) -> np.ndarray:
        return x.reshape((len(x), *self.a.shape[1:]))

    def _times(self, x: np.ndarray, onto: np.ndarray, along: np.ndarray) -> np.ndarray:
        grouped = self._grouped(x)
        result: np.ndarray = onto * np.sum(along * grouped, axis=-1, keepdims=True)
        result += self.centre * self.kept * grouped
        return result.reshape(x.shape)

    def apply(self, v: np.ndarray) -> np.ndarray:
        return self._times(v, self.a, self.radius * self.b)

    def apply_transposed(self, w: np.ndarray) -> np.ndarray:
        return self._times(w, self.radius * self.b, self.a)

    def respond(self, left: np.ndarray, right: np.ndarray) -> Self:
        # left^T U right is largest at U = left right^T / (|left| |right|).
        a, b = normalised(self.kept * self._grouped(left)), normalised(self.radius * self._grouped(right))
        live = np.any(a, axis=-1, keepdims=True) & np.any(b, axis=-1, keepdims=True)
        return dataclasses.replace(self, a=np.where(live, a, self.a), b=np.where(live, b, self.b))

    def move(self, left: np.ndarray, right: np.ndarray, step: np.ndarray) -> Self:
        # Steps inside the ball of U would leave rank one; the best response is never worse to first order.
        return self.respond(left, right)

    def take(self, members: np.ndarray) -> Self:
        return dataclasses.replace(self, a=self.a[members], b=self.b[members])

    def where(self, chosen: np.ndarray, other: Self) -> Self:
        mask = chosen[:, None, None]
        return dataclasses.replace(self, a=np.where(mask, self.a, other.a), b=np.where(mask, self.b, other.b))

    def join(self, other: Self) -> Self:
        return dataclasses.replace(self, a=np.concatenate([self.a, other.a]), b=np.concatenate([self.b, other.b]))

    def recombine(self, mothers: np.ndarray, fathers: np.ndarray, mutation: float, rng: np.random.Generator) -> Self:
        from_mother, changed = _choices((len(mothers), self.a.shape[1], 1), mutation, rng)
        a, b = (np.where(from_mother, x[mothers], x[fathers]) for x in (self.a, self.b))
        mutated = normalised(self.kept * rng.standard_normal(a.shape))
        return dataclasses.replace(self, a=np.where(changed, mutated, a), b=b)

    def matrix(self) -> np.ndarray:
        size = self.a.shape[-1]
        blocks: np.ndarray = self.a[0, :, :, None] * (self.radius * self.b)[0, :, None, :]
        blocks += (self.centre * self.kept)[0, :, :, None] * np.eye(size)
        return blocks


@dataclasses.dataclass(frozen=True, eq=False)
class Passage:
    """One pass through the layers: the increments `at` each nonlinear layer and at the `end`.

    Forwards `at` holds v_k (right) and `end` is y; backwards `at` holds the adjoints of z_k (left), 0 in rows that have
    no answer, and `end` is J^T p.
    """

    at: list[np.ndarray]
    end: np.ndarray
    slopes: list[Slopes]


class SlopeSystem:
    """J(D) of an inequality. Vectors have a leading batch axis; slopes of batch 1 serve a batch of vectors."""

    def __init__(self, inequality: Inequality):
        self.inequality = inequality
        self._maps = [{j: np.ascontiguousarray(a) for j, a in c.maps.items()} for c in inequality.constraints]
        self._output = dict(inequality.output)

    def forward(self, slopes: Sequence[Slopes], q: np.ndarray, left: Sequence[np.ndarray] | None = None) -> Passage:
        """y = J q. With `left` every layer first takes its best response to it, in the order of the pass."""
        z, right, used = [q], [], []
        for k, (maps, layer) in enumerate(zip(self._maps, slopes, strict=True)):
            v = _total([z[j] @ a.T for j, a in maps.items()])
            if left is not None:
                layer = layer.respond(left[k], v)
            right.append(v)
            used.append(layer)
            z.append(layer.apply(v)[:, self.inequality.constraints[k].answering])
        return Passage(right, _total([z[j] @ c.T for j, c in self._output.items()]), used)

    def backward(self, slopes: Sequence[Slopes], p: np.ndarray, right: Sequence[np.ndarray] | None = None) -> Passage:
        """J^T p, likewise from the last layer to the first."""
        adjoints = [np.zeros((len(p), size)) for size in self.inequality.sizes]
        for j, c in self._output.items():
            adjoints[j] = p @ c
        used, at = list(slopes), []
        for k, constraint in reversed(list(enumerate(self.inequality.constraints))):
            left = adjoints[k + 1]
            if constraint.kept is not None:
                left = np.zeros((len(p), constraint.rows))
                left[:, constraint.kept] = adjoints[k + 1]
            if right is not None:
                used[k] = slopes[k].respond(left, right[k])
            at.append(left)
            w = used[k].apply_transposed(left)
            for j, a in self._maps[k].items():
                adjoints[j] = adjoints[j] + w @ a
        return Passage(at[::-1], adjoints[0], used)

    def gain(self, slopes: Sequence[Slopes], q: np.ndarray) -> np.ndarray:
        """|J q| / |q|, shape (batch,); 0 for q = 0."""
        gain: np.ndarray = np.linalg.norm(self.forward(slopes, normalised(q)).end, axis=1)
        return gain

    def jacobian(self, slopes: Sequence[Slopes]) -> np.ndarray:
        """J of slopes of batch 1, shape (n_y, n_0)."""
        outputs, inputs = self.inequality.output_size, self.inequality.input_size
        if outputs < inputs:
            return self.backward(slopes, np.eye(outputs)).end
        return self.forward(slopes, np.eye(inputs)).end.T


def _product(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    result: np.ndarray = x * y
    return result


def _total(parts: list[np.ndarray]) -> np.ndarray:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def random_slopes(constraint: SlopeConstraint, weights: np.ndarray, rng: np.random.Generator) -> Slopes:
    """Slopes lower + weight * (upper - lower) with `weights` of shape (batch, n); coupled groups start at random U."""
    lower, upper = constraint.lower, constraint.upper
    if constraint.coupled == 1:
        return Diagonal(lower + weights * (upper - lower), lower, upper)
    grouped = (1, constraint.groups, constraint.coupled)
    kept = np.zeros(constraint.rows)
    kept[constraint.answering] = 1
    # c^2 - alpha beta = r^2: a row that answers 0 leaves the others what its constraint has to spare.
    radius = np.sqrt(np.where(kept > 0, ((upper - lower) / 2) ** 2, -lower * upper))
    a, b = (rng.standard_normal((len(weights), *grouped[1:])) for _ in range(2))
    kept = kept.reshape(grouped)
    centre = ((lower + upper) / 2).reshape(grouped)
    return Coupled(normalised(kept * a), normalised(b), centre, radius.reshape(grouped), kept)
