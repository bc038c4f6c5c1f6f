"""Certificates of contractivity: a level of the logarithmic norm over a slope interval, and the boxes that prove it.

mu(B + E D A) <= level for all D with slopes in [lower, upper] is claimed for the matrices with the digest in the file;
the matrices themselves come from the model. `check_log_norm` proves the claim anew.
"""

import dataclasses
import hashlib
import os
from typing import Any

import numpy as np

from ..certificate import versions
from ..sealed_json import CertificateError, contents_explained, integer, number, read_sealed, sealed, write_sealed
from .check import Decision, LogNormClaim, LogNormProof, LogNormVerdict, Symmetries, check_log_norm

SCHEMA = "netgain-contractivity/1"


def matrices_digest(inputs: np.ndarray, outputs: np.ndarray | None = None, linear: np.ndarray | None = None) -> str:
    """SHA-256 of A, E and B: of their shapes and of their float64 entries, where -0.0 counts as 0.0."""
    digest = hashlib.sha256(b"netgain field")
    for matrix in (inputs, outputs, linear):
        if matrix is None:
            digest.update(b"none")
            continue
        digest.update(repr(matrix.shape).encode())
        digest.update(np.ascontiguousarray(matrix + 0.0, dtype="<f8").tobytes())
    return digest.hexdigest()


@dataclasses.dataclass(frozen=True, eq=False)
class ContractivityCertificate:
    """A level, a slope interval, the digest of the matrices, and the proof.

    **Attributes:** `solver`, `arithmetic`, `seconds`, `versions`: who found it and how it was proved first, for
    information.
    """

    digest: str
    lower: float
    upper: float
    level: float
    proof: LogNormProof
    solver: str = ""
    arithmetic: str = ""
    seconds: float = 0.0
    versions: dict[str, str] = dataclasses.field(default_factory=versions)

    @classmethod
    def of(cls, claim: LogNormClaim, proof: LogNormProof, verdict: LogNormVerdict,
           solver: str) -> "ContractivityCertificate":
        """The certificate of a claim that was proved."""
        digest = matrices_digest(claim.inputs, claim.outputs, claim.linear)
        return cls(digest, claim.lower, claim.upper, claim.level, proof, solver, verdict.arithmetic, verdict.seconds)

    def to_json(self) -> dict[str, Any]:
        proof = self.proof
        body: dict[str, Any] = {
            "schema": SCHEMA,
            "claim": {
                "question": "logarithmic norm",
                "norm": "l2",
                "slopes": [self.lower, self.upper],
                "level": self.level,
            },
            "matrices_digest": self.digest,
            "boxes": [_text(signs) for signs in proof.signs],
            "multipliers": proof.multipliers.tolist(),
            "symmetries": None,
            "evidence": {"solver": self.solver, "arithmetic": self.arithmetic, "seconds": round(self.seconds, 6)},
            "versions": self.versions,
        }
        if proof.symmetries is not None:
            body["symmetries"] = {
                "permutations": proof.symmetries.permutations.tolist(),
                "signs": proof.symmetries.signs.tolist(),
                "left_out": [_text(signs) for signs in proof.symmetries.left_out],
                "by": proof.symmetries.by.tolist(),
            }
        return sealed(body)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the certificate; an existing file is replaced only once the new one is complete."""
        write_sealed(path, self.to_json())


def load_contractivity_certificate(path: str | os.PathLike[str]) -> ContractivityCertificate:
    """Reads a certificate of contractivity.

    **Raises:** `CertificateError` if the file is missing, truncated, of another schema, altered, or holds something
    else than numbers and boxes where these belong.
    """
    body = read_sealed(path, SCHEMA)
    with contents_explained(path):
        claim, evidence, symmetries = body["claim"], body["evidence"], body["symmetries"]
        question = (claim["question"], claim["norm"])
        if question != ("logarithmic norm", "l2"):
            raise CertificateError(f"{path}: only l2 logarithmic norms can be checked, the claim is {question}.")
        lower, upper = (number(end) for end in claim["slopes"])
        signs = _boxes(body["boxes"])
        multipliers = np.array([[number(value) for value in row] for row in body["multipliers"]], dtype=np.float64)
        used = None
        if symmetries is not None:
            used = Symmetries(
                permutations=_integers(symmetries["permutations"]),
                signs=_integers(symmetries["signs"]),
                left_out=_boxes(symmetries["left_out"]),
                by=np.array([integer(which) for which in symmetries["by"]], dtype=np.intp),
            )
        return ContractivityCertificate(
            digest=str(body["matrices_digest"]),
            lower=lower,
            upper=upper,
            level=number(claim["level"]),
            proof=LogNormProof(signs, multipliers, used),
            solver=str(evidence["solver"]),
            arithmetic=str(evidence["arithmetic"]),
            seconds=number(evidence["seconds"]),
            versions={str(key): str(value) for key, value in body["versions"].items()},
        )


def check_contractivity(
    certificate: ContractivityCertificate,
    inputs: np.ndarray,
    outputs: np.ndarray | None = None,
    linear: np.ndarray | None = None,
) -> LogNormVerdict:
    """Proves the certificate's claim for these matrices A, E and B, or says why it does not hold up."""
    if certificate.digest != matrices_digest(inputs, outputs, linear):
        return LogNormVerdict(Decision.OTHER_MATRICES, "", 0.0)
    claim = LogNormClaim(inputs, certificate.lower, certificate.upper, certificate.level, outputs, linear)
    return check_log_norm(claim, certificate.proof)


_LETTERS = "-.+"


def _text(signs: np.ndarray) -> str:
    return "".join(_LETTERS[int(sign) + 1] for sign in signs)


def _boxes(rows: list[str]) -> np.ndarray:
    """Boxes of equal length; `ValueError` for any other letter."""
    return np.array([[_LETTERS.index(letter) - 1 for letter in row] for row in rows], dtype=np.int8)


def _integers(rows: list[list[int]]) -> np.ndarray:
    return np.array([[integer(value) for value in row] for row in rows], dtype=np.intp)
