r"""A lower bound on the optimum from any positive semidefinite Y, feasible or not.

Read Y as the covariance of a random x = (u, z_1, .., z_l). Dual feasibility, <F_i, Y> <= 0, says that w = z - c v, the
part of each answer that is not the middle slope's, has variance at most r^2 times that of v (c and r: centre and radius
of the slope interval). Passing through the layers in order, w is regressed on the cut under Y, rebuilt on the cut's new
covariance, and rescaled neuron by neuron so that the variances match exactly. The result is feasible, equals Y where Y
was, and its objective bounds rho from below at every iteration.

An implicit layer hears its own answer, v = A x + A_kk z, so that what v varies changes with the factors of w; they are
lowered until they fit.
"""

import itertools

import numpy as np
from scipy.linalg.lapack import dpotrf, dpotrs

from .inequality import Inequality, SlopeConstraint, side_by_side

# Of the factors of an implicit layer: first either way, then only down, until they fit to this.
_FREE_ATTEMPTS, _MOST_ATTEMPTS = 3, 40
_FIT = 1e-12


def dual_bound(inequality: Inequality, y: np.ndarray) -> float:
    """<C^T C, Y'> / <E, Y'> for the feasible Y' made from Y; at most the least rho, up to rounding."""
    alive = [0]
    rows = [slice(start, stop) for start, stop in itertools.pairwise(inequality.offsets)]
    cut = y[rows[0], rows[0]]
    energy = float(np.trace(cut))
    sizes, last_use = inequality.sizes, inequality.last_use
    for k, constraint in enumerate(inequality.constraints, start=1):
        read = np.concatenate([np.arange(rows[j].start, rows[j].stop) for j in alive])
        a = side_by_side(constraint.maps, alive, sizes, constraint.rows)
        centre = (constraint.lower + constraint.upper) / 2
        middle = (centre[:, None] * a)[constraint.answering]
        known, across = y[np.ix_(read, read)], y[rows[k]][:, read]
        own = y[rows[k], rows[k]]
        if k in constraint.maps:
            before = np.eye(constraint.rows) - centre[:, None] * constraint.maps[k]
            across, own = before @ across, before @ own @ before.T
        own = _residual(own, across, middle, known)
        regression, noise = _regress(known, across - middle @ known, own)
        present = np.einsum("ij,ij->i", regression @ cut, regression) + np.einsum("ii->i", noise)
        if k in constraint.maps:
            answer, noise = _heard(constraint, constraint.maps[k], a, middle, regression, noise, cut, present)
        else:
            allowed = _weight(constraint) * np.einsum("ij,ij->i", a @ cut, a)
            factor = _rescaling(allowed, present, constraint)
            answer, noise = middle + factor[:, None] * regression, factor[:, None] * noise * factor
        cross = answer @ cut
        own = cross @ answer.T + noise
        keep = np.flatnonzero(np.repeat([last_use[j] > k for j in alive], [sizes[j] for j in alive]))
        alive = [j for j in alive if last_use[j] > k]
        if last_use[k] == k:
            cut = cut[np.ix_(keep, keep)]
            continue
        alive.append(k)
        cut = np.block([[cut[np.ix_(keep, keep)], cross[:, keep].T], [cross[:, keep], own]]) if keep.size else own
    c = side_by_side(inequality.output, alive, sizes, inequality.output_size)
    return max(float(np.einsum("ij,ij->", c @ cut, c)) / energy, 0.0)


def _residual(own: np.ndarray, across: np.ndarray, middle: np.ndarray, known: np.ndarray) -> np.ndarray:
    """The covariance of z - c v under Y."""
    cross = middle @ across.T
    residual: np.ndarray = own - cross - cross.T + middle @ known @ middle.T
    return residual


def _regress(known: np.ndarray, across: np.ndarray, own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """B and the covariance of w - B x; any B keeps the bound valid, the best one keeps it tight."""
    root, failed = dpotrf(known, lower=1)
    regression = np.zeros_like(across) if failed else dpotrs(root, across.T, lower=1)[0].T
    cross = regression @ across.T
    return regression, own - cross - cross.T + regression @ known @ regression.T


def _weight(constraint: SlopeConstraint) -> np.ndarray:
    """How much a row's v^2 adds to what w^2 may be: r^2, or -alpha beta = r^2 - c^2 where z is 0, and w is -c v."""
    weight: np.ndarray = -constraint.lower * constraint.upper
    own = constraint.answering
    weight[own] = ((constraint.upper - constraint.lower)[own] / 2) ** 2
    return weight


def _heard(
    constraint: SlopeConstraint, loop: np.ndarray, a: np.ndarray, middle: np.ndarray, regression: np.ndarray,
    noise: np.ndarray, cut: np.ndarray, present: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """What an implicit layer makes of x, and the covariance of what it adds, with factors of w that are feasible."""
    weight, centre = _weight(constraint), (constraint.lower + constraint.upper) / 2
    echo = np.linalg.inv(np.eye(len(loop)) - centre[:, None] * loop)
    heard, factor = loop @ echo, np.ones(len(loop))
    for attempt in range(_MOST_ATTEMPTS):
        inner = middle + factor[:, None] * regression
        coefficients, scaled = a + heard @ inner, factor[:, None] * noise * factor
        allowed = weight * (np.einsum("ij,ij->i", coefficients @ cut, coefficients)
                            + np.einsum("ij,ij->i", heard @ scaled, heard))
        ratio = _rescaling(allowed, factor**2 * present, constraint)
        ratio = np.where(present > 0, ratio, 1.0)
        if attempt >= _FREE_ATTEMPTS and np.min(ratio) >= 1 - _FIT:
            return echo @ inner, echo @ scaled @ echo.T
        factor = factor * (ratio if attempt < _FREE_ATTEMPTS else np.minimum(ratio, 1.0))
    # The middle slopes alone are feasible too.
    return echo @ middle, np.zeros_like(noise)


def _rescaling(allowed: np.ndarray, present: np.ndarray, constraint: SlopeConstraint) -> np.ndarray:
    coupled, own = constraint.coupled, constraint.answering
    if coupled > 1:
        whole = np.zeros(constraint.rows)
        whole[own] = present
        allowed = np.repeat(allowed.reshape(-1, coupled).sum(axis=1), coupled)[own]
        present = np.repeat(whole.reshape(-1, coupled).sum(axis=1), coupled)[own]
    ratio = np.divide(allowed, present, out=np.zeros_like(allowed), where=present > 0)
    factor: np.ndarray = np.sqrt(np.maximum(ratio, 0.0))
    return factor
