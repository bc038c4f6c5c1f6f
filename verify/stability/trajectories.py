r"""Two trajectories of a block with one input whose distance grows: an example that a person can run.

For frozen slopes D with an eigenvalue of I + h D A outside the unit circle, preactivations v are sought whose own
slopes are D: v = 0 where s has its largest slope, far out where it has its least. The start x and the input u solve
A x + B u + C = v as nearly as possible; the other start lies a little off, along the eigenvector. Both are then run for
some steps in ball arithmetic, on exactly the weights of the file.
"""

import dataclasses
import math

import numpy as np
from netgain.layers import StableBlock
from netgain.layers.layer import Shape
from scipy.sparse.linalg import LinearOperator, lsqr

from ..balls import BALLS, lower, precision

_BITS = 128
# An example that needs no more.
_ENOUGH = 1e6
_MOST_ITERATIONS = 1000
_SIZES = (0.0, 1.0, 10.0, 1000.0)


@dataclasses.dataclass(frozen=True, eq=False)
class Trajectories:
    """`starts`: two states, shape (2, *state); `input`: u, shape (*input); `steps`: how often both are advanced."""

    starts: np.ndarray
    input: np.ndarray
    steps: int


def proved_expansion(block: StableBlock, pair: Trajectories) -> float:
    """|x_k - x'_k| / |x_0 - x'_0| after k = `steps` steps, Euclidean norms, rounded down; 0 for equal starts."""
    # A stage widens balls by its moduli, however much it contracts, so that the bits lost are those of a norm.
    widest = 1 + block.step * max(float(np.sum(np.abs(a), axis=tuple(range(1, a.ndim))).max()) for a in block.states)
    with precision(_BITS + math.ceil(pair.steps * math.log2(2 * widest))):
        x, u = BALLS.constant(pair.starts), BALLS.constant(np.stack([pair.input, pair.input]))

        def square(states: np.ndarray) -> object:
            return sum(((a - b) * (a - b) for a, b in zip(states[0].ravel(), states[1].ravel(), strict=True)), start=0)

        before = square(x)
        for k in range(pair.steps):
            x = block.advance(x, u, k, BALLS)
        if not before > 0:  # type: ignore[operator]
            return 0.0
        return max(lower((square(x) / before).sqrt()), 0.0)  # type: ignore[operator]


def diverging(
    block: StableBlock, input_shape: Shape, slopes: np.ndarray, steps: int, vector: np.ndarray | None = None
) -> Trajectories:
    """The pair found that moves apart most within at most so many steps, in floating point.

    **Arguments:** `vector`: an eigenvector of I + h D A to an eigenvalue of largest modulus; without it one is computed
    from the matrices written out.
    """
    shape, (least, most) = block.state_shape(input_shape), block.slopes
    if vector is None:
        a = block.matrices(input_shape)[0]
        values, vectors = np.linalg.eig(np.eye(len(a)) + block.step * slopes[:, None] * a)
        vector = vectors[:, int(np.argmax(np.abs(values)))]
    directions = [part / np.linalg.norm(part) for part in (vector.real, vector.imag) if np.linalg.norm(part) > 1e-8]
    reads = _reads(block, input_shape)
    offset = block.stage(0)[2]
    c = 0.0 if offset is None else np.broadcast_to(offset.reshape((-1,) + (1,) * (len(shape) - 1)), shape).ravel()
    probe = np.array([-1e3, -1e-9, 1e-9, 1e3])
    # On which side of zero, and how far out, s has a slope close to the one wanted.
    sides = np.asarray(np.diff(block.activation.value(np.add.outer([0.0, 1e-10], probe)), axis=0)[0] / 1e-10)
    best: tuple[float, Trajectories] | None = None
    for size in _SIZES:
        target = np.array([_preactivation(slope, probe, sides, least, most) for slope in slopes]) * max(size, 1e-12)
        joint = lsqr(reads, target - c, atol=1e-13, btol=1e-13, iter_lim=_MOST_ITERATIONS)[0]
        start, u = joint[: len(target)], joint[len(target) :]
        for direction in directions:
            for distance in (1e-6, 1e-3, 1.0):
                starts = np.stack([start, start + distance * direction])
                found = _longest(block, starts.reshape(2, *shape), u.reshape(input_shape), steps)
                if best is None or found[0] > best[0]:
                    best = found
    assert best is not None
    return best[1]


def _reads(block: StableBlock, input_shape: Shape) -> LinearOperator:
    """(x, u) -> A x + B u."""
    shape = block.state_shape(input_shape)
    n, m = math.prod(shape), math.prod(input_shape)
    a, b, _ = block.stage(0)
    paths = [(block.linear(weight, None, source), source) for weight, source in ((a, shape), (b, input_shape))]

    def forward(z: np.ndarray) -> np.ndarray:
        total = np.zeros(n)
        for (layers, source), part in zip(paths, (z.ravel()[:n], z.ravel()[n:]), strict=True):
            value = part.reshape(1, *source)
            for layer in layers:
                value = layer.apply(value, 0, (tuple(value.shape[1:]),))
            total += value.ravel()
        return total

    def backward(v: np.ndarray) -> np.ndarray:
        parts = []
        for layers, source in paths:
            shapes = [source]
            for layer in layers:
                shapes.append(layer.output_shape(shapes[-1]))
            value = v.reshape(1, *shape)
            for layer, before in zip(reversed(layers), reversed(shapes[:-1]), strict=True):
                value = layer.apply_transposed(value, 0, (before,))
            parts.append(value.ravel())
        return np.concatenate(parts)

    return LinearOperator((n, n + m), matvec=forward, rmatvec=backward, dtype=np.float64)


def _longest(block: StableBlock, starts: np.ndarray, u: np.ndarray, steps: int) -> tuple[float, Trajectories]:
    """The number of steps, up to `steps`, after which the distance has grown most."""
    x, inputs = starts, np.stack([u, u])
    first = float(np.linalg.norm(x[0] - x[1]))
    best, at = 0.0, 1
    for k in range(steps):
        x = block.advance(x, inputs, k)
        ratio = float(np.linalg.norm(x[0] - x[1])) / first
        if not np.isfinite(ratio):
            break
        if ratio > best:
            best, at = ratio, k + 1
        if ratio > _ENOUGH:
            break
    return best, Trajectories(starts, u, at)


def _preactivation(slope: float, probe: np.ndarray, sides: np.ndarray, least: float, most: float) -> float:
    """A value of +-1 or 0 to be scaled: where s has about this slope."""
    if slope >= (least + most) / 2 and abs(sides[1] - sides[2]) < 1e-3 and sides[1] > (least + most) / 2:
        return 0.0  # as for tanh, whose slope is largest at zero
    return float(np.sign(probe[int(np.argmin(np.abs(sides - slope)))]))
