"""Networks that are chains of dissipative stages: in the plane, along a line, with poolings, state spaces and heads."""

import numpy as np
from netgain.layers import (
    Affine,
    AveragePool,
    BatchNormalization,
    Convolution,
    Flatten,
    Gelu,
    LeakyRelu,
    MaxPool,
    Mean,
    Relu,
    Tanh,
    sequential,
)
from netgain.layers.state_space import StateSpace

_RNG = np.random.default_rng(5)


def same(out: int, channels: int, side: int = 3) -> Convolution:
    """A convolution with random weights whose output is as large as its input."""
    return Convolution(_RNG.normal(size=(out, channels, side, side)) / side, padding=((side // 2,) * 2,) * 2)


def stable(states: int, channels: int, out: int) -> StateSpace:
    """A random state-space model of spectral radius 0.8."""
    A = _RNG.normal(size=(states, states))
    A *= 0.8 / np.abs(np.linalg.eigvals(A)).max()
    return StateSpace(A, _RNG.normal(size=(states, channels)), _RNG.normal(size=(out, states)),
                      _RNG.normal(size=(out, channels)))


BANK = {
    "two convolutions": sequential((1, 6, 5), [same(2, 1), Relu(), same(2, 2)]),
    "negative slopes": sequential((1, 6, 5), [same(2, 1), LeakyRelu(-0.4), same(2, 2), Gelu()]),
    "strides and folding": sequential((2, 8, 8), [
        Convolution(_RNG.normal(size=(3, 2, 3, 3)), strides=(2, 2), padding=((1, 1), (1, 1))),
        BatchNormalization(*_RNG.uniform(0.5, 2.0, (4, 3)), trailing=2), Tanh(),
        AveragePool((2, 2), (2, 2)), same(2, 3)]),
    "maxima and a head": sequential((1, 8, 8), [
        same(2, 1), Relu(), MaxPool((3, 3), (2, 2)), same(2, 2), Relu(), Flatten(), Affine(_RNG.normal(size=(4, 18))),
        Gelu(), Affine(_RNG.normal(size=(3, 4)))]),
    "a leaky head": sequential((1, 4, 4), [same(3, 1), Relu(), Flatten(), Affine(_RNG.normal(size=(3, 48))),
                                           LeakyRelu(0.3), Affine(_RNG.normal(size=(2, 3)))]),
    "means": sequential((1, 6, 6), [same(3, 1), Relu(), Mean((-2, -1)), Flatten(), Affine(_RNG.normal(size=(2, 3)))]),
    "one axis": sequential((2, 9), [Convolution(_RNG.normal(size=(2, 2, 3)), padding=((1,), (1,))), Relu(),
                                    Convolution(_RNG.normal(size=(2, 2, 4)), strides=(3,))]),
    "state spaces": sequential((1, 10), [stable(3, 1, 2), Relu(), stable(2, 2, 2), Tanh(),
                                         Affine(_RNG.normal(size=(1, 2)), axis=-2)]),
}
