"""The checker of certificates of robustness: it knows no solver, and takes nothing from the file on trust.

Constants are proved by the checker of Lipschitz bounds, `netgain.verify.check`: those of a pair for the network whose
only output is their difference. From them and from margins in ball arithmetic follows the radius of every input.
"""

import dataclasses
import enum
import math
import time

import numpy as np
from netgain.layers import Graph

from ..check import check
from .certificate import RobustnessCertificate
from .local_check import radius_proved, region_gain_proved
from .margins import margins, radii
from .outputs import constants, pair_graph
from .region import LocalError, LocalNetwork


class Finding(enum.Enum):
    """What the checker found. The value says what it means."""

    PROVED = "All constants and radii hold for these weights."
    OTHER_MODEL = "The certificate belongs to another network: the digests of the layer graphs differ."
    MALFORMED = "The numbers of the certificate do not fit this network, or are negative or not finite."
    CONSTANT_NOT_PROVED = "The multipliers do not prove a claimed Lipschitz constant for these weights."
    RADIUS_NOT_PROVED = "A claimed class or radius does not follow from the constants."
    REGION_NOT_PROVED = "Slopes or a Lipschitz constant claimed for a region are not proved for these weights."


@dataclasses.dataclass(frozen=True)
class RobustnessVerdict:
    """`detail`: which claim failed; `constants`, `samples`, `regions`: how many were proved."""

    finding: Finding
    detail: str
    constants: int
    samples: int
    regions: int
    seconds: float

    @property
    def proved(self) -> bool:
        return self.finding is Finding.PROVED


def check_robustness(certificate: RobustnessCertificate, graph: Graph) -> RobustnessVerdict:
    """Proves all claims of the certificate for the graph, or says which does not hold up."""
    begin = time.perf_counter()
    proved = 0

    def verdict(finding: Finding, detail: str = "", samples: int = 0, regions: int = 0) -> RobustnessVerdict:
        return RobustnessVerdict(finding, detail, proved, samples, regions, time.perf_counter() - begin)

    if certificate.digest != graph.digest:
        return verdict(Finding.OTHER_MODEL)
    shape, classes = graph.shape(graph.input), math.prod(graph.shape(graph.output))
    if any(j >= classes for _, j in certificate.pairs):
        return verdict(Finding.MALFORMED, f"the network has {classes} outputs, pairs are {sorted(certificate.pairs)}")
    for k, claim in enumerate(certificate.samples):
        if not _is_input(claim.x, shape) or not 0 <= claim.predicted < classes or not claim.radius >= 0:
            return verdict(Finding.MALFORMED, f"sample {k}")
    for k, around in enumerate(certificate.regions):
        if not _is_input(around.x, shape):
            return verdict(Finding.MALFORMED, f"region {k}")
    if certificate.overall is not None:
        found = check(certificate.overall, graph)
        if not found.proved:
            return verdict(Finding.CONSTANT_NOT_PROVED, f"the whole output: {found.outcome.value}")
        proved += 1
    for pair, own in certificate.pairs.items():
        found = check(own, pair_graph(graph, pair))
        if not found.proved:
            return verdict(Finding.CONSTANT_NOT_PROVED, f"outputs {pair[0]} and {pair[1]}: {found.outcome.value}")
        proved += 1
    local = any(claim.local for claim in certificate.samples) or certificate.regions
    try:
        network = LocalNetwork(graph) if local else None
    except LocalError as error:
        return verdict(Finding.MALFORMED, str(error))
    if certificate.samples:
        lead = margins(graph, np.stack([claim.x.reshape(shape) for claim in certificate.samples]))
        known = radii(lead, constants(classes, certificate.overall, certificate.pairs))
        for k, claim in enumerate(certificate.samples):
            holds = lead.predicted[k] == claim.predicted and bool(lead.decided[k])
            if holds and network is not None and claim.local is not None:
                holds = radius_proved(network, claim.x.reshape(shape), claim.predicted, lead.values[k], claim.local,
                                      claim.radius)
            elif holds:
                holds = claim.radius <= known[k]
            if not holds:
                return verdict(Finding.RADIUS_NOT_PROVED, f"sample {k}: class {claim.predicted}, radius "
                                                          f"{claim.radius!r}", k)
    for k, around in enumerate(certificate.regions):
        if network is None or not region_gain_proved(network, around.x.reshape(shape), around.local):
            return verdict(Finding.REGION_NOT_PROVED, f"region {k}", len(certificate.samples), k)
    return verdict(Finding.PROVED, samples=len(certificate.samples), regions=len(certificate.regions))


def _is_input(x: np.ndarray, shape: tuple[int, ...]) -> bool:
    return x.shape == (math.prod(shape),) and bool(np.all(np.isfinite(x)))
