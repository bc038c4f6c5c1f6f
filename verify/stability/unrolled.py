r"""Lipschitz bounds of unrolled blocks that read many inputs: solved with fewer, proved with all.

A fully connected block reads u through B alone, and B = R Q^T with R of n columns and orthonormal Q. The inequality of
the network with R in place of B is that of the network itself, seen through Q: the same multipliers prove the same
bound. But the state of the recursion holds the input, so that n numbers in place of m make it faster by the cube.
The multipliers found are handed to the checker with the network as it is; rounding of R costs some last digits.
"""

import dataclasses
import math
import time

import numpy as np
from netgain.layers import Flatten, StableBlock, StableNetwork
from netgain.solvers.result import Limits, Status

from ..check import check
from ..lipschitz import INTERRUPTED_SEARCH, LipschitzReport, best_witness, lipschitz
from ..lower_bound import UndecidedError
from ..mode import Mode

AFTERWARDS = 1.0
"""Seconds for what is still to be done once Ctrl-C was pressed."""
_INFLATIONS = (1e-12, 1e-10, 1e-8, 1e-6, 1e-4)


def lipschitz_of(network: StableNetwork, limits: Limits, seed: int = 0) -> LipschitzReport:
    """`lipschitz` of the network with its blocks unrolled.

    **Raises:** as `lipschitz`.
    """
    graph, fewer = network.graph(), with_fewer_inputs(network)
    if fewer is None:
        return lipschitz(graph, limits=limits, seed=seed)
    begin = time.perf_counter()
    share = dataclasses.replace(limits, time_limit=0.8 * limits.time_limit)
    found = lipschitz(fewer.graph(), limits=share, mode=Mode.NEURON, lower_bounds=False)
    report = dataclasses.replace(found, name=graph.name, certificate=None, upper=math.inf, lower=0.0)
    for inflation in _INFLATIONS if found.certificate is not None else ():
        assert found.certificate is not None
        claim = dataclasses.replace(found.certificate, digest=graph.digest, value=found.upper * (1 + inflation))
        verdict = check(claim, graph, balls=False)
        if verdict.proved:
            claim = dataclasses.replace(claim, arithmetic=verdict.arithmetic, seconds=verdict.seconds)
            report = dataclasses.replace(report, certificate=claim, upper=claim.value)
            break
    if found.solution.status is Status.INTERRUPTED:
        return report
    notes = report.notes
    try:
        left = max(limits.time_limit - (time.perf_counter() - begin), 1e-3)
        witness = best_witness(graph, None, seed, min(left, 20.0))
    except KeyboardInterrupt:
        return dataclasses.replace(report, notes=(*notes, INTERRUPTED_SEARCH))
    except UndecidedError as error:
        return dataclasses.replace(report, notes=(*notes, f"The witness was not proved: {error}"))
    seconds = report.seconds | {"total": time.perf_counter() - begin}
    return dataclasses.replace(report, witness=witness, lower=witness.ratio, seconds=seconds)


def kept_lipschitz_of(network: StableNetwork, limits: Limits, seed: int = 0) -> tuple[LipschitzReport, bool]:
    """`lipschitz_of`, and whether Ctrl-C ended it: then with what was found by then, or what a second finds.

    **Raises:** as `lipschitz`.
    """
    try:
        report = lipschitz_of(network, limits, seed)
    except KeyboardInterrupt:  # pressed where nothing was to be kept yet
        return lipschitz_of(network, shortened(limits), seed), True
    return report, report.solution.status is Status.INTERRUPTED or INTERRUPTED_SEARCH in report.notes


def shortened(limits: Limits) -> Limits:
    """At most `AFTERWARDS` seconds."""
    return dataclasses.replace(limits, time_limit=min(limits.time_limit, AFTERWARDS))


def with_fewer_inputs(network: StableNetwork) -> StableNetwork | None:
    """The network with R in place of B, if it begins with a fully connected block of more inputs than units."""
    parts = list(network.parts)
    while parts and isinstance(parts[0], Flatten):
        parts.pop(0)
    first = parts[0] if parts else None
    if not isinstance(first, StableBlock) or first.convolutional or not first.shared:
        return None
    n, m = first.inputs[0].shape
    if m <= n:
        return None
    factor = np.asarray(np.linalg.qr(first.inputs[0].T, mode="r"), dtype=np.float64).T
    return StableNetwork((dataclasses.replace(first, inputs=(factor,)), *parts[1:]), (n,), network.name)
