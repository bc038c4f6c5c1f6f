r"""Certificates of implicit networks: each layer has exactly one solution, and gains, with the vectors that prove it.

- For each implicit layer z = s(A z + v) weights eta and a number mu < 1 with mu_eta(D A) <= mu for all slopes D, or the
  diagonal of a metric L with H(L) > 0, or both. Either alone proves it well-posed (`weighted_log_norm_check`,
  `loop_check`).
- For the l_inf gain of the network, a bound t on each implicit layer's neurons (`state_bound_check`).
- For the l_inf gain of a single layer between linear ones, a metric and bounds per input for each output, found by
  semidefinite programming (`check.proved_row_gain`).
- For its l2 gain, a certificate of the matrix inequality (`netgain.verify.certificate`).
"""

import dataclasses
import enum
import os
import time
from typing import Any

import numpy as np
from netgain.layers import Graph

from ..balls import BALLS, precision
from ..certificate import SCHEMA as EUCLIDEAN
from ..certificate import Certificate, certificate_of, versions
from ..check import check
from ..constraints import ActivationRows, Rows, constraint_rows
from ..sealed_json import CertificateError, contents_explained, number, read_sealed, sealed, vector, write_sealed
from .check import proved_row_gain
from .loop_check import loop_proved_in_balls, loop_proved_in_double
from .state_bound_check import proved_output_bound
from .weighted_log_norm_check import proves_log_norm

SCHEMA = "netgain-implicit-certificate/1"

_BITS = 128


@dataclasses.dataclass(frozen=True, eq=False)
class WeightedNorm:
    """mu_eta(D A) <= `log_norm` < 1 for eta = `weights`."""

    weights: np.ndarray
    log_norm: float


@dataclasses.dataclass(frozen=True, eq=False)
class LayerProof:
    """Why an implicit layer has exactly one solution: one of the two at least.

    **Attributes:** `norm`: weights of an l_inf norm; `metric`: the diagonal of L.
    """

    norm: WeightedNorm | None
    metric: np.ndarray | None


@dataclasses.dataclass(frozen=True, eq=False)
class LargestNormGain:
    """|f(u) - f(u')|_inf <= `value` |u - u'|_inf; `bounds`: t of each implicit layer."""

    value: float
    bounds: tuple[np.ndarray, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class OutputGains:
    """|f(u) - f(u')|_inf <= `value` |u - u'|_inf; `metrics` and `inputs`: of each output, see `proved_row_gain`."""

    value: float
    metrics: tuple[np.ndarray, ...]
    inputs: tuple[np.ndarray, ...]


class Refusal(enum.Enum):
    """What the checker found of a certificate. The value says what it means."""

    PROVED = "Every claim of the certificate is proved for these weights."
    OTHER_MODEL = "The certificate belongs to another network: the digests of the layer graphs differ."
    MALFORMED = "The numbers of the certificate do not fit this network."
    NOT_WELL_POSED = "For some implicit layer nothing proves that it has exactly one solution, or its metric is none."
    LOG_NORM = "The weights of some implicit layer do not prove the logarithmic norm claimed."
    LARGEST_NORM_GAIN = "The bounds of the certificate do not prove the l_inf gain claimed."
    OUTPUT_GAINS = "The metrics of the outputs do not prove the l_inf gain claimed."
    EUCLIDEAN_GAIN = "The multipliers of the certificate do not prove the l2 gain claimed."


@dataclasses.dataclass(frozen=True)
class ImplicitVerdict:
    """`seconds`: what the check took."""

    outcome: Refusal
    seconds: float

    @property
    def proved(self) -> bool:
        return self.outcome is Refusal.PROVED


@dataclasses.dataclass(frozen=True, eq=False)
class ImplicitCertificate:
    """All implicit layers of the graph with this digest are well-posed, and gains, where there are any.

    **Attributes:** `layers`: a proof for each implicit layer, in the order of the graph.
    """

    digest: str
    layers: tuple[LayerProof, ...]
    largest: LargestNormGain | None = None
    outputs: OutputGains | None = None
    euclidean: Certificate | None = None
    seconds: float = 0.0
    versions: dict[str, str] = dataclasses.field(default_factory=versions)

    def to_json(self) -> dict[str, Any]:
        largest, outputs = self.largest, self.outputs
        euclidean = None if self.euclidean is None else self.euclidean.to_json()
        if euclidean is not None:
            del euclidean["sha256"]
        body: dict[str, Any] = {
            "schema": SCHEMA,
            "claim": {
                "question": "implicit",
                "well_posed": True,
                "log_norms": [None if proof.norm is None else proof.norm.log_norm for proof in self.layers],
                "linf_gain": None if largest is None else largest.value,
                "linf_gain_of_outputs": None if outputs is None else outputs.value,
                "l2_gain": None if self.euclidean is None else self.euclidean.value,
            },
            "model_digest": self.digest,
            "weights": [None if proof.norm is None else proof.norm.weights.tolist() for proof in self.layers],
            "metrics": [None if proof.metric is None else proof.metric.tolist() for proof in self.layers],
            "state_bounds": None if largest is None else [bound.tolist() for bound in largest.bounds],
            "outputs": None if outputs is None else {
                "metrics": [metric.tolist() for metric in outputs.metrics],
                "inputs": [inputs.tolist() for inputs in outputs.inputs],
            },
            "euclidean": euclidean,
            "evidence": {"seconds": round(self.seconds, 6)},
            "versions": self.versions,
        }
        return sealed(body)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the certificate; an existing file is replaced only once the new one is complete."""
        write_sealed(path, self.to_json())


def load_implicit_certificate(path: str | os.PathLike[str]) -> ImplicitCertificate:
    """Reads a certificate of an implicit network.

    **Raises:** `CertificateError` if the file is missing, truncated, of another schema, altered, or holds something
    else than numbers where these belong.
    """
    body = read_sealed(path, SCHEMA)
    with contents_explained(path):
        claim = body["claim"]
        if claim["question"] != "implicit" or claim["well_posed"] is not True:
            raise CertificateError(f"{path}: a certificate of an implicit network claims that it is well-posed; this "
                                   f"one claims {claim!r}.")
        norms = [_norm(*pair) for pair in zip(body["weights"], claim["log_norms"], strict=True)]
        metrics = [None if metric is None else vector(metric) for metric in body["metrics"]]
        largest, outputs, euclidean = None, None, None
        if claim["linf_gain"] is not None:
            bounds = tuple(vector(bound) for bound in body["state_bounds"])
            largest = LargestNormGain(number(claim["linf_gain"]), bounds)
        if claim["linf_gain_of_outputs"] is not None:
            outputs = OutputGains(number(claim["linf_gain_of_outputs"]),
                                  tuple(vector(metric) for metric in body["outputs"]["metrics"]),
                                  tuple(vector(inputs) for inputs in body["outputs"]["inputs"]))
        if claim["l2_gain"] is not None:
            if body["euclidean"]["schema"] != EUCLIDEAN:
                raise CertificateError(f"{path}: the l2 gain is proved by a certificate of schema {EUCLIDEAN!r}, found "
                                       f"{body['euclidean']['schema']!r}.")
            euclidean = certificate_of(body["euclidean"], path)
            if euclidean.value != number(claim["l2_gain"]):
                raise CertificateError(f"{path}: the claim is an l2 gain of {claim['l2_gain']!r}, but its proof is for "
                                       f"{euclidean.value!r}.")
        return ImplicitCertificate(
            digest=str(body["model_digest"]),
            layers=tuple(LayerProof(*pair) for pair in zip(norms, metrics, strict=True)),
            largest=largest,
            outputs=outputs,
            euclidean=euclidean,
            seconds=number(body["evidence"]["seconds"]),
            versions={str(key): str(value) for key, value in body["versions"].items()},
        )


def _norm(weights: Any, log_norm: Any) -> WeightedNorm | None:
    if weights is None and log_norm is None:
        return None
    return WeightedNorm(vector(weights), number(log_norm))


def check_implicit(certificate: ImplicitCertificate, graph: Graph) -> ImplicitVerdict:
    """Proves all that the certificate claims for the graph, or says what does not hold up."""
    begin = time.perf_counter()

    def verdict(outcome: Refusal) -> ImplicitVerdict:
        return ImplicitVerdict(outcome, time.perf_counter() - begin)

    if certificate.digest != graph.digest:
        return verdict(Refusal.OTHER_MODEL)
    with precision(_BITS):
        rows = constraint_rows(graph, BALLS, in_double=True)
    if not rows.loops or not _well_formed(certificate, rows):
        return verdict(Refusal.MALFORMED)
    for layer, proof in zip(rows.loops, certificate.layers, strict=True):
        if proof.norm is not None and not proves_norm(layer, proof.norm):
            return verdict(Refusal.LOG_NORM)
        if proof.norm is None and proof.metric is None:
            return verdict(Refusal.NOT_WELL_POSED)
        if proof.metric is not None and not proves_metric(layer, proof.metric):
            return verdict(Refusal.NOT_WELL_POSED)
    if certificate.largest is not None:
        found = proved_output_bound(rows, certificate.largest.bounds)
        if found is None or not found[0] <= certificate.largest.value:
            return verdict(Refusal.LARGEST_NORM_GAIN)
    if certificate.outputs is not None and not proves_outputs(rows, certificate.outputs):
        return verdict(Refusal.OUTPUT_GAINS)
    if certificate.euclidean is not None and not check(certificate.euclidean, graph).proved:
        return verdict(Refusal.EUCLIDEAN_GAIN)
    return verdict(Refusal.PROVED)


def proves_norm(layer: ActivationRows, norm: WeightedNorm) -> bool:
    """Whether the weights prove the layer's logarithmic norm, and that it is below 1. Exact."""
    assert layer.loop is not None
    return norm.log_norm < 1 and proves_log_norm(layer.loop, norm.weights, layer.lower, layer.upper, norm.log_norm)


def proves_metric(layer: ActivationRows, metric: np.ndarray) -> bool:
    """Whether H(L) > 0 is shown, in double precision or in balls."""
    if loop_proved_in_double(layer, metric):
        return True
    with precision(_BITS):
        return loop_proved_in_balls(layer, metric)


def plain_network(rows: Rows) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """A, B and C of x = s(A x + B u + b), y = C x + c where the graph is that, with weights as they are in the file."""
    if len(rows.activations) != 1 or not rows.loops or set(rows.output) != {1}:
        return None
    arrays = rows.loops[0].loop, rows.activations[0].maps[0], rows.output[1]
    if not all(isinstance(array, np.ndarray) and array.dtype == np.float64 for array in arrays):
        return None
    A, B, C = (np.asarray(array) for array in arrays)
    return A, B, C


def proves_outputs(rows: Rows, outputs: OutputGains) -> bool:
    """Whether the gain to every output is shown to be at most `outputs.value`."""
    network = plain_network(rows)
    if network is None:
        return False
    A, B, C = network
    layer, (q, n) = rows.loops[0], C.shape
    if [len(outputs.metrics), len(outputs.inputs)] != [q, q]:
        return False
    for c, metric, inputs in zip(C, outputs.metrics, outputs.inputs, strict=True):
        if metric.shape != (n,) or inputs.shape != (B.shape[1],):
            return False
        gain = proved_row_gain(A, B, c, metric, inputs, (layer.lower, layer.upper)) if np.any(c) else 0.0
        if gain is None or not gain <= outputs.value:
            return False
    return True


def _well_formed(certificate: ImplicitCertificate, rows: Rows) -> bool:
    sizes = [layer.size for layer in rows.loops]
    if len(certificate.layers) != len(sizes):
        return False
    for proof, size in zip(certificate.layers, sizes, strict=True):
        vectors = [proof.metric] if proof.metric is not None else []
        if proof.norm is not None:
            vectors.append(proof.norm.weights)
            if not np.all(proof.norm.weights > 0):
                return False
        if any(array.shape != (size,) or not np.all(np.isfinite(array)) for array in vectors):
            return False
    return certificate.largest is None or len(certificate.largest.bounds) == len(sizes)
