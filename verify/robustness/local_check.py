"""The checker of what holds on a region: slopes by interval arithmetic, then the inequality with these slopes."""

import dataclasses
import math

import numpy as np
from flint import arb

from ..assembly import matrix_in_double
from ..certificate import Certificate
from ..check import neuron_terms
from ..constraints import Rows, is_zero
from ..positive_definite import proved_in_double
from .local_rows import condensed, projected, restricted
from .local_slopes import Ends
from .margins import radius
from .outputs import difference
from .region import Centre, LocalNetwork, Region, Zonotope

# No network of float64 weights needs more, see `netgain.verify.check`.
_LARGEST_EXPONENT = 2**20


@dataclasses.dataclass(frozen=True, eq=False)
class LocalClaim:
    """What is claimed of a network on a region around a centre.

    **Attributes:** `from_centre`: whether slopes, and with them gains, are those between the centre and any point of
    the region, and not between any two; `slopes`: by activation; `gains`: by class j that of f_p - f_j, p being the
    class of the centre; or, of all outputs, under -1. Their multipliers belong to the rows of `local_rows.restricted`.
    """

    region: Region
    from_centre: bool
    slopes: tuple[Ends, ...]
    gains: dict[int, Certificate]


def gain_proved(rows: Rows, row: np.ndarray | None, gain: Certificate) -> bool:
    """Whether the multipliers prove the gain of row^T f (of f for None) for enclosed rows, in double precision."""
    own = projected(rows, row)
    if all(is_zero(c) for c in own.output.values()):
        return 0 <= gain.value < math.inf
    arrays = gain.multipliers
    sizes = [(len(layer.lower),) for layer in own.activations]
    if not (
        0 < gain.value < math.inf
        and [array.shape for array in arrays] == sizes
        and all(array.dtype == np.float64 and np.all(np.isfinite(array)) and np.all(array >= 0) for array in arrays)
        and len(gain.exponents) == len(own.sizes)
        and all(abs(e) <= _LARGEST_EXPONENT for e in (*gain.exponents, gain.output_exponent))
    ):
        return False
    fewer = condensed(own)
    # With fewer inputs it is quicker, but a little is lost.
    for given in (own,) if fewer is own else (fewer, own):
        matrix = matrix_in_double(neuron_terms(gain, given))
        if matrix is not None and proved_in_double(*matrix, len(given.sizes)):
            return True
    return False


def slopes_proved(network: LocalNetwork, centre: Centre, claim: LocalClaim) -> Zonotope | None:
    """The zonotope of the region, if it shows that all slopes lie where the claim says; else None."""
    if not (0 < claim.region.radius < math.inf) or len(claim.slopes) != len(network.neurons):
        return None
    try:
        zonotope = network.zonotope(centre, claim.region)
    except OverflowError:  # a region so large shows nothing
        return None
    slopes = network.slopes(zonotope, claim.from_centre)
    for own, claimed, known in zip(slopes, claim.slopes, zonotope.known, strict=True):
        if any(end.shape != own[0].shape for end in claimed):
            return None
        within = (claimed[0] <= own[0]) & (own[1] <= claimed[1])
        if not (np.all(within | known.any) and np.all(claimed[0] <= claimed[1]) and np.all(np.isfinite(claimed))):
            return None
    return zonotope


def region_gain_proved(network: LocalNetwork, x: np.ndarray, claim: LocalClaim) -> bool:
    """Whether the gain of all outputs holds between any two points of the region around x."""
    if claim.from_centre or set(claim.gains) != {-1}:
        return False
    return (slopes_proved(network, network.centre(x), claim) is not None
            and gain_proved(restricted(network.enclosed, claim.slopes), None, claim.gains[-1]))


def radius_proved(network: LocalNetwork, x: np.ndarray, predicted: int, margins: np.ndarray, claim: LocalClaim,
                  claimed: float) -> bool:
    """Whether the class predicted at x is kept within the radius claimed.

    **Arguments:** `margins`: proved lower bounds of f_p - f_j at x, inf for j = p.
    """
    if not claim.from_centre or not 0 <= claimed <= claim.region.radius:
        return False
    zonotope = slopes_proved(network, network.centre(x), claim)
    if zonotope is None:
        return False
    rows = restricted(network.enclosed, claim.slopes)
    for j, margin in enumerate(margins.tolist()):
        if j == predicted:
            continue
        row, gain = difference(len(margins), predicted, j), claim.gains.get(j)
        if gain is None:
            if not arb(margin) + arb(network.least_change(zonotope, row)) > 0:
                return False
        elif not (gain_proved(rows, row, gain) and claimed <= radius(margin, gain.value)):
            return False
    return True
