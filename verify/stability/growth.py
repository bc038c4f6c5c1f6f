r"""Slopes of growth of a block of any size: where they are sought, and how they are proved.

- Up to `DENSE` entries: all eigenvalues, patterns in turn.
- A circular border: slopes equal on each channel, on single plane waves (`proved_wave_growth`), patterns in turn.
- Up to `MOST` entries: frozen slopes by sparse matrices, proved by traces of powers.
- Above, where slopes reach zero: slopes of zero outside a window of the image. A unit with the slope zero keeps its
  state, so that all products over the slopes are block triangular, and their eigenvalues are 1 and those within the
  window: of the block for a smaller image, with zeros around it.

Otherwise frozen slopes are sought too, but what is shown are two trajectories (`diverging`), whose distance is proved
to grow so many times within so many steps.
"""

import dataclasses
import math
import time
from collections.abc import Iterator

import numpy as np
from netgain.layers.stable_block import Border
from netgain.solvers.stability.sparse_growth import sparse_frozen_growth
from netgain.solvers.stability.spectral_growth import alternating_growth

from ..check_spectral import frequencies
from .block_symbols import BlockSymbols, torus
from .claims import Claim, Kind, windowed
from .common_metric import symbols_of
from .facts import MOST, BlockFacts
from .spectral_witness import proved_growth, proved_wave_growth
from .trajectories import diverging, proved_expansion

_LONGEST_TRAJECTORY = 400
# Of larger blocks: a step in balls takes up to a second.
_LONG_TRAJECTORY, _SHORT_TRAJECTORY = 60, 20
# States above this size are not searched: their eigenvectors take minutes.
_LARGEST = 40_000
_WAVES = 6


@dataclasses.dataclass(frozen=True, eq=False)
class Found:
    """A claim of growth, or None, and what trajectories may start from: slopes (n,) and an eigenvector, or None."""

    claim: Claim | None
    value: float
    slopes: np.ndarray
    vector: np.ndarray | None = None


def growth(facts: BlockFacts, notes: list[str], seed: int, seconds: float) -> Iterator[Claim]:
    """Slopes of growth, and where they exceed 1 two trajectories that part."""
    found = _found(facts, notes, seed, seconds)
    if found is None:
        return
    if found.claim is not None:
        yield found.claim
    if found.value > 1:
        longest = _LONG_TRAJECTORY if facts.size <= MOST else _SHORT_TRAJECTORY
        steps = _LONGEST_TRAJECTORY if facts.dense else longest
        pair = diverging(facts.block, facts.input_shape, found.slopes, steps, found.vector)
        expansion = proved_expansion(facts.block, pair)
        if expansion > 1:
            yield Claim(Kind.EXPANSION, expansion, facts.block.slopes, pair.steps,
                        {"starts": pair.starts, "input": pair.input})


def _found(facts: BlockFacts, notes: list[str], seed: int, seconds: float) -> Found | None:
    if facts.dense:
        found: Found | None = _dense(facts, seed, seconds)
    elif facts.block.convolutional and facts.block.border is Border.CIRCULAR:
        found = _waves(facts, seed, seconds / 2)
        if facts.size <= MOST and not facts.wraps:
            other = _sparse(facts, notes, seed, seconds / 2)
            found = other if other is not None and other.value > found.value else found
    elif facts.size > _LARGEST:
        notes.append(f"Slopes of growth are sought for up to {_LARGEST} entries of the state.")
        return None
    else:
        found = _sparse(facts, notes, seed, seconds)
    return _at_least_one(facts, found)


def _at_least_one(facts: BlockFacts, found: Found | None) -> Found | None:
    """Slopes of zero, at which a step is the identity, where nothing that grows was found."""
    if (found is not None and found.value >= 1) or not facts.box.lower <= 0 <= facts.box.upper:
        return found
    extents, circular = (1,) * (len(facts.input_shape) - 1), facts.block.border is Border.CIRCULAR
    within = facts if facts.size <= MOST and not (circular and facts.wraps) else windowed(facts, extents)
    if within is None:
        return found
    data = {"patterns": np.zeros((1, within.size))}
    if within is not facts:
        data["window"] = np.array(extents, dtype=np.float64)
    return Found(Claim(Kind.GROWTH, 1.0, facts.block.slopes, None, data), 1.0, np.zeros(facts.size))


def _dense(facts: BlockFacts, seed: int, seconds: float) -> Found:
    a, box, slopes = facts.matrices[0], facts.box, facts.block.slopes
    found = alternating_growth(a, box.step, box.lower, box.upper, seed=seed, seconds=seconds)
    value = proved_growth(a, box, found.patterns)
    claim = Claim(Kind.GROWTH, value, slopes, None, {"patterns": found.patterns}) if value > 0 else None
    return Found(claim, value, found.patterns[0])


def _waves(facts: BlockFacts, seed: int, seconds: float) -> Found:
    """The waves on which equal slopes grow most are searched for patterns of channels."""
    box, end = facts.box, time.perf_counter() + seconds
    places, values = frequencies(torus(facts)), symbols_of(facts, facts.block.states, coarse=False)[0]
    one = np.eye(values.shape[-1])
    radii = np.max([np.abs(np.linalg.eigvals(one + box.step * slope * values)).max(axis=1)
                    for slope in (box.lower, box.upper)], axis=0)
    best: tuple[float, int, np.ndarray] | None = None
    for index in np.argsort(-radii)[:_WAVES]:
        left = max(end - time.perf_counter(), 1e-3)
        found = alternating_growth(values[index], box.step, box.lower, box.upper, longest=4, starts=4, seed=seed,
                                   seconds=left / 2)
        if best is None or found.value > best[0]:
            best = found.value, int(index), found.patterns
    assert best is not None
    _, index, patterns = best
    place = places[index].astype(np.int64)
    value = proved_wave_growth(BlockSymbols(facts), place, box, patterns)
    data = {"patterns": patterns, "frequency": place.astype(np.float64)}
    claim = Claim(Kind.GROWTH, value, facts.block.slopes, None, data) if value > 0 else None
    frozen = one + box.step * patterns[0][:, None] * values[index]
    eigenvalues, vectors = np.linalg.eig(frozen)
    turns = np.indices(facts.input_shape[1:]).reshape(len(place), -1).T @ (place / np.array(torus(facts)))
    wave = np.exp(2j * np.pi * turns)
    vector = (vectors[:, int(np.argmax(np.abs(eigenvalues)))][:, None] * wave).ravel()
    return Found(claim, value, np.repeat(patterns[0], len(wave)), vector)


def _sparse(facts: BlockFacts, notes: list[str], seed: int, seconds: float) -> Found | None:
    """Frozen slopes of the whole state, or of a window where that is what can be proved."""
    box, within = facts.box, facts
    reaches_zero = box.lower <= 0 <= box.upper
    if facts.size > MOST and reaches_zero and facts.block.convolutional:
        extents = _window(facts)
        if (smaller := windowed(facts, extents)) is not None:
            within = smaller
    groups = np.repeat(np.arange(len(facts.block.states[0])), within.size // len(facts.block.states[0]))
    found = sparse_frozen_growth(within.state_matrix(), box.step, box.lower, box.upper, 4, seed, seconds, groups)
    if found is None:
        notes.append("No slopes of growth were found in the time.")
        return None
    claim, value = None, found.value
    if within.size <= MOST:
        value = proved_growth(within.state_matrix().toarray(), box, found.slopes[None])
        data = {"patterns": found.slopes[None]}
        if within is not facts:
            data["window"] = np.array(within.input_shape[1:], dtype=np.float64)
        claim = Claim(Kind.GROWTH, value, facts.block.slopes, None, data) if value > 0 else None
    elif value > 1:
        notes.append(f"Slopes were found under which a step has the spectral radius {value:.7g}; with {facts.size} "
                     f"entries that is in floating point: it is proved for up to {MOST}.")
    if within is facts:
        return Found(claim, value, found.slopes, found.vector)
    return Found(claim, value, _placed(found.slopes, within, facts), _placed(found.vector, within, facts))


def _window(facts: BlockFacts) -> tuple[int, ...]:
    """The largest window of about equal extents that has at most `MOST` entries."""
    channels, image = len(facts.block.states[0]), facts.input_shape[1:]
    side = max(image)
    while side > 1 and channels * math.prod(min(side, extent) for extent in image) > MOST:
        side -= 1
    return tuple(min(side, extent) for extent in image)


def _placed(values: np.ndarray, within: BlockFacts, facts: BlockFacts) -> np.ndarray:
    """Values of the window in the middle of the image, zeros around them."""
    shape = facts.block.state_shape(facts.input_shape)
    result = np.zeros(shape, dtype=values.dtype)
    small = within.block.state_shape(within.input_shape)
    places = [slice((large - extent) // 2, (large - extent) // 2 + extent)
              for large, extent in zip(shape[1:], small[1:], strict=True)]
    result[(slice(None), *places)] = values.reshape(small)
    return result.ravel()
