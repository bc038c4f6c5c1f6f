"""The realisations of a network whose layers share weights over pixels."""

import enum


class Mode(enum.Enum):
    """How multipliers are shared."""

    NEURON = "neuron"
    """One multiplier per neuron: the tightest, on the unrolled network."""
    SPECTRAL = "spectral"
    """One multiplier per channel, one inequality per frequency: for deep convolutional networks."""
    ROESSER = "roesser"
    """One multiplier per channel and a state-space inequality per layer: for images of any size."""
