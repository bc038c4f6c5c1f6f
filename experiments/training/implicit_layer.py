r"""The layer x = relu(A x + c) in torch, differentiated at its fixed point, and parametrisations of A.

With D = diag(A x + c > 0), the gradient g of a loss in x becomes w in c and w x^T in A, where w = D (A^T w + g), an
equation of the same kind, solved by the same iteration: the average iteration contracts at the same rate forward and
backward, as (1 - a) I + a A^T D is the transpose of (1 - a) I + a D A. No iterate is stored.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import nn

from .implicit_geometry import Dense, Geometry
from .implicit_recipe import Method

Activation = Callable[[torch.Tensor], torch.Tensor]


class NotConverged(ArithmeticError):
    """A fixed-point iteration reached its limit."""


class Iteration(Protocol):
    """Finds x = activation(x A^T + c), row by row; activation is ReLU, or the multiplication with slopes in [0, 1]."""

    def __call__(self, A: torch.Tensor, c: torch.Tensor, activation: Activation) -> torch.Tensor: ...


@dataclasses.dataclass(frozen=True)
class AverageIteration:
    """x+ = (1 - a) x + a activation(x A^T + c), until an entry of x moves at most `tolerance` (1 + max |x|) / a.

    **Raises:** `NotConverged` after `most` iterations, unless `failures` is a list: then it is told the residual.
    """

    size: float
    tolerance: float = 1e-4
    most: int = 500
    failures: list[float] | None = None

    def __call__(self, A: torch.Tensor, c: torch.Tensor, activation: Activation) -> torch.Tensor:
        x = torch.zeros_like(c)
        for _ in range(self.most):
            residual = activation(torch.addmm(c, x, A.T)) - x
            x = x + self.size * residual
            if _is_small(residual, x, self.tolerance):
                return x
        return _ended(x, residual, self.failures, self.most)


@dataclasses.dataclass(frozen=True)
class PeacemanRachford:
    """Splitting of (I - A) x - c and the subdifferential whose resolvent the activation is; for I - A monotone."""

    size: float
    tolerance: float = 1e-4
    most: int = 500

    def __call__(self, A: torch.Tensor, c: torch.Tensor, activation: Activation) -> torch.Tensor:
        identity = torch.eye(len(A), dtype=A.dtype)
        inverse = torch.linalg.inv(identity + self.size * (identity - A)).T
        z = torch.zeros_like(c)
        x = activation(z)
        for _ in range(self.most):
            reflected = 2 * x - z
            z = torch.addmm(-reflected, reflected + self.size * c, inverse, alpha=2)
            before, x = x, activation(z)
            if _is_small(x - before, x, self.tolerance):
                return x
        return _ended(x, x - before, None, self.most)


def _is_small(residual: torch.Tensor, x: torch.Tensor, tolerance: float) -> bool:
    return bool(residual.abs().max() <= tolerance * (1 + x.abs().max()))


def _ended(x: torch.Tensor, residual: torch.Tensor, failures: list[float] | None, most: int) -> torch.Tensor:
    largest = float(residual.abs().max())
    if failures is None:
        raise NotConverged(f"The residual is {largest:.1e} after {most} iterations.")
    failures.append(largest)
    return x


class _Equilibrium(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(ctx: Any, A: torch.Tensor, c: torch.Tensor, iteration: Iteration) -> torch.Tensor:
        # Averaging leaves a little of an x that was positive before, so that slopes are read off from x A^T + c.
        v = torch.addmm(c, iteration(A, c, torch.relu), A.T)
        x = torch.relu(v)
        ctx.save_for_backward(A, x, (v > 0).to(v.dtype))
        ctx.iteration = iteration
        return x

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:  # type: ignore[override]
        A, x, slopes = ctx.saved_tensors
        # Equations for tiny gradients are scaled, as the tolerance is one for numbers of about 1.
        scale = g.abs().max().clamp_min(1e-30)
        w = ctx.iteration(A.T, g / scale, lambda v: slopes * v) * scale
        return w.T @ x, w, None


def equilibrium(A: torch.Tensor, c: torch.Tensor, iteration: Iteration) -> torch.Tensor:
    """x = relu(x A^T + c) for c of shape (batch, n), differentiable in A and c."""
    x: torch.Tensor = _Equilibrium.apply(A, c, iteration)  # type: ignore[no-untyped-call]
    return x


class ImplicitClassifier(nn.Module):  # type: ignore[misc]
    r"""logits = C x + c, x = relu(A x + B u + b).

    - `nemon`: A = m I + diag(w)^-1 T diag(w) - diag(|T| 1), w = exp(d): all A with mu_eta(A) <= m, eta = 1 / w (arXiv
      2106.03194);
    - `mon`: A = (1 - k) I - P^T P + S - S^T: all A with symmetric part at most (1 - k) I (arXiv 2006.08591);
    - `norm`: rows of T shrunk to |A|_inf <= r (El Ghaoui et al., arXiv 1908.06315);
    - `plain`: A = T, nothing proved of it.

    **Arguments:** `size`: n; `level`: m, k or r; `geometry`: how parameters make the matrices T, P, S and B, by default
    entry by entry.
    """

    def __init__(self, method: Method, inputs: int, size: int, outputs: int, level: float,
                 generator: torch.Generator, geometry: Geometry | None = None) -> None:
        super().__init__()
        self.method, self.level, self.failures = method, level, list[float]()
        self.geometry: Geometry = geometry or Dense(inputs, size)

        def uniform(*shape: int) -> nn.Parameter:
            return nn.Parameter((2 * torch.rand(*shape, generator=generator) - 1) / math.prod(shape[1:])**0.5)

        self.T, self.B = uniform(*self.geometry.square), uniform(*self.geometry.injection)
        self.C = uniform(outputs, self.geometry.neurons)
        self.d = nn.Parameter(torch.zeros(self.geometry.units), requires_grad=method is Method.NEMON)
        self.S = nn.Parameter(uniform(*self.geometry.square).detach(), requires_grad=method is Method.MON)
        self.b, self.c = nn.Parameter(torch.zeros(self.geometry.units)), nn.Parameter(torch.zeros(outputs))

    def matrix(self) -> torch.Tensor:
        """A."""
        T = self.geometry.squared(self.T)
        identity = torch.eye(len(T), dtype=T.dtype)
        if self.method is Method.NEMON:
            w = self.geometry.spread(torch.exp(self.d))
            return self.level * identity + T * w / w[:, None] - torch.diag(self.geometry.row_sums(self.T))
        if self.method is Method.MON:
            S = self.geometry.squared(self.S)
            return (1 - self.level) * identity - T.T @ T + S - S.T
        if self.method is Method.NORM:
            return T * (self.level / T.abs().sum(1, keepdim=True).clamp_min(self.level))
        return T

    def injection(self) -> torch.Tensor:
        """B."""
        return self.geometry.injected(self.B)

    def offset(self) -> torch.Tensor:
        """b."""
        return self.geometry.spread(self.b)

    def iteration(self, A: torch.Tensor) -> Iteration:
        """The iteration that is guaranteed to converge for this A; for `plain` none is."""
        with torch.no_grad():
            if self.method is Method.MON:
                return PeacemanRachford(1.0 / max(1.0, float(torch.linalg.matrix_norm(A, 2)) / 2))
            if self.method is Method.PLAIN:
                return AverageIteration(0.5, most=100, failures=self.failures)
            eta = self.geometry.spread(torch.exp(-self.d))
            diagonal = torch.diagonal(A)
            beside = (A.abs() @ eta) / eta - diagonal.abs()
            above, below = (float((sign * diagonal + beside).max().clamp_min(0)) for sign in (1, -1))
            return AverageIteration(2 / (2 - above + below))

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        A = self.matrix()
        x = equilibrium(A, torch.addmm(self.offset(), u, self.injection().T), self.iteration(A))
        return torch.addmm(self.c, x, self.C.T)

    def worst_logits(self, lower: torch.Tensor, upper: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Upper bounds of y_j - y_label over boxes of u, by the embedded network [[P, N], [N, P]]; 0 at the label."""
        A = self.matrix()
        N = A.clamp_max(0) * (1 - torch.eye(len(A), dtype=A.dtype))
        embedded = torch.cat([torch.cat([A - N, N], 1), torch.cat([N, A - N], 1)])
        B, b = self.injection(), self.offset()
        positive, negative = B.clamp_min(0), B.clamp_max(0)
        c = torch.cat([lower @ positive.T + upper @ negative.T, upper @ positive.T + lower @ negative.T], 1)
        x = equilibrium(embedded, c + torch.cat([b, b]), self.iteration(A))
        low, high = x.chunk(2, dim=1)
        rows = self.C - self.C[labels][:, None]
        worst = rows.clamp_min(0) @ high[..., None] + rows.clamp_max(0) @ low[..., None]
        return worst[..., 0] + self.c - self.c[labels][:, None]

    def lipschitz_bound(self) -> torch.Tensor:
        """max of |C| (I - A^M)^-1 |B| 1, the l_inf bound of the Metzler majorant A^M; where mu_eta(A) < 1 it exists."""
        A = self.matrix()
        off = A.abs() * (1 - torch.eye(len(A), dtype=A.dtype))
        z = torch.linalg.solve(torch.diag(1 - torch.diagonal(A)) - off, self.injection().abs().sum(1))
        bound: torch.Tensor = (self.C.abs() @ z).max()
        return bound

    def surrogate(self) -> torch.Tensor:
        """(|B|^2 + |C|^2) / (2 (1 - max(m, 0))) in the weighted norms, at least the bound |C| |B| / (1 - max(m, 0))."""
        eta = self.geometry.spread(torch.exp(-self.d))
        norms: torch.Tensor = (self.injection().abs().sum(1) / eta).max() ** 2 + (self.C.abs() @ eta).max() ** 2
        halved: torch.Tensor = norms / (2 * (1 - max(self.level, 0.0)))
        return halved
