"""Certificates of stability: claims about the blocks of a network, and the data that proves each of them.

The weights come from the model, whose unrolled graph has the digest in the file. `check_stability` proves every claim
anew; a certificate is accepted if all of them hold.
"""

import dataclasses
import os
import time
from typing import Any

import numpy as np
from netgain.layers import StableNetwork

from ..certificate import SCHEMA as LIPSCHITZ_SCHEMA
from ..certificate import Certificate, certificate_of, versions
from ..check import check as check_lipschitz
from ..contractivity.check import Decision
from ..sealed_json import (
    CertificateError,
    contents_explained,
    integer,
    number,
    read_sealed,
    sealed,
    write_sealed,
)
from .claims import Claim, Kind, holds
from .facts import BlockFacts

SCHEMA = "netgain-stability-certificate/1"


@dataclasses.dataclass(frozen=True, eq=False)
class StabilityCertificate:
    """Claims by block, in the order of the network.

    **Attributes:** `digest`: of the network's graph with its blocks unrolled; `whole`: the Lipschitz bound of that
    graph, None where it is that of the only block, or nothing was proved.
    """

    digest: str
    blocks: tuple[tuple[Claim, ...], ...]
    whole: Certificate | None = None
    seconds: float = 0.0
    versions: dict[str, str] = dataclasses.field(default_factory=versions)

    def to_json(self) -> dict[str, Any]:
        return sealed({
            "schema": SCHEMA,
            "model_digest": self.digest,
            "blocks": [[_claim_json(claim) for claim in claims] for claims in self.blocks],
            "whole": None if self.whole is None else self.whole.to_json(),
            "evidence": {"seconds": round(self.seconds, 6)},
            "versions": self.versions,
        })

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the certificate; an existing file is replaced only once the new one is complete."""
        write_sealed(path, self.to_json())


@dataclasses.dataclass(frozen=True)
class StabilityVerdict:
    """What the checker found.

    **Attributes:** `failed`: blocks, counted from 1, and kinds of the claims that were not proved; 0 is the whole
    network.
    """

    decision: Decision
    failed: tuple[tuple[int, str], ...]
    seconds: float

    @property
    def proved(self) -> bool:
        return self.decision is Decision.PROVED


def check_stability(certificate: StabilityCertificate, network: StableNetwork) -> StabilityVerdict:
    """Proves all claims anew for this network, or says which do not hold up. Runs no solver."""
    begin = time.perf_counter()
    graph = network.graph()
    failed: list[tuple[int, str]] = []
    if certificate.digest != graph.digest:
        decision = Decision.OTHER_MATRICES
    elif len(certificate.blocks) != len(network.blocks):
        decision = Decision.MALFORMED
    else:
        for index, (claims, (block, shape)) in enumerate(zip(certificate.blocks, network.blocks, strict=True), 1):
            facts = BlockFacts(block, shape)
            failed += [(index, claim.kind.value) for claim in claims if not holds(claim, facts)]
        if certificate.whole is not None and not check_lipschitz(certificate.whole, graph).proved:
            failed.append((0, Kind.UNROLLED_GAIN.value))
        decision = Decision.NOT_PROVED if failed else Decision.PROVED
    return StabilityVerdict(decision, tuple(failed), time.perf_counter() - begin)


def load_stability_certificate(path: str | os.PathLike[str]) -> StabilityCertificate:
    """Reads a certificate of stability.

    **Raises:** `CertificateError` if the file is missing, truncated, of another schema, altered, or holds something
    else than claims and finite numbers where these belong.
    """
    body = read_sealed(path, SCHEMA)
    with contents_explained(path):
        whole = body["whole"]
        return StabilityCertificate(
            digest=str(body["model_digest"]),
            blocks=tuple(tuple(_claim(content, path) for content in claims) for claims in body["blocks"]),
            whole=None if whole is None else _lipschitz(whole, path),
            seconds=number(body["evidence"]["seconds"]),
            versions={str(key): str(value) for key, value in body["versions"].items()},
        )


def _claim_json(claim: Claim) -> dict[str, Any]:
    return {
        "kind": claim.kind.value,
        "meaning": claim.kind.meaning,
        "value": claim.value,
        "slopes": list(claim.slopes),
        "depth": claim.depth,
        "data": {name: {"shape": list(array.shape), "numbers": array.ravel().tolist()}
                 for name, array in claim.data.items()},
        "certificate": None if claim.certificate is None else claim.certificate.to_json(),
    }


def _claim(content: dict[str, Any], path: str | os.PathLike[str]) -> Claim:
    lower, upper = (number(end) for end in content["slopes"])
    depth, proof = content["depth"], content["certificate"]
    return Claim(
        kind=Kind(content["kind"]),
        value=number(content["value"]),
        slopes=(lower, upper),
        depth=None if depth is None else integer(depth),
        data={str(name): _array(array) for name, array in content["data"].items()},
        certificate=None if proof is None else _lipschitz(proof, path),
    )


def _array(content: dict[str, Any]) -> np.ndarray:
    shape = [integer(extent) for extent in content["shape"]]
    if any(extent < 0 for extent in shape):
        raise ValueError(f"{shape} is no shape")
    return np.array([number(value) for value in content["numbers"]], dtype=np.float64).reshape(shape)


def _lipschitz(content: dict[str, Any], path: str | os.PathLike[str]) -> Certificate:
    if content["schema"] != LIPSCHITZ_SCHEMA:
        raise CertificateError(f"{path}: the bound of an unrolled block needs a certificate of schema "
                               f"{LIPSCHITZ_SCHEMA!r}, found {content['schema']!r}.")
    return certificate_of(content, path)
