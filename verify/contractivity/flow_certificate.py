"""Certificates of flow maps: |u(T) - v(T)| <= gain |u(0) - v(0)| for solutions of a field with slopes in an interval.

Metrics at the ends of pieces of [0, T] and multipliers prove it, see `flow_check`; the matrices of the field come from
the model and are named by their digest.
"""

import dataclasses
import os
from typing import Any

import numpy as np

from ..certificate import versions
from ..sealed_json import CertificateError, contents_explained, number, read_sealed, sealed, vector, write_sealed
from .certificate import matrices_digest
from .check import Decision, LogNormClaim, LogNormVerdict
from .flow_check import FlowClaim, FlowProof, check_flow
from .flow_proof import ProvedFlow

SCHEMA = "netgain-flow/1"


@dataclasses.dataclass(frozen=True, eq=False)
class FlowCertificate:
    """A gain of the flow map for a duration and a slope interval, the digest of the matrices, and the proof."""

    digest: str
    lower: float
    upper: float
    duration: float
    gain: float
    proof: FlowProof
    arithmetic: str = ""
    seconds: float = 0.0
    versions: dict[str, str] = dataclasses.field(default_factory=versions)

    @classmethod
    def of(cls, proved: ProvedFlow) -> "FlowCertificate":
        """The certificate of a claim that was proved."""
        field, verdict = proved.claim.field, proved.verdict
        digest = matrices_digest(field.inputs, field.outputs, field.linear)
        return cls(digest, field.lower, field.upper, proved.claim.duration, proved.claim.gain, proved.proof,
                   verdict.arithmetic, verdict.seconds)

    def to_json(self) -> dict[str, Any]:
        return sealed({
            "schema": SCHEMA,
            "claim": {"question": "flow map", "norm": "l2", "slopes": [self.lower, self.upper],
                      "duration": self.duration, "gain": self.gain},
            "matrices_digest": self.digest,
            "rate": self.proof.rate,
            "metrics": self.proof.metrics.tolist(),
            "multipliers": self.proof.multipliers.tolist(),
            "evidence": {"solver": "Clarabel", "arithmetic": self.arithmetic, "seconds": round(self.seconds, 6)},
            "versions": self.versions,
        })

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the certificate; an existing file is replaced only once the new one is complete."""
        write_sealed(path, self.to_json())


def load_flow_certificate(path: str | os.PathLike[str]) -> FlowCertificate:
    """Reads a certificate of a flow map.

    **Raises:** `CertificateError` if the file is missing, truncated, of another schema, altered, or holds something
    else than numbers where these belong.
    """
    body = read_sealed(path, SCHEMA)
    with contents_explained(path):
        claim, evidence = body["claim"], body["evidence"]
        question = (claim["question"], claim["norm"])
        if question != ("flow map", "l2"):
            raise CertificateError(f"{path}: only flow maps in l2 can be checked, the claim is {question}.")
        lower, upper = (number(end) for end in claim["slopes"])
        proof = FlowProof(
            rate=number(body["rate"]),
            metrics=np.array([[vector(row) for row in metric] for metric in body["metrics"]], dtype=np.float64),
            multipliers=np.array([[vector(end) for end in ends] for ends in body["multipliers"]], dtype=np.float64),
        )
        return FlowCertificate(
            digest=str(body["matrices_digest"]),
            lower=lower,
            upper=upper,
            duration=number(claim["duration"]),
            gain=number(claim["gain"]),
            proof=proof,
            arithmetic=str(evidence["arithmetic"]),
            seconds=number(evidence["seconds"]),
            versions={str(key): str(value) for key, value in body["versions"].items()},
        )


def check_flow_certificate(
    certificate: FlowCertificate,
    inputs: np.ndarray,
    outputs: np.ndarray | None = None,
    linear: np.ndarray | None = None,
) -> LogNormVerdict:
    """Proves the certificate's claim for these matrices A, E and B, or says why it does not hold up."""
    if certificate.digest != matrices_digest(inputs, outputs, linear):
        return LogNormVerdict(Decision.OTHER_MATRICES, "", 0.0)
    field = LogNormClaim(inputs, certificate.lower, certificate.upper, 0.0, outputs, linear)
    return check_flow(FlowClaim(field, certificate.duration, certificate.gain), certificate.proof)
