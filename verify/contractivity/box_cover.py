"""Whether boxes of signs cover all sign patterns: combinatorics, without rounding.

A box is a row of 0, +1 and -1; it holds the patterns in {-1, +1}^k that agree with it wherever it is not 0.
"""

import numpy as np

_STEPS_PER_BOX = 64


def covers(boxes: np.ndarray) -> bool:
    """Whether every pattern of {-1, +1}^k lies in a box; boxes of shape (count, k).

    Splits on the position that most of the boxes still in question fix, until one box holds all that is left. For the
    leaves of a search tree that takes as many splits as the tree has. False also means that 64 splits per box were not
    enough, which no tree needs.
    """
    count = len(boxes)
    pending = [(np.arange(count), np.zeros(boxes.shape[1], dtype=bool))]
    for _ in range(_STEPS_PER_BOX * (count + 1)):
        if not pending:
            return True
        members, decided = pending.pop()
        undecided = (boxes[members] != 0) & ~decided
        if not len(members):
            return False
        if not np.all(np.any(undecided, axis=1)):  # a box without conditions left holds all patterns that are left
            continue
        position = int(np.argmax(undecided.sum(axis=0)))
        decided = decided.copy()
        decided[position] = True
        pending += [(members[boxes[members, position] != -sign], decided) for sign in (1, -1)]
    return False
