"""Linear state-space models over sequences: the layers of S4D, S5, LRU and their relatives, without nonlinearity."""

import dataclasses
from typing import Any

import numpy as np

from .arithmetic import FLOAT, Arithmetic, Array
from .errors import ModelError, ShapeError
from .layer import LinearLayer, Shape, one_input, parameter
from .shift_invariant import Stencil


@dataclasses.dataclass(frozen=True, eq=False)
class StateSpace(LinearLayer):
    """x_{t+1} = A x_t + B u_t, y_t = C x_t + D u_t + bias, for t = 0, 1, .., with x_0 = `initial_state`.

    The input has shape (channels, length), time last, and the output likewise. Increments start from x_0 = 0.

    **Arguments:** `A`: shape (N, N); or the diagonal, shape (N,); or blocks along the diagonal, shape (N / n, n, n).
    `B`: shape (N, channels); `C`: shape (out, N); `D`: shape (out, channels), or None for zero; `bias`: shape (out,),
    or None; `initial_state`: shape (N,), or None for zero.
    """

    A: np.ndarray
    B: np.ndarray
    C: np.ndarray
    D: np.ndarray | None = None
    bias: np.ndarray | None = None
    initial_state: np.ndarray | None = None

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is not None or field.name in "ABC":
                object.__setattr__(self, field.name, parameter(value, field.name))
        if self.B.ndim != 2 or self.C.ndim != 2 or 0 in (*self.B.shape, *self.C.shape):
            raise ShapeError("B has shape (states, channels) and C (out, states), neither empty, got "
                             f"{self.B.shape} and {self.C.shape}.")
        (states, channels), out = self.B.shape, self.C.shape[0]
        forms = {1: (states,), 2: (states, states)}
        block = self.A.shape[-1] if self.A.ndim == 3 else 1
        if not block or self.A.shape != forms.get(self.A.ndim, (states // block, block, block)) or states % block:
            raise ShapeError(f"A has shape {self.A.shape}, expected a matrix {states} x {states}, {states} entries of "
                             "its diagonal, or square blocks that make it up, since B has as many rows.")
        expected = {"C": (out, states), "D": (out, channels), "bias": (out,), "initial_state": (states,)}
        wrong = [f"{name} has shape {getattr(self, name).shape}, expected {shape}" for name, shape in expected.items()
                 if getattr(self, name) is not None and getattr(self, name).shape != shape]
        if wrong:
            raise ShapeError(f"With {states} states: {'; '.join(wrong)}.")

    @classmethod
    def from_modes(
        cls,
        eigenvalues: Any,
        B: Any,
        C: Any,
        D: Any = None,
        bias: Any = None,
        *,
        conjugate_pairs: bool = False,
    ) -> "StateSpace":
        """The real model of complex modes x_{t+1} = diag(eigenvalues) x_t + B u_t, y_t = Re(C x_t) + D u_t + bias.

        With `conjugate_pairs` each mode stands for itself and its conjugate, so that y_t = 2 Re(C x_t) + D u_t + bias,
        as in S4D. The states are Re x_1, Im x_1, Re x_2, Im x_2, .. : with an eigenvalue r + iw, the block of A is
        (r, -w; w, r), the rows of B are Re B and Im B, and the columns of C are Re C and -Im C. Nothing is rounded.

        **Arguments:** `eigenvalues`: of the discretised model, shape (modes,); `B`: shape (modes, channels); `C`: shape
        (out, modes); `D`, `bias`: real, or None.
        """
        (r, w), (b_real, b_imaginary), (c_real, c_imaginary) = (
            _parts(values, name) for values, name in ((eigenvalues, "eigenvalues"), (B, "B"), (C, "C")))
        if r.ndim != 1 or b_real.ndim != 2 or c_real.ndim != 2 or not len(r) == len(b_real) == c_real.shape[1]:
            raise ShapeError("Modes have shapes (modes,), (modes, channels) and (out, modes), got "
                             f"{r.shape}, {b_real.shape} and {c_real.shape}.")
        blocks = np.stack([np.stack([r, -w], axis=1), np.stack([w, r], axis=1)], axis=1)
        rows = np.stack([b_real, b_imaginary], axis=1).reshape(-1, b_real.shape[1])
        factor = 2.0 if conjugate_pairs else 1.0
        columns = factor * np.stack([c_real, -c_imaginary], axis=2).reshape(len(c_real), -1)
        return cls(blocks, rows, columns, D, bias)

    def output_shape(self, *shapes: Shape) -> Shape:
        shape = one_input(self, shapes)
        if len(shape) != 2 or shape[0] != self.B.shape[1]:
            raise ShapeError(f"A state-space model of {self.B.shape[1]} channels takes an input of shape "
                             f"({self.B.shape[1]}, length), got {shape}.")
        return (len(self.C), shape[1])

    def _respond(self, u: Array, initial: np.ndarray, arithmetic: Arithmetic) -> Array:
        """The output without bias, from the state `initial` on."""
        u = np.moveaxis(u, 1, 2)
        start = np.broadcast_to(arithmetic.constant(initial), (len(u), 1, len(initial)))
        inflow = arithmetic.matmul(u[:, :-1], self.B.T) if u.shape[1] > 1 else start[:, :0]
        states = _accumulated(self.A, np.concatenate([start, inflow], axis=1), arithmetic)
        y = arithmetic.matmul(states, self.C.T)
        return np.moveaxis(y if self.D is None else y + arithmetic.matmul(u, self.D.T), 2, 1)

    def apply(self, x: Array, position: int, shapes: tuple[Shape, ...], arithmetic: Arithmetic = FLOAT) -> Array:
        return self._respond(x, np.zeros(len(self.B)), arithmetic)

    def apply_transposed(self, y: np.ndarray, position: int, shapes: tuple[Shape, ...]) -> np.ndarray:
        # s_t = C^T y_t + A^T s_{t+1}, backwards in time, and u_t = D^T y_t + B^T s_{t+1}.
        y = np.moveaxis(y, 1, 2)
        transposed = self.A.swapaxes(-1, -2) if self.A.ndim > 1 else self.A
        adjoint: np.ndarray = _accumulated(transposed, (y @ self.C)[:, ::-1], FLOAT)[:, ::-1]
        u = np.concatenate([adjoint[:, 1:], np.zeros_like(adjoint[:, :1])], axis=1) @ self.B
        return np.moveaxis(u if self.D is None else u + y @ self.D, 2, 1)

    def impulse_response(self, length: int, arithmetic: Arithmetic = FLOAT) -> Array:
        """D, C B, C A B, .., C A^(length - 2) B, shape (length, out, channels)."""
        channels = self.B.shape[1]
        impulses = np.zeros((channels, channels, length))
        impulses[:, :, 0] = np.eye(channels)
        return np.moveaxis(self.apply(impulses, 0, ((channels, length),), arithmetic), 0, 2).swapaxes(0, 1)

    def unrolled(self, position: int, shapes: tuple[Shape, ...], arithmetic: Arithmetic = FLOAT) -> Array:
        channels, length = shapes[0]
        response = self.impulse_response(length, arithmetic)
        zero = arithmetic.constant(np.zeros((1, *response.shape[1:])))
        # (time of the impulse, time of the response, out, channels); before the impulse there is no response.
        lags = np.subtract.outer(np.arange(length), np.arange(length)).T
        blocks = np.concatenate([response, zero])[np.where(lags >= 0, lags, length)]
        return blocks.transpose(3, 0, 2, 1).reshape((channels * length, len(self.C), length))

    def stencil(self, position: int, shapes: tuple[Shape, ...], arithmetic: Arithmetic = FLOAT) -> Stencil:
        length = shapes[0][1]
        return Stencil(-np.arange(length)[:, None], self.impulse_response(length, arithmetic), (1,))

    def forward(self, *inputs: Array, arithmetic: Arithmetic = FLOAT) -> Array:
        (u,) = inputs
        self.output_shape(tuple(u.shape[1:]))
        initial = np.zeros(len(self.B)) if self.initial_state is None else self.initial_state
        y = self._respond(u, initial, arithmetic)
        return y if self.bias is None else y + arithmetic.constant(self.bias[:, None])

    def offset(self) -> np.ndarray | None:
        """The bias; what the initial state contributes depends on time, and enters in `forward` alone."""
        return None if self.bias is None else self.bias[:, None]

    def describe(self) -> str:
        return f"StateSpace {self.B.shape[1]} -> {len(self.C)}, {len(self.B)} states"


def _parts(values: Any, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Real and imaginary part, as they are."""
    given = np.asarray(values)
    if given.dtype.kind not in "cfiu":
        raise ModelError(f"`{name}` has dtype {given.dtype}, expected numbers.")
    return parameter(given.real, name), parameter(given.imag, name)


def _accumulated(A: np.ndarray, inflow: Array, arithmetic: Arithmetic) -> Array:
    """x_t = inflow_t + A x_{t-1} from x_{-1} = 0 on, for inflow of shape (batch, length, states).

    After j rounds, each entry holds the contributions of the last 2^j times. That takes more products than step by step
    but all are of depth log2(length). Balls grow with depth: those around a rotation by a factor of up to sqrt(2) in
    every product.
    """
    power, reach = arithmetic.constant(A), 1
    while reach < inflow.shape[1]:
        if reach > 1:
            power = _squared(power, arithmetic)
        later = inflow[:, reach:] + _product(power, inflow[:, :-reach], arithmetic)
        inflow = np.concatenate([inflow[:, :reach], later], axis=1)
        reach *= 2
    return inflow


def _squared(power: Array, arithmetic: Arithmetic) -> Array:
    if power.ndim == 1:
        return power * power
    if power.ndim == 2:
        return arithmetic.matmul(power, power)
    return (power[:, :, :, None] * power[:, None, :, :]).sum(axis=2)


def _product(power: Array, x: Array, arithmetic: Arithmetic) -> Array:
    """The matrix times x along its last axis."""
    if power.ndim == 1:
        return x * power
    if power.ndim == 2:
        return arithmetic.matmul(x, power.T)
    blocks = x.reshape((*x.shape[:-1], len(power), 1, power.shape[2]))
    return (blocks * power).sum(axis=-1).reshape(x.shape)
