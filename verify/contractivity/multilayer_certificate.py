"""Certificates of contractivity for several layers: mu(D_k A_k .. D_1 A_1) <= level for slopes in an interval."""

import dataclasses
import hashlib
import os
from typing import Any

import numpy as np

from ..certificate import versions
from ..sealed_json import CertificateError, contents_explained, number, read_sealed, sealed, vector, write_sealed
from .check import Decision, LogNormVerdict
from .flow_proof import ProvedMultilayer
from .multilayer_check import MultilayerClaim, check_multilayer

SCHEMA = "netgain-contractivity-layers/1"


def weights_digest(weights: tuple[np.ndarray, ...]) -> str:
    """SHA-256 of A_1, .., A_k: of their shapes and of their float64 entries, where -0.0 counts as 0.0."""
    digest = hashlib.sha256(b"netgain layers")
    for weight in weights:
        digest.update(repr(weight.shape).encode())
        digest.update(np.ascontiguousarray(weight + 0.0, dtype="<f8").tobytes())
    return digest.hexdigest()


@dataclasses.dataclass(frozen=True, eq=False)
class MultilayerCertificate:
    """A level, a slope interval, the digest of the weights, and one array of multipliers for each layer."""

    digest: str
    lower: float
    upper: float
    level: float
    multipliers: tuple[np.ndarray, ...]
    arithmetic: str = ""
    seconds: float = 0.0
    versions: dict[str, str] = dataclasses.field(default_factory=versions)

    @classmethod
    def of(cls, proved: ProvedMultilayer) -> "MultilayerCertificate":
        """The certificate of a claim that was proved."""
        claim, verdict = proved.claim, proved.verdict
        return cls(weights_digest(claim.weights), claim.lower, claim.upper, claim.level, proved.multipliers,
                   verdict.arithmetic, verdict.seconds)

    def to_json(self) -> dict[str, Any]:
        return sealed({
            "schema": SCHEMA,
            "claim": {"question": "logarithmic norm", "norm": "l2", "slopes": [self.lower, self.upper],
                      "level": self.level},
            "weights_digest": self.digest,
            "multipliers": [array.tolist() for array in self.multipliers],
            "evidence": {"solver": "Clarabel", "arithmetic": self.arithmetic, "seconds": round(self.seconds, 6)},
            "versions": self.versions,
        })

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the certificate; an existing file is replaced only once the new one is complete."""
        write_sealed(path, self.to_json())


def load_multilayer_certificate(path: str | os.PathLike[str]) -> MultilayerCertificate:
    """Reads a certificate.

    **Raises:** `CertificateError` if the file is missing, truncated, of another schema, altered, or holds something
    else than numbers where these belong.
    """
    body = read_sealed(path, SCHEMA)
    with contents_explained(path):
        claim, evidence = body["claim"], body["evidence"]
        question = (claim["question"], claim["norm"])
        if question != ("logarithmic norm", "l2"):
            raise CertificateError(f"{path}: only l2 logarithmic norms can be checked, the claim is {question}.")
        lower, upper = (number(end) for end in claim["slopes"])
        return MultilayerCertificate(
            digest=str(body["weights_digest"]),
            lower=lower,
            upper=upper,
            level=number(claim["level"]),
            multipliers=tuple(vector(array) for array in body["multipliers"]),
            arithmetic=str(evidence["arithmetic"]),
            seconds=number(evidence["seconds"]),
            versions={str(key): str(value) for key, value in body["versions"].items()},
        )


def check_multilayer_certificate(certificate: MultilayerCertificate, weights: tuple[np.ndarray, ...]) -> LogNormVerdict:
    """Proves the certificate's claim for these weights, or says why it does not hold up."""
    if certificate.digest != weights_digest(weights):
        return LogNormVerdict(Decision.OTHER_MATRICES, "", 0.0)
    claim = MultilayerClaim(weights, certificate.lower, certificate.upper, certificate.level)
    return check_multilayer(claim, certificate.multipliers)
