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
from .margins import margins, radii
from .pairs import constants, pair_graph


class Finding(enum.Enum):
    """What the checker found. The value says what it means."""

    PROVED = "All constants and radii hold for these weights."
    OTHER_MODEL = "The certificate belongs to another network: the digests of the layer graphs differ."
    MALFORMED = "The numbers of the certificate do not fit this network, or are negative or not finite."
    CONSTANT_NOT_PROVED = "The multipliers do not prove a claimed Lipschitz constant for these weights."
    RADIUS_NOT_PROVED = "A claimed class or radius does not follow from the constants."


@dataclasses.dataclass(frozen=True)
class RobustnessVerdict:
    """`detail`: which claim failed; `constants`, `samples`: how many were proved."""

    finding: Finding
    detail: str
    constants: int
    samples: int
    seconds: float

    @property
    def proved(self) -> bool:
        return self.finding is Finding.PROVED


def check_robustness(certificate: RobustnessCertificate, graph: Graph) -> RobustnessVerdict:
    """Proves all claims of the certificate for the graph, or says which does not hold up."""
    begin = time.perf_counter()
    proved = 0

    def verdict(finding: Finding, detail: str = "", samples: int = 0) -> RobustnessVerdict:
        return RobustnessVerdict(finding, detail, proved, samples, time.perf_counter() - begin)

    if certificate.digest != graph.digest:
        return verdict(Finding.OTHER_MODEL)
    shape, classes = graph.shape(graph.input), math.prod(graph.shape(graph.output))
    if any(j >= classes for _, j in certificate.pairs):
        return verdict(Finding.MALFORMED, f"the network has {classes} outputs, pairs are {sorted(certificate.pairs)}")
    for k, claim in enumerate(certificate.samples):
        if claim.x.shape != (math.prod(shape),) or not 0 <= claim.predicted < classes or not claim.radius >= 0:
            return verdict(Finding.MALFORMED, f"sample {k}")
    named = [("the whole output", certificate.overall, graph)] if certificate.overall else []
    for what, own, network in named:
        found = check(own, network)
        if not found.proved:
            return verdict(Finding.CONSTANT_NOT_PROVED, f"{what}: {found.outcome.value}")
        proved += 1
    for pair, own in certificate.pairs.items():
        found = check(own, pair_graph(graph, pair))
        if not found.proved:
            return verdict(Finding.CONSTANT_NOT_PROVED, f"outputs {pair[0]} and {pair[1]}: {found.outcome.value}")
        proved += 1
    if certificate.samples:
        lead = margins(graph, np.stack([claim.x.reshape(shape) for claim in certificate.samples]))
        known = radii(lead, constants(classes, certificate.overall, certificate.pairs))
        for k, claim in enumerate(certificate.samples):
            if lead.predicted[k] != claim.predicted or not lead.decided[k] or not claim.radius <= known[k]:
                return verdict(Finding.RADIUS_NOT_PROVED, f"sample {k}: class {claim.predicted}, radius "
                                                          f"{claim.radius!r}; proved are class {lead.predicted[k]}, "
                                                          f"radius {known[k]!r}", k)
    return verdict(Finding.PROVED, samples=len(certificate.samples))
