r"""The barrier -log det M about a point: quadratic, but exact on the few directions that a step changes most.

With Z = M^{-1}, g_i = <F_i, Z>, H_ij = trace(F_i Z F_j Z) and columns V with V^T M V = I, a step x + dx is modelled by

    <c, dx> / mu - <g, dx> + <dx, H dx> / 2 + psi(W),    W = V^T dM V,    psi(W) = -log det(I + W) + tr W - |W|^2 / 2,

where dM = sum_i dx_i F_i. It is convex, and the more accurate the smaller dM is across V: along the central path nearly
all eigenvalues of M move alike, and V holds those that do not, by Ritz vectors of dM relative to M. A quadratic model
alone would shorten every step on account of these few.

Where the model is stationary, <F_i, Y> = c_i for

    Y = mu (Z - Z dM Z + V R V^T),    R = -grad psi(W) = (I + W)^{-1} - I + W >= 0,

so Y is feasible for the dual problem if Y >= 0, which is M - dM + (M V) R (M V)^T >= 0.
"""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np
import scipy.linalg
from scipy.linalg.lapack import dpotrf

from .block_matrix import Blocks, Factor, apply
from .newton_system import NewtonSystem
from .schur import Solve
from .structure import Structure

Operator = Callable[[np.ndarray], np.ndarray]

_NEWTON_STEPS = 60
_ACCURACY = 1e-9


@dataclasses.dataclass(frozen=True, eq=False)
class Directions:
    """The directions V = L^{-T} Q with orthonormal Q, and what the model needs of them.

    **Attributes:** `pairs`: <F_i, v_a v_b^T> for all a <= b, shape (unknowns, pairs); `solved`: H^{-1} of these.
    """

    system: NewtonSystem
    factor: Factor
    solve: Solve
    q: np.ndarray
    v: np.ndarray
    pairs: np.ndarray
    solved: np.ndarray

    @classmethod
    def none(cls, system: NewtonSystem, factor: Factor, solve: Solve, unknowns: int) -> "Directions":
        order = factor.structure.size
        return cls(system, factor, solve, *(np.zeros((rows, 0)) for rows in (order, order, unknowns, unknowns)))

    @property
    def count(self) -> int:
        return len(self.q.T)

    def extended(self, q: np.ndarray) -> "Directions":
        """With the part of these directions that is new."""
        q = q - self.q @ (self.q.T @ q)
        # Pivots, since what follows a column of zeros would be made orthogonal to anything, and no longer to self.q.
        root, triangle, _ = scipy.linalg.qr(q - self.q @ (self.q.T @ q), mode="economic", pivoting=True)
        root = root[:, np.abs(np.diag(triangle)) > 1e-6]
        q = np.hstack([self.q, root])
        v = np.hstack([self.v, self.factor.solve_upper(root)])
        a, b = (index[self.pairs.shape[1] :] for index in _all_pairs(q.shape[1]))
        pairs = self.system.pairs(v, a, b)
        return dataclasses.replace(self, q=q, v=v, pairs=np.hstack([self.pairs, pairs]),
                                   solved=np.hstack([self.solved, self.solve(pairs)]))

    @functools.cached_property
    def _gram(self) -> np.ndarray:
        gram: np.ndarray = self.pairs.T @ self.solved
        return gram

    def step(self, newton: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """The minimiser dx of the model and R, given the Newton step, the minimiser of its quadratic part.

        With w the entries of W, it is dx = newton + solved R(w) where w = pairs^T dx: a system in w alone, solved by
        damped Newton steps. None if these fail.
        """
        a, b = _all_pairs(self.count)
        twice, identity = np.where(a == b, 1.0, 2.0), np.eye(self.count)
        wanted, w = self.pairs.T @ newton, np.zeros(len(a))

        def residual(w: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
            whole = np.zeros((self.count, self.count))
            whole[a, b] = whole[b, a] = w
            root, failed = dpotrf(identity + whole, lower=1)
            if failed:
                return None
            half = np.linalg.inv(np.tril(root))
            inverse = half.T @ half
            r = inverse - identity + whole
            return w - self._gram @ (twice * r[a, b]) - wanted, r, inverse

        current = residual(w)
        for _ in range(_NEWTON_STEPS):
            assert current is not None  # the identity is positive definite, and so is what is accepted below
            error, r, inverse = current
            size = float(np.linalg.norm(error))
            if size <= _ACCURACY * (1 + float(np.linalg.norm(wanted))):
                return newton + self.solved @ (twice * r[a, b]), r
            change = inverse[a[:, None], a] * inverse[b[:, None], b] + inverse[a[:, None], b] * inverse[b[:, None], a]
            jacobian = self._gram @ (twice[:, None] * (change * np.where(a == b, 0.5, 1.0) - np.eye(len(a))))
            jacobian[np.diag_indices(len(a))] += 1
            direction, length = np.linalg.solve(jacobian, -error), 1.0
            current = residual(w + direction)
            while current is None or np.linalg.norm(current[0]) > (1 - 0.1 * length) * size:
                length /= 2
                if length < 1e-6:
                    return None
                current = residual(w + length * direction)
            w = w + length * direction
        return None


def _all_pairs(count: int) -> tuple[np.ndarray, np.ndarray]:
    """(a, b) with a <= b, in an order in which those of fewer directions come first."""
    b, a = np.tril_indices(count)
    return a, b


def relative(step: Blocks, factor: Factor) -> Operator:
    """L^{-1} dM L^{-T}, for M = L L^T."""
    return lambda v: factor.solve_lower(apply(step, factor.solve_upper(v[:, None]), factor.structure))[:, 0]


def ritz(operator: Operator, order: int, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Ritz values, ascending, and vectors of a symmetric operator by the Lanczos method.

    A few dozen steps find the eigenvalues that stand apart at either end.
    """
    steps = min(steps, order)
    basis = np.empty((order, steps))
    diagonal, beside = np.zeros(steps), np.zeros(steps)
    v = np.random.default_rng(0).standard_normal(order)
    v /= np.linalg.norm(v)
    for k in range(steps):
        basis[:, k] = v
        image = operator(v)
        diagonal[k] = v @ image
        for _ in range(2):
            image -= basis[:, : k + 1] @ (basis[:, : k + 1].T @ image)
        beside[k] = np.linalg.norm(image)
        if beside[k] <= 1e-12 * (1 + np.abs(diagonal[: k + 1]).max()):
            steps = k + 1
            break
        v = image / beside[k]
    tridiagonal = np.diag(diagonal[:steps]) + np.diag(beside[: steps - 1], 1) + np.diag(beside[: steps - 1], -1)
    values, vectors = np.linalg.eigh(tridiagonal)
    return values, basis[:, :steps] @ vectors


def is_positive(matrix: Blocks, u: np.ndarray, s: Structure) -> bool:
    """Whether matrix + U U^T is positive definite and the leading diagonal blocks of `matrix` are even without U."""
    work, u, inner = dict(matrix), u.copy(), np.eye(u.shape[1])
    leading = next((k for k in range(s.blocks) if not s.diagonal[k]), s.blocks)
    for k in range(leading):
        diagonal = np.einsum("ii->i", work[k, k])
        if not np.all(diagonal > 0):
            return False
        own = u[s.rows[k]] / diagonal[:, None]
        inner += u[s.rows[k]].T @ own
        coupled = [i for i in s.later[k] if (i, k) in work]
        for position, i in enumerate(coupled):
            u[s.rows[i]] -= work[i, k] @ own
            scaled = work[i, k] / diagonal
            for j in coupled[: position + 1]:
                work[i, j] = work.get((i, j), 0.0) - scaled @ work[j, k].T
    first = s.offsets[leading]
    rest = np.zeros((s.size - first, s.size - first))
    for (i, j), block in work.items():
        if j >= leading:
            rows, columns = (slice(s.rows[k].start - first, s.rows[k].stop - first) for k in (i, j))
            rest[rows, columns] = block
    rest += u[first:] @ np.linalg.solve(inner, u[first:].T)
    return not dpotrf(rest, lower=1, clean=0, overwrite_a=1)[1]


def root_of(matrix: np.ndarray) -> np.ndarray:
    """B with B B^T = matrix >= 0."""
    values, vectors = np.linalg.eigh(matrix)
    result: np.ndarray = vectors * np.sqrt(np.maximum(values, 0.0))
    return result
