"""Attacks stay within their ball and the pixels' range, and find what is known in closed form."""

import numpy as np
import pytest
from netgain.experiments.training.evaluation import Attack, Norm, are_right, single_thread

torch = pytest.importorskip("torch")

WEIGHT = torch.tensor([[1.0, 2.0, 0.0, -1.0], [0.0, -1.0, 0.5, 1.0]], dtype=torch.float64)


def logits(x):
    return x.flatten(1) @ WEIGHT.T


def images(count=40):
    return np.random.default_rng(0).uniform(0, 1, (count, 2, 2))


@pytest.mark.parametrize("norm", list(Norm))
@pytest.mark.parametrize("steps", [1, 7])
def test_attacked_images_stay_in_the_ball_and_the_loss_rises(norm, steps):
    x, y = torch.from_numpy(images()), torch.zeros(40, dtype=torch.int64)
    moved = Attack(norm, 0.2, steps).moved(logits, x, y)
    change = (moved - x).flatten(1)
    size = change.abs().amax(1) if norm is Norm.LARGEST else change.norm(dim=1)
    assert torch.all(size <= 0.2 + 1e-12)
    assert torch.all((moved >= 0) & (moved <= 1))
    before, after = (torch.nn.functional.cross_entropy(logits(z), y, reduction="none") for z in (x, moved))
    assert torch.all(after >= before - 1e-12)


@pytest.mark.parametrize(("norm", "dual"), [(Norm.LARGEST, 1), (Norm.EUCLIDEAN, 2)])
def test_linear_classifiers_lose_the_dual_norm_of_the_margin(norm, dual):
    """Inside the box the margin falls by the radius times the dual norm of the difference of rows."""
    x = torch.full((1, 2, 2), 0.5, dtype=torch.float64)
    moved = Attack(norm, 0.1, 10).moved(logits, x, torch.tensor([0]))
    row = WEIGHT[0] - WEIGHT[1]
    fall = float((x - moved).flatten() @ row)
    assert fall == pytest.approx(0.1 * float(row.norm(p=dual)), rel=1e-9)


def test_are_right_counts_what_argmax_says():
    labels = np.argmax(images().reshape(-1, 4) @ WEIGHT.numpy().T, axis=1)
    wrong = labels.copy()
    wrong[::4] = 1 - wrong[::4]
    assert are_right(logits, images(), labels).all()
    assert are_right(logits, images(), wrong).tolist() == [k % 4 != 0 for k in range(40)]
    assert are_right(logits, images(), labels, Attack(Norm.EUCLIDEAN, 0.0, 3)).all()


@pytest.mark.parametrize(("radius", "steps"), [(-0.1, 3), (float("nan"), 3), (0.1, 0)])
def test_impossible_attacks(radius, steps):
    with pytest.raises(ValueError, match="attack"):
        Attack(Norm.LARGEST, radius, steps)


def test_threads_are_restored_after_an_error():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(ValueError, match="attack"), single_thread():
            Attack(Norm.LARGEST, 0.1, torch.get_num_threads() - 1)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert torch.get_num_threads() == before
