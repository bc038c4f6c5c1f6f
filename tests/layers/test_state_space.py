"""State-space layers against recurrences written out, scipy, convolutions, and their transfer functions."""

from fractions import Fraction

import flint
import numpy as np
import pytest
import scipy.linalg
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st
from netgain.layers import Convolution, ModelError, Pad, ShapeError, StateSpace, sequential
from netgain.verify.balls import BALLS, precision
from netgain.verify.constraints import constraint_rows

SETTINGS = settings(max_examples=80, deadline=None)


def dense(A):
    """The matrix itself, of whatever form A is."""
    return np.diag(A) if A.ndim == 1 else A if A.ndim == 2 else scipy.linalg.block_diag(*A)


@st.composite
def models(draw):
    """A model in every form, the length of a sequence, and a generator of numbers."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    channels, out, length = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 9))
    form, block = draw(st.sampled_from(["dense", "diagonal", "blocks"])), draw(st.integers(1, 3))
    states = draw(st.integers(1, 3)) * (block if form == "blocks" else 1)
    A = {"dense": (states, states), "diagonal": (states,), "blocks": (states // block, block, block)}[form]

    def optional(*shape):
        return draw(st.sampled_from([None, rng.standard_normal(shape)]))

    layer = StateSpace(rng.standard_normal(A), rng.standard_normal((states, channels)),
                       rng.standard_normal((out, states)), optional(out, channels), optional(out), optional(states))
    return layer, length, rng


def run(layer, u, initial):
    """The recurrence, one step after the other."""
    A, x = dense(layer.A), initial
    D = np.zeros((len(layer.C), layer.B.shape[1])) if layer.D is None else layer.D
    outputs = []
    for t in range(u.shape[1]):
        outputs.append(layer.C @ x + D @ u[:, t])
        x = A @ x + layer.B @ u[:, t]
    return np.stack(outputs, axis=1)


def zero_state(layer):
    return np.zeros(len(layer.B))


@given(models())
@SETTINGS
def test_it_runs_the_recurrence(case):
    layer, length, rng = case
    u = rng.standard_normal((3, layer.B.shape[1], length))
    assert layer.output_shape(u.shape[1:]) == (len(layer.C), length)
    initial = zero_state(layer) if layer.initial_state is None else layer.initial_state
    bias = 0 if layer.bias is None else layer.bias[:, None]
    for found, start, constant in ((layer.apply(u, 0, (u.shape[1:],)), zero_state(layer), 0),
                                   (layer.forward(u), initial, bias)):
        expected = np.stack([run(layer, sample, start) + constant for sample in u])
        np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-11 * np.max(np.abs(expected)))


@pytest.mark.parametrize("length", [1, 2, 37, 64])
def test_it_agrees_with_scipy(length):
    rng = np.random.default_rng(0)
    A = rng.standard_normal((4, 4))
    A /= 1.05 * np.max(np.abs(np.linalg.eigvals(A)))
    layer = StateSpace(A, rng.standard_normal((4, 2)), rng.standard_normal((3, 4)), rng.standard_normal((3, 2)),
                       initial_state=rng.standard_normal(4))
    u = rng.standard_normal((2, length))
    _, expected, _ = scipy.signal.dlsim((layer.A, layer.B, layer.C, layer.D, 1.0), u.T, x0=layer.initial_state)
    np.testing.assert_allclose(layer.forward(u[None])[0], np.reshape(expected, (length, 3)).T, rtol=1e-10, atol=1e-12)


@given(models())
@SETTINGS
def test_the_transposed_is_the_adjoint(case):
    layer, length, rng = case
    shape = (layer.B.shape[1], length)
    x, y = rng.standard_normal((3, *shape)), rng.standard_normal((3, len(layer.C), length))
    left, right = layer.apply(x, 0, (shape,)) * y, x * layer.apply_transposed(y, 0, (shape,))
    assert right.shape == (3, *shape)
    scale = np.sum(np.abs(left)) + np.sum(np.abs(right))
    np.testing.assert_allclose(np.sum(left, axis=(1, 2)), np.sum(right, axis=(1, 2)), rtol=0, atol=1e-12 * scale)


@given(models())
@SETTINGS
def test_unrolled_it_is_the_image_of_unit_vectors(case):
    layer, length, _ = case
    shape = (layer.B.shape[1], length)
    size = shape[0] * length
    unit = np.eye(size).reshape((size, *shape))
    expected = np.stack([run(layer, u, zero_state(layer)) for u in unit])
    scale = np.max(np.abs(expected)) + 1e-300
    np.testing.assert_allclose(layer.unrolled(0, (shape,)), expected, rtol=0, atol=1e-12 * scale)
    np.testing.assert_allclose(layer.apply(unit, 0, (shape,)), expected, rtol=0, atol=1e-12 * scale)


def rational(layer, length):
    """D, C B, C A B, .. in rational numbers."""
    exact = np.vectorize(Fraction, otypes=[object])
    A, state, C = exact(dense(layer.A)), exact(layer.B), exact(layer.C)
    D = np.zeros((len(C), state.shape[1])) if layer.D is None else layer.D
    response = [exact(D)]
    while len(response) < length:
        response.append(C.dot(state))
        state = A.dot(state)
    return np.stack(response)


def contains(balls, exact, radius):
    with precision(2000):  # the numbers are dyadic, and this is enough for all their digits
        pairs = [(ball, flint.arb(flint.fmpq(q.numerator, q.denominator)))
                 for ball, q in zip(np.ravel(balls), np.ravel(exact), strict=True)]
    assert all(number.is_exact() for _, number in pairs)
    return all(ball.contains(number) and float(ball.rad()) <= radius for ball, number in pairs)


@given(models())
@SETTINGS
def test_balls_enclose_the_impulse_response_and_everything_made_of_it(case):
    layer, length, rng = case
    exact, shape = rational(layer, length), (layer.B.shape[1], length)
    radius = 1e-20 * max(1.0, float(np.max(np.abs(exact))))
    with precision(100):
        assert contains(layer.impulse_response(length, BALLS), exact, radius)
        matrix = layer.unrolled(0, (shape,), BALLS)
        expected = np.full((*shape, len(layer.C), length), Fraction(0), dtype=object)
        for start in range(length):
            expected[:, start, :, start:] = exact[: length - start].transpose(2, 1, 0)
        assert contains(matrix, expected.reshape(matrix.shape), radius)
        u = rng.standard_normal((2, *shape))
        for given_as in (u, BALLS.constant(u)):
            sums = np.vectorize(Fraction, otypes=[object])(u).reshape(2, -1).dot(expected.reshape(u[0].size, -1))
            assert contains(layer.apply(given_as, 0, (shape,), BALLS), sums, 100 * radius)
        middle = layer.forward(u)
        enclosed = np.vectorize(float)(layer.forward(BALLS.constant(u), arithmetic=BALLS))
        np.testing.assert_allclose(enclosed, middle, rtol=0, atol=1e-10 * (np.abs(middle).max() + 1))


def test_balls_stay_tight_over_long_sequences_of_rotations():
    """Step by step, the radius would grow by sqrt(2) each time: by 2^500."""
    angles = np.linspace(0.1, 3, 6)
    layer = StateSpace.from_modes(0.999 * np.exp(1j * angles), np.ones((6, 1)), np.ones((1, 6)))
    with precision(128):
        assert max(float(ball.rad()) for ball in layer.impulse_response(1000, BALLS).ravel()) < 1e-30


@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.booleans(), st.integers(0, 2**32 - 1))
@SETTINGS
def test_complex_modes_are_kept_as_they_are(modes, channels, out, pairs, seed):
    rng = np.random.default_rng(seed)

    def numbers(*shape):
        return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(np.complex64)

    eigenvalues, B, C = numbers(modes), numbers(modes, channels), numbers(out, modes)
    D, bias = rng.standard_normal((out, channels)), rng.standard_normal(out)
    layer = StateSpace.from_modes(eigenvalues, B, C, D, bias, conjugate_pairs=pairs)
    u = rng.standard_normal((channels, 6))
    x, outputs = np.zeros(modes, dtype=complex), []
    for t in range(6):
        outputs.append((2 if pairs else 1) * (C.astype(complex) @ x).real + D @ u[:, t] + bias)
        x = eigenvalues.astype(complex) * x + B.astype(complex) @ u[:, t]
    scale = np.max(np.abs(outputs))
    np.testing.assert_allclose(layer.forward(u[None])[0], np.stack(outputs, axis=1), rtol=0, atol=1e-11 * scale)
    given_parts = {abs(float(part)) for values in (eigenvalues, B) for v in values.ravel() for part in (v.real, v.imag)}
    assert {abs(v) for v in (*layer.A.ravel(), *layer.B.ravel())} == given_parts
    spectrum = np.linalg.eigvals(dense(layer.A))
    for eigenvalue in eigenvalues:
        assert np.min(np.abs(spectrum - eigenvalue)) < 1e-6


def test_the_forms_of_a_are_one_model():
    rng = np.random.default_rng(3)
    blocks, B, C = rng.standard_normal((2, 2, 2)), rng.standard_normal((4, 2)), rng.standard_normal((3, 4))
    u = rng.standard_normal((2, 2, 7))
    for A in (blocks, rng.standard_normal(4)):
        given_form, full = StateSpace(A, B, C), StateSpace(dense(A), B, C)
        np.testing.assert_allclose(given_form.forward(u), full.forward(u), rtol=1e-12, atol=1e-12)
        assert sequential((2, 7), [given_form]).digest != sequential((2, 7), [full]).digest


def test_it_is_a_causal_convolution_with_its_impulse_response():
    rng, length = np.random.default_rng(4), 8
    layer = StateSpace(rng.standard_normal((3, 3)) / 2, *(rng.standard_normal(s) for s in ((3, 2), (2, 3), (2, 2))))
    kernel = layer.impulse_response(length)[::-1].transpose(1, 2, 0)  # a convolution does not flip its kernel
    causal = sequential((2, length), [Pad(((length - 1,), (0,))), Convolution(kernel)])
    u = rng.standard_normal((5, 2, length))
    np.testing.assert_allclose(layer.forward(u), causal.forward(u), rtol=1e-12, atol=1e-12)
    (rows,) = constraint_rows(sequential((2, length), [layer])).output.values()
    (expected,) = constraint_rows(causal).output.values()
    np.testing.assert_allclose(rows, expected, rtol=1e-12, atol=1e-12)


def test_its_norm_over_long_sequences_is_the_peak_of_its_transfer_function():
    rng = np.random.default_rng(5)
    layer = StateSpace.from_modes(0.8 * np.exp([0.7j, 2j]), rng.standard_normal((2, 2)), rng.standard_normal((1, 2)),
                                  rng.standard_normal((1, 2)), conjugate_pairs=True)
    points = np.exp(1j * np.linspace(0, 2 * np.pi, 4001))
    transfer = [layer.C @ np.linalg.solve(z * np.eye(4) - dense(layer.A), layer.B) + layer.D for z in points]
    peak = max(np.linalg.norm(response, 2) for response in transfer)
    norms = [np.linalg.norm(layer.unrolled(0, ((2, length),)).reshape(2 * length, -1), 2) for length in (1, 5, 20, 160)]
    assert norms == sorted(norms)
    assert norms[0] == pytest.approx(np.linalg.norm(layer.D, 2))
    assert 0.99 * peak < norms[-1] < peak * (1 + 1e-5)


ONES = np.ones


@pytest.mark.parametrize(("make", "message"), [
    (lambda: StateSpace(ONES((2, 3)), ONES((2, 1)), ONES((1, 2))), r"A has shape \(2, 3\), expected a matrix 2 x 2, 2"),
    (lambda: StateSpace(ONES(3), ONES((2, 1)), ONES((1, 2))), r"A has shape \(3,\)"),
    (lambda: StateSpace(ONES((2, 2, 2)), ONES((2, 1)), ONES((1, 2))), r"A has shape \(2, 2, 2\)"),
    (lambda: StateSpace(ONES((1, 2, 2)), ONES((3, 1)), ONES((1, 3))), r"A has shape \(1, 2, 2\)"),
    (lambda: StateSpace(ONES((2, 0, 0)), ONES((2, 1)), ONES((1, 2))), r"A has shape \(2, 0, 0\)"),
    (lambda: StateSpace(ONES(()), ONES((1, 1)), ONES((1, 1))), r"A has shape \(\)"),
    (lambda: StateSpace(ONES(2), ONES(2), ONES((1, 2))), r"neither empty, got \(2,\) and \(1, 2\)"),
    (lambda: StateSpace(ONES(2), ONES((2, 0)), ONES((1, 2))), "neither empty"),
    (lambda: StateSpace(ONES(2), ONES((2, 1)), ONES((1, 3)), ONES((2, 2)), ONES(2), ONES(3)),
     r"C has shape \(1, 3\), expected \(1, 2\); D .* \(1, 1\); bias .* \(1,\); initial_state .* \(2,\)"),
    (lambda: StateSpace(np.full(2, np.nan), ONES((2, 1)), ONES((1, 2))), "`A` of shape .* NaN"),
    (lambda: StateSpace(None, ONES((2, 1)), ONES((1, 2))), "`A` has dtype object"),
    (lambda: StateSpace(1j * ONES(2), ONES((2, 1)), ONES((1, 2))), "`A` has dtype complex128"),
    (lambda: StateSpace.from_modes(ONES(2), ONES((3, 1)), ONES((1, 2))), r"Modes have shapes .*got \(2,\), \(3, 1\)"),
    (lambda: StateSpace.from_modes(["a"], ONES((1, 1)), ONES((1, 1))), "`eigenvalues` has dtype"),
    (lambda: StateSpace.from_modes(ONES(1), ONES((1, 1)), [[np.inf * 1j]]), "`C` .* NaN or infinite"),
    (lambda: sequential((3, 4), [StateSpace(ONES(2), ONES((2, 1)), ONES((1, 2)))]), r"\(1, length\), got \(3, 4\)"),
    (lambda: sequential((1,), [StateSpace(ONES(2), ONES((2, 1)), ONES((1, 2)))]), r"\(1, length\), got \(1,\)"),
])
def test_what_does_not_fit_is_named(make, message):
    with pytest.raises(ModelError, match=message):
        make()


def test_it_is_described_by_its_sizes():
    assert StateSpace(ONES(4), ONES((4, 2)), ONES((3, 4))).describe() == "StateSpace 2 -> 3, 4 states"
    with pytest.raises(ShapeError, match="takes one input"):
        StateSpace(ONES(4), ONES((4, 2)), ONES((3, 4))).output_shape((2, 3), (2, 3))
