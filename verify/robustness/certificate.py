"""Certificates of robustness: constants of the outputs and of their differences, and inputs that keep their class.

The file is JSON. It holds a certificate of the network, one for each pair of outputs (of the network `pair_graph`), the
inputs, and for each its class and the radius within which it is kept, with the slopes and multipliers of its own ball
where these prove it; `check_robustness` proves all of it anew.
"""

import dataclasses
import os
from typing import Any

import numpy as np

from ..certificate import Certificate, certificate_of, versions
from ..sealed_json import (
    CertificateError,
    contents_explained,
    integer,
    number,
    read_sealed,
    sealed,
    vector,
    write_sealed,
)
from .local_check import LocalClaim
from .outputs import Pair
from .region import Region, RegionShape

SCHEMA = "netgain-robustness/1"


@dataclasses.dataclass(frozen=True, eq=False)
class SampleClaim:
    """f_p(x') > f_j(x') for all j != p and all x' with |x' - x| <= radius, p being the class.

    **Attributes:** `x`: flat, in row-major order; `local`: what proves it, where constants over all inputs do not.
    """

    x: np.ndarray
    predicted: int
    radius: float
    local: LocalClaim | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class RegionClaim:
    """|f(x') - f(x'')| <= L |x' - x''| for any two points of a region around x, L being the gain of the claim."""

    x: np.ndarray
    local: LocalClaim


@dataclasses.dataclass(frozen=True, eq=False)
class RobustnessCertificate:
    """Everything that was proved of a network and some inputs; `digest` is that of the layer graph."""

    digest: str
    overall: Certificate | None
    pairs: dict[Pair, Certificate]
    samples: tuple[SampleClaim, ...]
    regions: tuple[RegionClaim, ...] = ()
    versions: dict[str, str] = dataclasses.field(default_factory=versions)

    def to_json(self) -> dict[str, Any]:
        return sealed({
            "schema": SCHEMA,
            "claim": {"question": "robustness", "norm_in": "l2", "samples": len(self.samples)},
            "model_digest": self.digest,
            "overall": None if self.overall is None else self.overall.to_json(),
            "pairs": [{"outputs": list(pair), "certificate": certificate.to_json()}
                      for pair, certificate in sorted(self.pairs.items())],
            "samples": [{"x": claim.x.tolist(), "class": claim.predicted, "radius": claim.radius,
                         "local": None if claim.local is None else _local_json(claim.local)}
                        for claim in self.samples],
            "regions": [{"x": claim.x.tolist(), "local": _local_json(claim.local)} for claim in self.regions],
            "versions": self.versions,
        })

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the certificate; an existing file is replaced only once the new one is complete."""
        write_sealed(path, self.to_json())


def load_robustness(path: str | os.PathLike[str]) -> RobustnessCertificate:
    """Reads a certificate of robustness.

    **Raises:** `CertificateError` if the file is missing, truncated, of another schema, altered, or holds something
    else than numbers where these belong.
    """
    body = read_sealed(path, SCHEMA)
    with contents_explained(path):
        claim = body["claim"]
        question = (claim["question"], claim["norm_in"])
        if question != ("robustness", "l2"):
            raise CertificateError(f"{path}: only robustness in l2 can be checked, the claim is {question}.")
        overall, digest = body["overall"], str(body["model_digest"])
        return RobustnessCertificate(
            digest=digest,
            overall=None if overall is None else certificate_of(overall, path),
            pairs={_pair(entry["outputs"]): certificate_of(entry["certificate"], path) for entry in body["pairs"]},
            samples=tuple(SampleClaim(vector(entry["x"]), integer(entry["class"]), number(entry["radius"]),
                                      None if entry["local"] is None else _local(entry["local"], digest))
                          for entry in body["samples"]),
            regions=tuple(RegionClaim(vector(entry["x"]), _local(entry["local"], digest))
                          for entry in body["regions"]),
            versions={str(key): str(value) for key, value in body["versions"].items()},
        )


def _local_json(claim: LocalClaim) -> dict[str, Any]:
    return {
        "shape": claim.region.shape.value,
        "radius": claim.region.radius,
        "from_centre": claim.from_centre,
        "slopes": [[lower.tolist(), upper.tolist()] for lower, upper in claim.slopes],
        "gains": [{"against": j, "value": gain.value, "exponents": list(gain.exponents),
                   "output_exponent": gain.output_exponent, "multipliers": [lam.tolist() for lam in gain.multipliers]}
                  for j, gain in sorted(claim.gains.items())],
    }


def _local(body: Any, digest: str) -> LocalClaim:
    if type(body["from_centre"]) is not bool:
        raise TypeError(f"`from_centre` is true or false, got {body['from_centre']!r}")
    gains = {
        integer(entry["against"]): Certificate(
            value=number(entry["value"]), digest=digest, multipliers=tuple(vector(lam) for lam in entry["multipliers"]),
            exponents=tuple(integer(exponent) for exponent in entry["exponents"]),
            output_exponent=integer(entry["output_exponent"]), solver="",
        )
        for entry in body["gains"]
    }
    slopes = tuple((vector(lower), vector(upper)) for lower, upper in body["slopes"])
    return LocalClaim(Region(RegionShape(body["shape"]), number(body["radius"])), body["from_centre"], slopes, gains)


def _pair(outputs: Any) -> Pair:
    i, j = (integer(output) for output in outputs)
    if not 0 <= i < j:
        raise ValueError(f"a pair of outputs is 0 <= i < j, got {outputs}")
    return i, j
