"""Certificates: the claim, the multipliers that prove it, and the network they belong to.

The file is JSON; numbers are written so that float64 is read back exactly. Anyone can check it from the weights alone
(`netgain check`), with no solver.
"""

import dataclasses
import importlib.metadata
import os
from typing import Any

import numpy as np

from .mode import Mode
from .sealed_json import CertificateError as CertificateError
from .sealed_json import integer, number, read_sealed, sealed, vector, write_sealed

SCHEMA = "netgain-certificate/2"


@dataclasses.dataclass(frozen=True, eq=False)
class Certificate:
    """|f(x) - f(x')| <= value |x - x'| for all x, x', in Euclidean norms and real arithmetic.

    The multipliers are given in scaled coordinates, x_j = 2^exponents[j] times the scaled block and
    y = 2^output_exponent times the scaled output, in which M(rho, lam) is positive semidefinite with
    rho = (value 2^(exponents[0] - output_exponent))^2, x_0 being the input (see `netgain.solvers.inequality`).

    With one multiplier per channel (`Mode.SPECTRAL`) this holds for M at every frequency of the torus, of every stage,
    see `netgain.verify.check_spectral`.

    **Attributes:** `value`: the bound; `digest`: SHA-256 of the layer graph; `multipliers`: one array per nonlinear
    layer; `arithmetic`, `seconds`: how it was proved first, for information; `mode`: how multipliers are shared;
    `metrics`: symmetric matrices that join parts of the network, empty for `Mode.NEURON`; `loop_metrics`: for each
    implicit layer, in order, the diagonal of a metric that proves it to have exactly one solution; `interfaces`: the
    places in `Graph.order` of the nodes where a network of `Mode.SPECTRAL` is cut, see `netgain.verify.stages`.
    """

    value: float
    digest: str
    multipliers: tuple[np.ndarray, ...]
    exponents: tuple[int, ...]
    output_exponent: int
    solver: str
    arithmetic: str = ""
    seconds: float = 0.0
    versions: dict[str, str] = dataclasses.field(default_factory=lambda: versions())
    mode: Mode = Mode.NEURON
    metrics: tuple[np.ndarray, ...] = ()
    loop_metrics: tuple[np.ndarray, ...] = ()
    interfaces: tuple[int, ...] = ()

    def to_json(self) -> dict[str, Any]:
        body: dict[str, Any] = {
            "schema": SCHEMA,
            "claim": {
                "question": "lipschitz",
                "norm_in": "l2",
                "norm_out": "l2",
                "region": "all inputs",
                "value": self.value,
            },
            "model_digest": self.digest,
            "mode": self.mode.value,
            "exponents": list(self.exponents),
            "output_exponent": self.output_exponent,
            "multipliers": [array.tolist() for array in self.multipliers],
            "metrics": [matrix.tolist() for matrix in self.metrics],
            **({"loop_metrics": [metric.tolist() for metric in self.loop_metrics]} if self.loop_metrics else {}),
            **({"interfaces": list(self.interfaces)} if self.interfaces else {}),
            "evidence": {"solver": self.solver, "arithmetic": self.arithmetic, "seconds": round(self.seconds, 6)},
            "versions": self.versions,
        }
        return sealed(body)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the certificate; an existing file is replaced only once the new one is complete."""
        write_sealed(path, self.to_json())


def load_certificate(path: str | os.PathLike[str]) -> Certificate:
    """Reads a certificate.

    **Raises:** `CertificateError` if the file is missing, truncated, of another schema, altered, or holds something
    else than finite numbers where numbers belong.
    """
    return certificate_of(read_sealed(path, SCHEMA), path)


def certificate_of(body: dict[str, Any], path: str | os.PathLike[str]) -> Certificate:
    """The certificate in the body of a file, or inside that of another; `path` is named in errors.

    **Raises:** `CertificateError` for what is not a certificate's content.
    """
    try:
        claim, evidence = body["claim"], body["evidence"]
        question = tuple(claim[key] for key in ("question", "norm_in", "norm_out", "region"))
        if question != ("lipschitz", "l2", "l2", "all inputs"):
            raise CertificateError(f"{path}: only global l2 Lipschitz bounds can be checked, the claim is {question}.")
        certificate = Certificate(
            value=number(claim["value"]),
            digest=str(body["model_digest"]),
            multipliers=tuple(np.array([number(v) for v in array], dtype=np.float64) for array in body["multipliers"]),
            exponents=tuple(integer(exponent) for exponent in body["exponents"]),
            output_exponent=integer(body["output_exponent"]),
            solver=str(evidence["solver"]),
            arithmetic=str(evidence["arithmetic"]),
            seconds=number(evidence["seconds"]),
            versions={str(key): str(value) for key, value in body["versions"].items()},
            mode=Mode(body["mode"]),
            metrics=tuple(_matrix(rows) for rows in body["metrics"]),
            loop_metrics=tuple(vector(metric) for metric in body.get("loop_metrics", [])),
            interfaces=tuple(map(integer, body.get("interfaces", []))),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        if isinstance(error, CertificateError):
            raise
        raise CertificateError(f"{path}: a field is missing or of the wrong kind: {error!r}.") from error
    return certificate


def _matrix(rows: Any) -> np.ndarray:
    if type(rows) is not list or not rows or not all(type(row) is list and len(row) == len(rows) for row in rows):
        raise ValueError(f"a metric is a square matrix as a list of rows, got {str(rows)[:60]}")
    matrix = np.array([number(v) for row in rows for v in row], dtype=np.float64).reshape((len(rows), len(rows)))
    if not np.array_equal(matrix, matrix.T):
        raise ValueError("a metric is a symmetric matrix")
    return matrix


def versions() -> dict[str, str]:
    """Versions of what a proof rests on."""
    return {name: importlib.metadata.version(name) for name in ("netgain", "numpy", "scipy", "python-flint")}
