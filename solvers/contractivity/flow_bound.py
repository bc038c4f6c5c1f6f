r"""How far apart the flow can carry two solutions in time T: bounds on the Lipschitz constant of the flow map.

Differences follow Phi' = J(D(t)) Phi, so |Phi(T)| <= exp(mu* T). Sharper is a time-varying metric P(t) = e^{2c(T-t)}
Q(t) with Q(T) >= I: where w_i = delta_i a_i^T x, |delta_i| <= 1, stands for the slopes,

    [ Q' - 2cQ + Q(B + r0 E A) + (.)^T + A^T Lam A    r Q E ]
    [ r E^T Q                                         -Lam  ]  <= 0          for all t

makes x^T P x nonincreasing along the flow, hence |Phi(T)|^2 <= e^{2cT} lambda_max(Q(0)). With Q and Lam linear on each
of K pieces of [0, T] the inequality is affine in t, so its 2K end points suffice: it is sound for the continuous flow,
without an Euler error. Q = I gives back exp(cT), so nothing is lost against the semidefinite bound c. A constant Q is
a metric in which the flow contracts at rate c for all times.
"""

import dataclasses

import numpy as np

from ..convex_problem import cp, solve, solved
from ..inequality import Inequality, SlopeConstraint
from .logarithmic_norm import Array, SlopeField
from .sdp import upper_bound


@dataclasses.dataclass(frozen=True, eq=False)
class FlowBound:
    """|Phi(T)| <= `value`, in floating point, by metrics and multipliers.

    **Attributes:** `duration`: T; `rate`: c; `metrics`: Q at the K + 1 ends of pieces, shape (K + 1, n, n), the last
    one I; `multipliers`: Lam at both ends of each piece, shape (K, 2, k).
    """

    value: float
    duration: float
    rate: float
    metrics: Array
    multipliers: Array


def flow_bound(field: SlopeField, duration: float, pieces: int = 8) -> FlowBound:
    """The best bound of this form with c the semidefinite bound of the logarithmic norm, by Clarabel through cvxpy.

    **Raises:** `ValueError` for a duration or number of pieces that is not positive; `RuntimeError` if the solver
    fails.
    """
    if not duration > 0 or pieces < 1:
        raise ValueError(f"`duration` and `pieces` must be positive, got {duration!r} and {pieces!r}.")
    # In units of time in which the field has a size near one.
    field, exponent = field.normalised()
    rate = upper_bound(field).value
    n, k, step = field.size, field.neurons, float(np.ldexp(duration, exponent)) / pieces
    metrics = [*(cp.Variable((n, n), symmetric=True) for _ in range(pieces)), cp.Constant(np.eye(n))]
    multipliers = [[cp.Variable(k, nonneg=True) for _ in range(2)] for _ in range(pieces)]
    rho = cp.Variable()
    constraints = [metrics[0] << rho * np.eye(n)]
    for piece, ends in enumerate(multipliers):
        rise = (metrics[piece + 1] - metrics[piece]) / step
        for end, lam in enumerate(ends):
            constraints.append(_inequality(field, metrics[piece + end], lam, rate) + _corner(rise, k) << 0)
    problem = cp.Problem(cp.Minimize(rho), constraints)
    solve(problem, f"the flow of order {n} in {pieces} pieces")
    found = np.array([metric.value for metric in metrics])
    found = (found + np.swapaxes(found, 1, 2)) / 2
    lams = np.array([[np.maximum(lam.value, 0) for lam in ends] for ends in multipliers])
    largest = float(np.linalg.eigvalsh(found[0])[-1])
    rate = float(np.ldexp(rate, exponent))
    value = float(np.sqrt(largest) * np.exp(rate * duration))
    return FlowBound(value, duration, rate, found, np.ldexp(lams, -exponent))


def _inequality(field: SlopeField, q, lam, rate: float):  # type: ignore[no-untyped-def]  # cvxpy's expressions
    centre = field.centre * (field.dense_outputs @ field.inputs)
    centre = centre if field.linear is None else centre + field.linear
    product, side = q @ centre, field.radius * (q @ field.dense_outputs)
    corner = product + product.T - 2 * rate * q + field.inputs.T @ cp.diag(lam) @ field.inputs
    block = cp.bmat([[corner, side], [side.T, -cp.diag(lam)]])
    return (block + block.T) / 2


def _corner(matrix, k: int):  # type: ignore[no-untyped-def]
    """The matrix, followed by k rows and columns of zeros."""
    n = matrix.shape[0]
    place = np.vstack([np.eye(n), np.zeros((k, n))])
    return place @ matrix @ place.T


@dataclasses.dataclass(frozen=True, eq=False)
class ContractionMetric:
    """x^T P J(D) x <= `rate` x^T P x for every D in the box: |Phi(T)| <= sqrt(condition) e^{rate T} for all T.

    **Attributes:** `metric`: P >= I, shape (n, n); `multipliers`: Lam, shape (k,); `condition`: lambda_max(P).
    """

    rate: float
    metric: Array
    multipliers: Array
    condition: float


def contraction_metric(field: SlopeField, most_condition: float = 100.0, tolerance: float = 1e-5,
                       diagonal: bool = False) -> ContractionMetric:
    """The least rate over metrics I <= P <= most_condition I, by bisection: for a given rate it is a matrix inequality.

    **Arguments:** `tolerance`: of the rate, absolute; `diagonal`: only diagonal P.

    **Raises:** `ValueError` for a `most_condition` below 1.
    """
    if not most_condition >= 1:
        raise ValueError(f"`most_condition` must be at least 1, got {most_condition!r}.")
    field, exponent = field.normalised()
    tolerance = float(np.ldexp(tolerance, -exponent))
    n, k = field.size, field.neurons
    p = cp.diag(cp.Variable(n)) if diagonal else cp.Variable((n, n), symmetric=True)
    lam, slack, rate = cp.Variable(k, nonneg=True), cp.Variable(), cp.Parameter()
    block = _inequality(field, p, lam, 0.0) - 2 * _corner(rate * p, k)
    constraints = [p >> np.eye(n), p << most_condition * np.eye(n), block << slack * np.eye(n + k), slack >= -1]
    problem = cp.Problem(cp.Minimize(slack), constraints)
    plain = upper_bound(field)
    best = ContractionMetric(plain.value, np.eye(n), 2 * plain.multipliers, 1.0)
    low, high = -float(np.linalg.norm(field.jacobian(np.full(k, field.centre)), 2)) * 2, plain.value
    while high - low > tolerance:
        rate.value = (low + high) / 2
        if solved(problem, f"a metric of order {n} at the rate {rate.value!r}") and slack.value <= 0:
            high = float(rate.value)
            metric = (p.value + p.value.T) / 2
            values = np.linalg.eigvalsh(metric)
            multipliers = np.maximum(lam.value, 0) / values[0]
            best = ContractionMetric(high, metric / values[0], multipliers, float(values[-1] / values[0]))
        else:
            low = float(rate.value)
    return dataclasses.replace(best, rate=float(np.ldexp(best.rate, exponent)),
                               multipliers=np.ldexp(best.multipliers, -exponent))


def euler_inequality(field: SlopeField, step: float, steps: int) -> Inequality:
    """The Lipschitz problem of `steps` explicit Euler steps u <- u + h (B u + E sigma(A u + b)), a residual network.

    Block 0 is u_0 and block j the output of the activation in step j; u after each step is their linear combination.
    """
    if not step > 0 or steps < 1:
        raise ValueError(f"`step` and `steps` must be positive, got {step!r} and {steps!r}.")
    one = np.eye(field.size)
    advance = one if field.linear is None else one + step * field.linear
    state: dict[int, Array] = {0: one}
    constraints = []
    for j in range(1, steps + 1):
        maps = {block: field.inputs @ part for block, part in state.items()}
        ends = (np.full(field.neurons, field.lower), np.full(field.neurons, field.upper))
        constraints.append(SlopeConstraint(maps, *ends))
        state = {block: advance @ part for block, part in state.items()} | {j: step * field.dense_outputs}
    return Inequality(field.size, tuple(constraints), state)
