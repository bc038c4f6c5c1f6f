"""Unknowns in a chain: w_1, w_2, .., where what knows all of w_k knows at most the first entries of w_(k+1) besides."""

import dataclasses
import functools
import itertools
from collections.abc import Sequence

import numpy as np

from .schur import Solve, scaled_cholesky


@dataclasses.dataclass(frozen=True, eq=False)
class Chain:
    """The unknowns of cones that share some with their neighbours alone, as `netgain.solvers.cone_problem` asks for.

    The Schur matrix is block tridiagonal then: eliminating w_1, w_2, .. in order changes the first entries of the next
    block alone.

    **Attributes:** `places`: of each cone's unknowns; `blocks`: where w_k starts, and the number of all; `shared`: how
    many entries of w_k are known to the cones of w_(k-1).
    """

    places: tuple[slice, ...]
    blocks: tuple[int, ...]
    shared: tuple[int, ...]

    def parts(self, x: np.ndarray) -> list[np.ndarray]:
        return [x[place] for place in self.places]

    def total(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        result = np.zeros(self.blocks[-1])
        for place, part in zip(self.places, parts, strict=True):
            result[place] += part
        return result

    def factorised(self, parts: Sequence[np.ndarray], diagonal: np.ndarray) -> Solve | None:
        """By blocks, from w_1 on."""
        sizes = np.diff(self.blocks)
        own = [np.diag(diagonal[a:b]) for a, b in itertools.pairwise(self.blocks)]
        beside = [np.zeros((size, shared)) for size, shared in zip(sizes[:-1], self.shared[1:], strict=True)]
        for place, part in zip(self.places, parts, strict=True):
            k = int(np.searchsorted(self.blocks, place.start, side="right")) - 1
            first = place.start - self.blocks[k]
            inner = min(place.stop, self.blocks[k + 1]) - place.start
            own[k][first : first + inner, first : first + inner] += part[:inner, :inner]
            if inner < len(part):
                beside[k][first : first + inner] += part[:inner, inner:]
                own[k + 1][: len(part) - inner, : len(part) - inner] += part[inner:, inner:]
        solves: list[Solve] = []
        behind: list[np.ndarray] = []
        for k, matrix in enumerate(own):
            solve = scaled_cholesky(matrix)
            if solve is None:
                return None
            solves.append(solve)
            if k + 1 < len(own):
                behind.append(solve(beside[k]))
                own[k + 1][: self.shared[k + 1], : self.shared[k + 1]] -= beside[k].T @ behind[k]
        return functools.partial(self._solve, solves, beside, behind)

    def _solve(self, solves: list[Solve], beside: list[np.ndarray], behind: list[np.ndarray],
               right: np.ndarray) -> np.ndarray:
        parts = [right[a:b].copy() for a, b in itertools.pairwise(self.blocks)]
        for k, solve in enumerate(solves):
            parts[k] = solve(parts[k])
            if k + 1 < len(parts):
                parts[k + 1][: self.shared[k + 1]] -= beside[k].T @ parts[k]
        for k in range(len(parts) - 2, -1, -1):
            parts[k] -= behind[k] @ parts[k + 1][: self.shared[k + 1]]
        return np.concatenate(parts)
