"""Certificates of contractivity for weights that change with time: levels on a grid, and what follows in between.

Claimed are mu <= level at all times of the grid's span, and that the integral of mu is at most `log_gain`, for slopes
in an interval. Both rest on the Lipschitz constant in the model, which no certificate can prove.
"""

import dataclasses
import hashlib
import os
import time
from typing import Any

import numpy as np
from netgain.solvers.contractivity.time_dependent_field import SampledField

from ..certificate import versions
from ..sealed_json import CertificateError, contents_explained, number, read_sealed, sealed, vector, write_sealed
from .check import Decision, LogNormClaim, LogNormProof, LogNormVerdict, check_log_norm
from .time_dependent_proof import ProvedAlongTime, exact_tents

SCHEMA = "netgain-contractivity-in-time/1"


def samples_digest(sampled: SampledField) -> str:
    """SHA-256 of times, matrices and the Lipschitz constant; -0.0 counts as 0.0."""
    digest = hashlib.sha256(b"netgain samples")
    for array in (sampled.times, sampled.inputs, np.array(float(sampled.lipschitz))):
        digest.update(repr(array.shape).encode())
        digest.update(np.ascontiguousarray(array + 0.0, dtype="<f8").tobytes())
    return digest.hexdigest()


@dataclasses.dataclass(frozen=True, eq=False)
class InTimeCertificate:
    """A level for all times, a slope interval, the digest of the samples, and the proofs on the grid.

    **Attributes:** `levels`: proved at each time, shape (g,); `multipliers`: that prove them, shape (g, n).
    """

    digest: str
    lower: float
    upper: float
    level: float
    log_gain: float
    levels: np.ndarray
    multipliers: np.ndarray
    arithmetic: str = ""
    seconds: float = 0.0
    versions: dict[str, str] = dataclasses.field(default_factory=versions)

    @classmethod
    def of(cls, sampled: SampledField, proved: ProvedAlongTime) -> "InTimeCertificate":
        """The certificate of what was proved along these samples."""
        points = proved.points
        in_balls = {point.verdict.arithmetic for point in points} - {"double"}
        return cls(
            digest=samples_digest(sampled),
            lower=float(sampled.lower),
            upper=float(sampled.upper),
            level=proved.rate,
            log_gain=proved.log_gain,
            levels=np.array([point.claim.level for point in points]),
            multipliers=np.concatenate([point.proof.multipliers for point in points]),
            arithmetic=max(in_balls, key=lambda bits: int(bits.split()[0]), default="double"),
            seconds=sum(point.verdict.seconds for point in points),
        )

    def to_json(self) -> dict[str, Any]:
        return sealed({
            "schema": SCHEMA,
            "claim": {"question": "logarithmic norm at all times", "norm": "l2", "slopes": [self.lower, self.upper],
                      "level": self.level, "log_gain": self.log_gain},
            "samples_digest": self.digest,
            "levels": self.levels.tolist(),
            "multipliers": self.multipliers.tolist(),
            "evidence": {"solver": "barrier method", "arithmetic": self.arithmetic, "seconds": round(self.seconds, 6)},
            "versions": self.versions,
        })

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the certificate; an existing file is replaced only once the new one is complete."""
        write_sealed(path, self.to_json())


def load_in_time_certificate(path: str | os.PathLike[str]) -> InTimeCertificate:
    """Reads a certificate.

    **Raises:** `CertificateError` if the file is missing, truncated, of another schema, altered, or holds something
    else than numbers where these belong.
    """
    body = read_sealed(path, SCHEMA)
    with contents_explained(path):
        claim, evidence = body["claim"], body["evidence"]
        question = (claim["question"], claim["norm"])
        if question != ("logarithmic norm at all times", "l2"):
            raise CertificateError(f"{path}: only l2 logarithmic norms can be checked, the claim is {question}.")
        lower, upper = (number(end) for end in claim["slopes"])
        return InTimeCertificate(
            digest=str(body["samples_digest"]),
            lower=lower,
            upper=upper,
            level=number(claim["level"]),
            log_gain=number(claim["log_gain"]),
            levels=vector(body["levels"]),
            multipliers=np.array([vector(row) for row in body["multipliers"]], dtype=np.float64),
            arithmetic=str(evidence["arithmetic"]),
            seconds=number(evidence["seconds"]),
            versions={str(key): str(value) for key, value in body["versions"].items()},
        )


def check_in_time(certificate: InTimeCertificate, sampled: SampledField) -> LogNormVerdict:
    """Proves the certificate's claims for these samples, or says why they do not hold up."""
    begin = time.perf_counter()

    def verdict(decision: Decision, arithmetic: str = "") -> LogNormVerdict:
        return LogNormVerdict(decision, arithmetic, time.perf_counter() - begin)

    if certificate.digest != samples_digest(sampled):
        return verdict(Decision.OTHER_MATRICES)
    count = len(sampled.times)
    if certificate.levels.shape != (count,) or certificate.multipliers.shape != (count, sampled.size):
        return verdict(Decision.MALFORMED)
    free = np.zeros((1, sampled.size), dtype=np.int8)
    needed = 0
    for inputs, level, multipliers in zip(sampled.inputs, certificate.levels, certificate.multipliers, strict=True):
        claim = LogNormClaim(inputs, certificate.lower, certificate.upper, float(level))
        found = check_log_norm(claim, LogNormProof(free, multipliers[None]))
        if not found.proved:
            return verdict(found.decision)
        needed = max(needed, 0 if found.arithmetic == "double" else int(found.arithmetic.split()[0]))
    fastest = max(abs(certificate.lower), abs(certificate.upper))
    rate, log_gain = exact_tents(certificate.levels, sampled.times, fastest, float(sampled.lipschitz))
    if rate > certificate.level or log_gain > certificate.log_gain:
        return verdict(Decision.NOT_PROVED)
    return verdict(Decision.PROVED, f"{needed} bits" if needed else "double")
