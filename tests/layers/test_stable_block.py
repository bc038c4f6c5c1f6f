import numpy as np
import pytest
from netgain import layers
from netgain.layers.stable_block import Border, StableBlock
from netgain.verify.balls import BALLS, precision, to_midpoint_radius
from stable_bank import ACTIVATIONS, dense_block, image_block, stack

BLOCKS = [
    (dense_block(0), (3,)),
    (dense_block(1, shared=False), (3,)),
    (dense_block(2, n=1, m=1, depth=1), (1,)),
    (image_block(3), (1, 4, 5)),
    (image_block(4, shared=False, border=Border.CIRCULAR), (1, 4, 5)),
    (image_block(5, taps=(5,), source=2, border=Border.CIRCULAR), (2, 6)),
]


@pytest.mark.parametrize(("block", "shape"), BLOCKS)
def test_the_graph_computes_the_recursion_written_with_matrices(block, shape):
    u = np.random.default_rng(0).standard_normal((4, *shape))
    x = np.zeros((4, np.prod(block.state_shape(shape))))
    states = [x]
    for k in range(block.depth):
        a, b, c = block.matrices(shape, k)
        x = x + block.step * block.activation.value(x @ a.T + u.reshape(4, -1) @ b.T + c)
        states.append(x)
        unrolled = block.graph(shape, k + 1).forward(u).reshape(4, -1)
        np.testing.assert_allclose(unrolled, x, atol=1e-13)
    np.testing.assert_allclose(block.states_of(u).reshape(block.depth + 1, 4, -1), states, atol=1e-13)


@pytest.mark.parametrize("border", Border)
def test_kernels_read_the_pixel_itself_in_their_middle(border):
    """Against a sum over taps written out, with indices beyond the image wrapped around or left out."""
    block, shape = image_block(1, border=border), (1, 4, 5)
    a, _, _ = block.matrices(shape)
    x = np.random.default_rng(2).standard_normal((2, 4, 5))
    expected = np.zeros((2, 4, 5))
    for (out, source, i, j), tap in np.ndenumerate(block.states[0]):
        for row in range(4):
            for column in range(5):
                r, c = row + i - 1, column + j - 1
                if border is Border.CIRCULAR or (0 <= r < 4 and 0 <= c < 5):
                    expected[out, row, column] += tap * x[source, r % 4, c % 5]
    np.testing.assert_allclose((a @ x.ravel()).reshape(2, 4, 5), expected, atol=1e-13)


def test_balls_enclose_a_stage():
    block = dense_block(0, activation=layers.Tanh())
    rng = np.random.default_rng(1)
    x, u = rng.standard_normal((1, 4)), rng.standard_normal((1, 3))
    with precision(128):
        middle, radius = to_midpoint_radius(block.advance(BALLS.constant(x), BALLS.constant(u), 0, BALLS))
    np.testing.assert_allclose(middle, block.advance(x, u), atol=1e-14)
    assert np.max(radius) < 1e-15


@pytest.mark.parametrize("seed", range(3))
def test_a_stack_is_its_parts_in_turn(seed):
    network = stack(seed)
    u = np.random.default_rng(seed).standard_normal((3, 1, 6, 6))
    value = u
    for part in network.parts:
        value = part.states_of(value)[-1] if isinstance(part, StableBlock) else part.forward(value)
    np.testing.assert_allclose(network.graph().forward(u), value, atol=1e-12)
    assert [shape for _, shape in network.blocks] == [(1, 6, 6), (3, 3, 3)]


@pytest.mark.parametrize(("block", "shape"), BLOCKS)
def test_archives_return_the_same_block(block, shape, tmp_path):
    network = layers.StableNetwork((block,), shape, "block")
    layers.formats.save_stable_npz(tmp_path / "block.npz", network)
    found = layers.load_stable(tmp_path / "block.npz")
    assert found.graph().digest == network.graph().digest == layers.load(tmp_path / "block.npz").digest
    assert found.parts[0].shared == block.shared or block.depth == 1
    assert found.input_shape == shape


def test_archives_return_the_same_stack(tmp_path):
    scaled = (layers.Scale(shift=np.full(1, -0.5)), layers.Scale(divisor=np.array(0.25)))
    network = layers.StableNetwork((*scaled, *stack(0).parts), (1, 6, 6), "stack")
    layers.formats.save_stable_npz(tmp_path / "stack.npz", network)
    assert layers.load_stable(tmp_path / "stack.npz").graph().digest == network.graph().digest


def test_an_archive_written_by_hand_needs_no_input_shape(tmp_path):
    np.savez(tmp_path / "one.npz", A1=-np.eye(2), B1=np.ones((2, 3)), step1=1.0, depth1=4, activation1="tanh",
             W2=np.ones((1, 2)))
    network = layers.load_stable(tmp_path / "one.npz")
    assert network.shapes == ((3,), (2,), (1,))
    assert network.blocks[0][0].slopes == (0, 1)


GOOD = {"A1": -np.eye(2), "B1": np.ones((2, 3)), "step1": 1.0, "depth1": 4, "activation1": "tanh"}


@pytest.mark.parametrize(("change", "says"), [
    ({"depth1": None}, "missing depth1"),
    ({"A1": np.ones((2, 3))}, r"A must be a matrix"),
    ({"B1": np.ones((3, 3))}, r"B has the shape \(3, 3\)"),
    ({"A1": np.full((2, 2), np.nan)}, "NaN"),
    ({"step1": -1.0}, "positive number"),
    ({"depth1": 0}, "whole number from 1 on"),
    ({"depth1": 2.5}, "whole number"),
    ({"activation1": "softmax"}, "not known"),
    ({"activation1": "group_sort:2"}, "each entry alone"),
    ({"C1": np.ones(3)}, "C has the shape"),
    ({"shared1": False}, "first axis"),
    ({"border1": "mirror"}, "expected zeros or circular"),
    ({"b1": np.ones(2)}, "cannot go with"),
    ({"A1": -np.ones((1, 1, 2)), "B1": np.ones((1, 1, 3))}, "odd extents"),
])
def test_what_does_not_fit_is_named(change, says, tmp_path):
    content = {key: value for key, value in (GOOD | change).items() if value is not None}
    np.savez(tmp_path / "bad.npz", input_shape=[3], **content)
    with pytest.raises(layers.ModelError, match=says):
        layers.load_stable(tmp_path / "bad.npz")


def test_other_archives_and_inputs_are_refused(tmp_path):
    np.savez(tmp_path / "plain.npz", W1=np.eye(2))
    with pytest.raises(layers.ModelError, match="no block"):
        layers.load_stable(tmp_path / "plain.npz")
    with pytest.raises(layers.ShapeError, match="takes an input"):
        dense_block(0).graph((4,))
    with pytest.raises(layers.ModelError, match="no 9 stages"):
        dense_block(0, shared=False).graph((3,), 9)
    with pytest.raises(layers.ShapeError, match="too small"):
        image_block(0, taps=(7,), border=Border.CIRCULAR).graph((1, 2))
    with pytest.raises(layers.ShapeError, match="one for each"):
        StableBlock((np.eye(2),) * 2, (np.eye(2),) * 2, (), ACTIVATIONS[0], 1.0, 3)
