r"""Symmetries of a field: permutations of slopes that leave mu(B + D A) as it is, and what a search need not look at.

If Q is a signed permutation, Q e_i = s_i e_pi(i), with Q A Q^T = A and Q B Q^T = B, then Q is orthogonal and mu(B + D
A) = mu(B + D' A) for D' = Q^T D Q, that is d'_i = d_pi(i). Only one pattern of each orbit has to be searched: the
lexicographically largest. A box all of whose patterns become larger under one symmetry holds none of these. Circulant
weights, that is convolutions with cyclic boundary, have at least as many symmetries as neurons.
"""

import dataclasses

import numpy as np

from .logarithmic_norm import SlopeField

_SYMMETRIES = 128
_STEPS = 40_000
_OPERATIONS = 4e8


@dataclasses.dataclass(frozen=True, eq=False)
class SlopeSymmetries:
    """Signed permutations without the identity: `permutations` pi and `signs` s, both of shape (count, k)."""

    permutations: np.ndarray
    signs: np.ndarray

    def __len__(self) -> int:
        return len(self.permutations)

    def raising(self, boxes: np.ndarray) -> np.ndarray:
        """For boxes of signs, shape (b, k): a symmetry that makes every pattern of the box larger, or -1; shape (b,).

        Position by position, image and pattern are compared. Where the image is larger, nothing is left to show; where
        a free sign would decide, only the choice for which they agree has to be followed further.
        """
        count = len(self)
        if not count:
            return np.full(len(boxes), -1)
        known = np.repeat(boxes[:, None, :], count, axis=1)
        tied, raised = np.ones((len(boxes), count), dtype=bool), np.zeros((len(boxes), count), dtype=bool)
        for position in range(boxes.shape[1]):
            source = self.permutations[:, position]
            here, image = known[:, :, position], known[:, np.arange(count), source]
            same = (source == position) | ((here == image) & (here != 0))
            raised |= tied & ~same & (here == -1) & (image == 1)
            fix_here = tied & ~same & (here == 0) & (image == 1)
            fix_image = tied & ~same & (here == -1) & (image == 0)
            tied &= same | fix_here | fix_image
            if not np.any(tied):
                break
            known[:, :, position][fix_here] = 1
            box, which = np.nonzero(fix_image)
            known[box, which, source[which]] = -1
        return np.where(np.any(raised, axis=1), np.argmax(raised, axis=1), -1)


def find_symmetries(field: SlopeField) -> SlopeSymmetries:
    """Some of the field's symmetries, at most 128, found by backtracking; none where outputs differ from inputs."""
    k = field.neurons
    if field.outputs is not None or k < 2:
        return SlopeSymmetries(np.zeros((0, k), dtype=np.intp), np.zeros((0, k), dtype=np.int8))
    # A step costs some k^2 operations; larger fields are not searched to the end anyway.
    steps = min(_STEPS, int(_OPERATIONS / k**2)) // k
    if steps < k:
        return SlopeSymmetries(np.zeros((0, k), dtype=np.intp), np.zeros((0, k), dtype=np.int8))
    search = _Backtracking([field.inputs] if field.linear is None else [field.inputs, field.linear])
    # One image of the first neuron after the other, so that a large group is not met in its last positions only.
    for image in np.flatnonzero(search.kinds == search.kinds[0]):
        search.steps, search.wanted = steps, len(search.found) + max(1, _SYMMETRIES // k)
        search.extend({0: (int(image), 1)})
    return SlopeSymmetries(np.array([pi for pi, _ in search.found], dtype=np.intp).reshape(-1, k),
                           np.array([s for _, s in search.found], dtype=np.int8).reshape(-1, k))


class _Backtracking:
    """Assigns images neuron by neuron, along couplings, so that moduli leave few candidates and the signs follow."""

    def __init__(self, matrices: list[np.ndarray]):
        self.matrices, self.moduli = matrices, [np.abs(matrix) for matrix in matrices]
        self.size = len(matrices[0])
        kinds = [self._kind(i) for i in range(self.size)]
        self.kinds = np.array([kinds.index(kind) for kind in kinds])
        coupled = sum(modulus + modulus.T for modulus in self.moduli) > 0
        self.order = [0]
        couplings = coupled[0].astype(float)
        while len(self.order) < self.size:
            couplings[self.order] = -1
            following = int(np.argmax(couplings))
            self.order.append(following)
            couplings += coupled[following]
        self.found: list[tuple[np.ndarray, np.ndarray]] = []
        self.steps = self.wanted = 0

    def _kind(self, i: int) -> tuple[bytes, ...]:
        """What a symmetry preserves of a neuron: diagonal entries, and the moduli in its row and column."""
        lines = [line for modulus in self.moduli for line in (np.sort(modulus[i]), np.sort(modulus[:, i]))]
        # Adding 0.0 makes -0.0 the same bytes as 0.0.
        return tuple((part + 0.0).tobytes() for part in (*(matrix[i, i] for matrix in self.matrices), *lines))

    def extend(self, images: dict[int, tuple[int, int]]) -> None:
        self.steps -= 1
        if len(images) == self.size:
            pi, s = (np.array([images[i][part] for i in range(self.size)]) for part in (0, 1))
            if np.any(pi != np.arange(self.size)):
                self.found.append((pi, s))
            return
        i = self.order[len(images)]
        others, targets = list(images), [image for image, _ in images.values()]
        signs = np.array([sign for _, sign in images.values()])
        alike = self.kinds == self.kinds[i]
        alike[targets] = False
        for modulus in self.moduli:
            alike &= np.all(modulus[:, targets] == modulus[i, others], axis=1)
            alike &= np.all(modulus[targets] == modulus[others, i][:, None], axis=0)
        for image in np.flatnonzero(alike):
            for sign in (1, -1):
                if self.steps <= 0 or len(self.found) >= self.wanted:
                    return
                if all(
                    np.array_equal(matrix[image, targets] * (sign * signs), matrix[i, others])
                    and np.array_equal(matrix[targets, image] * (sign * signs), matrix[others, i])
                    for matrix in self.matrices
                ):
                    self.extend(images | {i: (int(image), sign)})
