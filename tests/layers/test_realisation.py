"""A realisation, run step by step, answers like the convolution it realises."""

import numpy as np
import pytest
from netgain.layers import Convolution
from netgain.layers.roesser import Realisation, realise_stencil
from netgain.layers.shift_invariant import Stencil


def run(system: Realisation, u: np.ndarray) -> np.ndarray:
    """The answer to u of shape (components, rows, columns), from a state of zeros."""
    n1, n2 = system.states
    _, rows, columns = u.shape
    down, y = np.zeros((n1, columns)), np.zeros((len(system.D), rows, columns))
    for i in range(rows):
        right, following = np.zeros(n2), np.zeros((n1, columns))
        for j in range(columns):
            x = np.concatenate([down[:, j], right])
            y[:, i, j] = system.C @ x + system.D @ u[:, i, j]
            ahead = system.A @ x + system.B @ u[:, i, j]
            following[:, j], right = ahead[:n1], ahead[n1:]
        down = following
    return y


def components(x: np.ndarray, strides: tuple[int, int]) -> np.ndarray:
    channels, rows, columns = x.shape
    s, t = strides
    cut = x.reshape(channels, rows // s, s, columns // t, t)
    return cut.transpose(0, 2, 4, 1, 3).reshape(channels * s * t, rows // s, columns // t)


@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (2, 3), (4, 1), (1, 3), (5, 4)])
@pytest.mark.parametrize("strides", [(1, 1), (2, 2), (2, 3), (3, 1)])
@pytest.mark.parametrize("out", [1, 3, 50])
def test_realisation_answers_like_the_convolution(kernel: tuple[int, int], strides: tuple[int, int], out: int) -> None:
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(out, 2, *kernel)) * (rng.random((out, 2, *kernel)) < 0.9)
    layer = Convolution(weight, strides=strides)
    stencil = layer.stencil(0, ((2, 6 * strides[0] + kernel[0], 6 * strides[1] + kernel[1]),))
    system = realise_stencil(stencil)
    # The windows of the realisation end with the cell they are the answer of.
    cells = 9
    x = np.zeros((2, cells * strides[0], cells * strides[1]))
    x[:, : 4 * strides[0], : 4 * strides[1]] = rng.normal(size=(2, 4 * strides[0], 4 * strides[1]))
    y = run(system, components(x, strides))
    padded = np.pad(x, ((0, 0), (kernel[0] + 9 * strides[0], 0), (kernel[1] + 9 * strides[1], 0)))
    begin = [(padded.shape[a + 1] - kernel[a]) % strides[a] for a in range(2)]
    expected = layer.forward(padded[None, :, begin[0] :, begin[1] :])[0]
    assert np.allclose(y, expected[:, -cells:, -cells:], atol=1e-12)
    # Nilpotent: the state of a finite system forgets.
    assert not np.any(np.linalg.matrix_power(system.A, max(1, len(system.A))))


def test_a_state_holds_no_more_than_is_read() -> None:
    """A 3x3 kernel of stride 2 holds one of two columns, and sums one row."""
    weight = np.ones((4, 2, 3, 3))
    layer = Convolution(weight, strides=(2, 2), padding=((1, 1), (1, 1)))
    assert realise_stencil(layer.stencil(0, ((2, 8, 8),))).states == (4, 2 * 2)
    same = Convolution(weight, padding=((1, 1), (1, 1)))
    assert realise_stencil(same.stencil(0, ((2, 8, 8),))).states == (2 * 4, 2 * 2)


@pytest.mark.parametrize(("out", "channels", "states"), [
    (9, 9, (2 * 9, 2 * 9)),  # sums of two rows, inputs of two columns
    (30, 2, (2 * 3 * 2, 2 * 2)),  # (x2, u) of two rows, inputs of two columns
    (2, 30, (2 * 2, 2 * 3 * 2)),  # the transpose
])
def test_the_fewest_states_are_taken(out: int, channels: int, states: tuple[int, int]) -> None:
    same = Convolution(np.ones((out, channels, 3, 3)), padding=((1, 1), (1, 1)))
    system = realise_stencil(same.stencil(0, ((channels, 8, 8),)))
    assert system.states in (states, states[::-1])


@pytest.mark.parametrize(("out", "channels"), [(2, 5), (5, 2)])
def test_along_one_axis_the_smaller_state_is_taken(out: int, channels: int) -> None:
    rng = np.random.default_rng(1)
    taps = rng.normal(size=(4, out, channels))
    system = realise_stencil(Stencil(np.arange(4)[:, None], taps, (1,)))
    assert system.states == (3 * min(out, channels),)
    u, x = rng.normal(size=(channels, 12)), np.zeros(sum(system.states))
    for t in range(12):
        y = system.C @ x + system.D @ u[:, t]
        expected = sum(taps[k] @ u[:, t - 3 + k] for k in range(4) if t - 3 + k >= 0)
        assert np.allclose(y, expected, atol=1e-12)
        x = system.A @ x + system.B @ u[:, t]


def test_more_axes_are_refused() -> None:
    with pytest.raises(ValueError, match="one or two axes"):
        realise_stencil(Stencil(np.zeros((1, 3), dtype=int), np.ones((1, 1, 1)), (1, 1, 1)))
