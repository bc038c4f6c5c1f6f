import itertools
import time

import numpy as np
import pytest
from netgain.verify.contractivity.box_cover import covers


def by_enumeration(boxes):
    patterns = itertools.product((1, -1), repeat=boxes.shape[1])
    return all(np.any(np.all((boxes == 0) | (boxes == pattern), axis=1)) for pattern in patterns)


def leaves(rng, k, splits):
    """The leaves of a random tree, which cover."""
    boxes = [np.zeros(k, dtype=np.int8)]
    for _ in range(splits):
        box = boxes.pop(int(rng.integers(len(boxes))))
        free = np.flatnonzero(box == 0)
        if not len(free):
            boxes.append(box)
            continue
        position = rng.choice(free)
        for sign in (1, -1):
            child = box.copy()
            child[position] = sign
            boxes.append(child)
    return np.array(boxes)


@pytest.mark.parametrize("seed", range(30))
def test_trees_cover_and_need_each_leaf(seed):
    rng = np.random.default_rng(seed)
    boxes = rng.permutation(leaves(rng, 7, 20))
    assert by_enumeration(boxes)
    assert covers(boxes)
    for k in range(len(boxes)):
        assert not covers(np.delete(boxes, k, axis=0))


@pytest.mark.parametrize("seed", range(200))
def test_any_boxes_as_by_enumeration(seed):
    rng = np.random.default_rng(seed)
    boxes = rng.choice([-1, 0, 1], size=(int(rng.integers(1, 14)), 4), p=[0.25, 0.5, 0.25])
    assert covers(boxes) == by_enumeration(boxes)


def test_the_ends():
    assert covers(np.zeros((1, 5), dtype=int))
    assert not covers(np.zeros((0, 5), dtype=int))
    assert not covers(np.eye(5, dtype=int))
    assert covers(np.array([[1], [-1]]))
    assert not covers(np.array([[1], [1]]))


def test_many_leaves_take_few_splits():
    rng = np.random.default_rng(0)
    boxes = leaves(rng, 40, 3000)
    assert covers(boxes)
    assert not covers(boxes[1:])


def test_boxes_that_cover_only_with_endless_splitting_are_given_up():
    """Random boxes of many positions overlap without structure: the answer is no rather than a wait."""
    rng = np.random.default_rng(0)
    boxes = np.zeros((2000, 60), dtype=np.int8)
    for box in boxes:
        box[rng.choice(60, 7, replace=False)] = rng.choice([-1, 1], 7)
    begin = time.perf_counter()
    assert not covers(boxes)
    assert time.perf_counter() - begin < 20
