"""Certificates of robustness: constants of the outputs and of their differences, and inputs that keep their class.

The file is JSON. It holds a certificate of the network, one for each pair of outputs (of the network `pair_graph`), the
inputs, and for each its class and the radius within which it is kept; `check_robustness` proves all of it anew.
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
from .pairs import Pair

SCHEMA = "netgain-robustness/1"


@dataclasses.dataclass(frozen=True, eq=False)
class SampleClaim:
    """f_p(x') > f_j(x') for all j != p and all x' with |x' - x| <= radius, p being the class.

    **Attributes:** `x`: flat, in row-major order.
    """

    x: np.ndarray
    predicted: int
    radius: float


@dataclasses.dataclass(frozen=True, eq=False)
class RobustnessCertificate:
    """Everything that was proved of a network and some inputs; `digest` is that of the layer graph."""

    digest: str
    overall: Certificate | None
    pairs: dict[Pair, Certificate]
    samples: tuple[SampleClaim, ...]
    versions: dict[str, str] = dataclasses.field(default_factory=versions)

    def to_json(self) -> dict[str, Any]:
        return sealed({
            "schema": SCHEMA,
            "claim": {"question": "robustness", "norm_in": "l2", "samples": len(self.samples)},
            "model_digest": self.digest,
            "overall": None if self.overall is None else self.overall.to_json(),
            "pairs": [{"outputs": list(pair), "certificate": certificate.to_json()}
                      for pair, certificate in sorted(self.pairs.items())],
            "samples": [{"x": claim.x.tolist(), "class": claim.predicted, "radius": claim.radius}
                        for claim in self.samples],
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
        overall = body["overall"]
        return RobustnessCertificate(
            digest=str(body["model_digest"]),
            overall=None if overall is None else certificate_of(overall, path),
            pairs={_pair(entry["outputs"]): certificate_of(entry["certificate"], path) for entry in body["pairs"]},
            samples=tuple(SampleClaim(vector(entry["x"]), integer(entry["class"]), number(entry["radius"]))
                          for entry in body["samples"]),
            versions={str(key): str(value) for key, value in body["versions"].items()},
        )


def _pair(outputs: Any) -> Pair:
    i, j = (integer(output) for output in outputs)
    if not 0 <= i < j:
        raise ValueError(f"a pair of outputs is 0 <= i < j, got {outputs}")
    return i, j
