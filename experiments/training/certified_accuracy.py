r"""How many images of a neural-ODE classifier provably keep their class within a Euclidean ball.

With z the logits and M_ij a proved Lipschitz constant of z_i - z_j, an image of class i keeps it within the radius
min_j (z_i - z_j) / M_ij. Two functions are certified, each by constants of its own:

- the network that runs, with its Euler steps unrolled: M_ij is the semidefinite bound of the residual network with one
  output, proved by the checker;
- the flow of the differential equation: M_ij = |r_i - r_j| e^m |W| for the encoder W, rows r_i of the readout and the
  proved bound m of the integral of the logarithmic norm. Its logits come from many small Euler steps of length h, whose
  path w has the defect w' - f(t, w) of at most (t - t_k) (J |f_k| + L |w_k|) after t_k, J and L being Lipschitz
  constants of f in u (the product of the norms of its matrices) and in t; with rate c >= mu the end is off by at most
  e^{max(c, 0)} sum_k h^2 / 2 (J |f_k| + L |w_k|), which is taken from the margin.

Logits are computed in float64, and margins reduced by 1e-9 of the largest logit, far more than the rounding of them.
"""

import dataclasses

import numpy as np
from netgain.layers import Add, Affine, Graph, GraphBuilder, LeakyRelu, Scale
from netgain.solvers.result import Limits
from netgain.verify import lipschitz
from netgain.verify.balls import precision
from netgain.verify.contractivity.report import ContractivityReport
from netgain.verify.enclosed_matrix import BALLS

from .neural_ode import OdeClassifier

_BITS = 128
_ROUNDING = 1e-9


def condensed(weight: np.ndarray) -> np.ndarray:
    """L of shape (n, n) with W W^T <= L L^T, proved in ball arithmetic, and nearly equal; W has the shape (n, m).

    For every v there is then a y with W v = L y and |y| <= |v| (Douglas, 1966), so a Lipschitz constant of f(L .) is
    one of f(W .), with fewer inputs.

    **Raises:** `ValueError` if it cannot be proved, the numbers being too large or not finite.
    """
    weight = np.asarray(weight, dtype=np.float64)
    gram = weight @ weight.T
    size = float(np.trace(gram))
    if np.isfinite(size) and size > 0:
        for margin in (1e-11, 1e-9, 1e-7):
            try:
                factor = np.linalg.cholesky(gram * (1 + margin) + margin * size * np.eye(len(gram)))
            except np.linalg.LinAlgError:
                continue
            with precision(_BITS):
                left, right = BALLS.exact(factor), BALLS.exact(weight)
                if BALLS.semidefinite({(0, 0): left * left.transpose() - right * right.transpose()}, 1):
                    return np.asarray(factor)
    raise ValueError(f"A weight of shape {weight.shape} and squared norm {size!r} cannot be condensed with proof.")


def spectral_norm_bound(weight: np.ndarray) -> float:
    """A number that is at least |W|_2, proved in ball arithmetic.

    **Raises:** `ValueError` if it cannot be proved, the numbers being too large or not finite.
    """
    weight = np.asarray(weight, dtype=np.float64)
    value = float(np.linalg.norm(weight, 2))
    for margin in (1e-12, 1e-10, 1e-8):
        bound = value * (1 + margin) + 1e-300
        with precision(_BITS):
            matrix = BALLS.exact(weight)
            square = BALLS.diagonal(np.full(len(weight), bound)) * BALLS.diagonal(np.full(len(weight), bound))
            if BALLS.semidefinite({(0, 0): square - matrix * matrix.transpose()}, 1):
                return bound
    raise ValueError(f"The norm of a weight of shape {weight.shape}, {value!r}, cannot be bounded with proof.")


def unrolled(classifier: OdeClassifier, encoder: np.ndarray, readout: np.ndarray) -> Graph:
    """The Euler steps between two linear maps, as a residual network."""
    recipe = classifier.recipe
    dynamics = [array.astype(np.float64) for array in classifier.dynamics]
    builder = GraphBuilder()
    u = builder.add(Affine(encoder, classifier.encoder[1].astype(np.float64)), builder.input((encoder.shape[1],)))
    for k in range(recipe.steps):
        change = u
        for weight, bias in recipe.field.layers_at(dynamics, k / recipe.steps):
            change = builder.add(LeakyRelu(recipe.field.slope), builder.add(Affine(weight, bias), change))
        u = builder.add(Add((1, 1)), u, builder.add(Scale(divisor=float(recipe.steps)), change))
    return builder.build(builder.add(Affine(readout), u), "unrolled")


def network_constants(classifier: OdeClassifier, limits: Limits | None = None) -> np.ndarray:
    """Proved Lipschitz constants of z_i - z_j for the network that runs, shape (classes, classes), 0 for i = j."""
    encoder, readout = condensed(classifier.encoder[0]), classifier.readout[0].astype(np.float64)
    constants = np.zeros((len(readout), len(readout)))
    for i in range(len(readout)):
        for j in range(i):
            # Differences of float32 numbers are mostly float64 numbers; else one ulp is far below the margins' 1e-9.
            graph = unrolled(classifier, encoder, (readout[i] - readout[j])[None])
            found = lipschitz(graph, limits=limits or Limits(tolerance=1e-3), lower_bounds=False)
            constants[i, j] = constants[j, i] = found.upper
    return constants


def flow_constants(classifier: OdeClassifier, log_gain: float) -> np.ndarray:
    """Proved Lipschitz constants of z_i - z_j for the flow whose logarithmic norm has an integral <= `log_gain`."""
    readout = classifier.readout[0].astype(np.float64)
    differences = np.linalg.norm(readout[:, None] - readout[None], axis=2)
    gain = float(np.exp(log_gain)) * spectral_norm_bound(classifier.encoder[0])
    return np.asarray(differences * gain * (1 + 1e-12))


def log_gain_of(report: ContractivityReport) -> float:
    """The proved bound of the logarithm of the flow map's Lipschitz constant over one unit of time."""
    return report.worst.upper if report.log_gain is None else report.log_gain


def certified_radii(logits: np.ndarray, labels: np.ndarray, constants: np.ndarray, errors: np.ndarray | float = 0.0
                    ) -> np.ndarray:
    """The radius within which each image provably keeps its label, 0 where it does not have it; shape (count,).

    **Arguments:** `logits`: (count, classes); `constants`: M; `errors`: what may be off in z_i - z_j, broadcast to
    (count, classes), for the label i of each image.
    """
    count, classes = logits.shape
    own = np.arange(classes) == labels[:, None]
    margins = logits[np.arange(count), labels][:, None] - logits - errors
    margins = margins - _ROUNDING * np.max(np.abs(logits), axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        radii = np.where(margins > 0, margins / constants[labels], 0.0)
    return np.asarray(np.min(np.where(own, np.inf, radii), axis=1))


@dataclasses.dataclass(frozen=True, eq=False)
class FlowLogits:
    """The logits of the flow up to an error of `state_error` (count,) in u(1)."""

    logits: np.ndarray
    state_error: np.ndarray

    def errors(self, classifier: OdeClassifier, labels: np.ndarray) -> np.ndarray:
        """How much z_i - z_j may be off, i being the label; shape (count, classes)."""
        readout = classifier.readout[0].astype(np.float64)
        return np.asarray(self.state_error[:, None] * np.linalg.norm(readout[labels][:, None] - readout[None], axis=2))


def flow_logits(classifier: OdeClassifier, images: np.ndarray, rate: float, substeps: int = 64) -> FlowLogits:
    """Follows the flow from `images`, (count, pixels), by `substeps` steps for each of the recipe's.

    **Arguments:** `rate`: a bound of the logarithmic norm at all times.
    """
    field, steps = classifier.recipe.field, classifier.recipe.steps * substeps
    dynamics = [array.astype(np.float64) for array in classifier.dynamics]
    nodes = field.layers_at(dynamics, 0.0) if dynamics[0].ndim == 2 else [(a, dynamics[1]) for a in dynamics[0]]
    norms = [float(np.linalg.norm(weight, 2)) for weight, _ in nodes]
    in_time = dynamics[0].ndim == 3
    in_state = max(norms) if in_time else float(np.prod(norms))
    speed = float(np.max(np.linalg.norm(np.diff(dynamics[0], axis=0), 2, axis=(1, 2)))) * (len(nodes) - 1) \
        if in_time else 0.0
    u = images.astype(np.float64) @ classifier.encoder[0].T.astype(np.float64) + classifier.encoder[1]
    error = np.zeros(len(u))
    for k in range(steps):
        velocity = u
        for weight, bias in field.layers_at(dynamics, k / steps):
            velocity = velocity @ weight.T + bias
            velocity = np.where(velocity > 0, velocity, field.slope * velocity)
        lengths = in_state * np.linalg.norm(velocity, axis=1) + speed * np.linalg.norm(u, axis=1)
        error += lengths / (2 * steps**2)
        u = u + velocity / steps
    # A relative 1e-6 covers the rounding of the norms and of this sum.
    total = error * np.exp(max(rate, 0.0)) * (1 + 1e-6)
    return FlowLogits(u @ classifier.readout[0].T.astype(np.float64) + classifier.readout[1], total)
