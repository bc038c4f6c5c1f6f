"""Two inputs of a region that exhibit a gain there: what bounds a local Lipschitz constant from below, with proof."""

import numpy as np
from netgain.layers import Graph
from netgain.layers.differential import Linearisation

from ..lower_bound import UndecidedError, prove_witness
from .region import Region, RegionShape

_STARTS, _ROUNDS, _POWER = 24, 30, 4
# Pairs are this far apart, relative to the radius, and leave as much of it to rounding.
_STEP, _INSIDE = 1e-4, 1 - 1e-9


def region_witness(graph: Graph, centre: np.ndarray, region: Region, seed: int = 0) -> float:
    """A gain between two points of the region, proved in ball arithmetic and rounded down; 0 if none was found.

    Random points walk towards larger norms of the Jacobian within the region; the pair lies along the top singular
    vector of the best.
    """
    rng = np.random.default_rng(seed)
    inner = region.radius * (1 - _STEP) * _INSIDE
    du = _projected(rng.standard_normal((_STARTS, *centre.shape)) * region.radius, inner, region.shape)
    du[0] = 0.0
    q = _unit(rng.standard_normal(du.shape))
    gain, q = _gain(graph, centre + du, q, 4 * _POWER)
    for round_ in range(_ROUNDS):
        step = rng.standard_normal(du.shape) * region.radius * 10.0 ** rng.uniform(-2, 0)
        tried = _projected(du + step / (1 + round_ / 10), inner, region.shape)
        found, towards = _gain(graph, centre + tried, q, _POWER)
        better = (found > gain).reshape((-1, *(1,) * centre.ndim))
        gain, du, q = np.maximum(gain, found), np.where(better, tried, du), np.where(better, towards, q)
    best = int(np.argmax(gain))
    # A unit vector of either norm is at most 1 long in both: |q|_inf <= |q|_2.
    half = 0.5 * _STEP * region.radius * _INSIDE * q[best]
    ends = (centre + du[best] + half, centre + du[best] - half)
    if np.array_equal(*ends):
        return 0.0
    try:
        return prove_witness(graph, *ends)
    except UndecidedError:  # equal outputs, as where all neurons are off
        return 0.0


def _gain(graph: Graph, x: np.ndarray, q: np.ndarray, power: int) -> tuple[np.ndarray, np.ndarray]:
    """The norm of the Jacobian at each point from below, and the direction that shows it."""
    here = Linearisation(graph, x)
    for _ in range(power):
        image = here.transpose(here.apply(q))
        q = np.where(np.any(image, axis=tuple(range(1, q.ndim)), keepdims=True), _unit(image), q)
    image = here.apply(q)
    return np.sqrt(np.sum(image**2, axis=tuple(range(1, image.ndim)))), q


def _unit(x: np.ndarray) -> np.ndarray:
    length = np.sqrt(np.sum(x**2, axis=tuple(range(1, x.ndim)), keepdims=True))
    unit: np.ndarray = x / np.maximum(length, np.finfo(np.float64).tiny)
    return unit


def _projected(du: np.ndarray, radius: float, shape: RegionShape) -> np.ndarray:
    """Members brought into the region; of a ball they keep their direction."""
    if shape is RegionShape.BOX:
        return np.asarray(np.clip(du, -radius, radius))
    length = np.sqrt(np.sum(du**2, axis=tuple(range(1, du.ndim)), keepdims=True))
    return np.asarray(du * np.minimum(1.0, radius / np.maximum(length, np.finfo(np.float64).tiny)))
