import numpy as np
import pytest
from netgain.layers import (
    Affine,
    FixedPoint,
    GraphBuilder,
    LeakyRelu,
    MaxPool,
    Relu,
    Reshape,
    Softmax,
    Tanh,
    sequential,
)
from netgain.solvers.implicit.state_bound import state_bound
from netgain.solvers.implicit.weighted_log_norm import SlopeBox
from netgain.verify.balls import BALLS, precision
from netgain.verify.constraints import constraint_rows
from netgain.verify.implicit.report import _state_bounds
from netgain.verify.implicit.state_bound_check import proved_output_bound, proves_state_bound

from ...solvers.implicit.implicit_bank import random_matrix


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("interval", [(0.0, 1.0), (-0.3, 0.9), (0.1, 1.0)])
def test_what_is_found_is_proved_and_less_is_not(seed, interval):
    A, w = 0.35 * random_matrix(seed, most=0.5), np.random.default_rng(seed).uniform(0.1, 2, 4)
    slopes = SlopeBox.uniform(4, *interval)
    bound = state_bound(A, slopes, w)
    assert proves_state_bound(A, slopes.lower, slopes.upper, w, bound)
    assert not proves_state_bound(A, slopes.lower, slopes.upper, w, bound * (1 - 1e-6))
    assert not proves_state_bound(A, slopes.lower, slopes.upper, w * 1.001, bound)
    assert not proves_state_bound(A, slopes.lower, slopes.upper, w, -bound)
    assert not proves_state_bound(A, slopes.lower, slopes.upper, w, 0 * bound)


def test_decided_exactly_where_rounding_would_not():
    """x = max(x / 2 + u, 0): t = 2 is feasible with equality; of a slope of 1 and no input nothing is strict."""
    A, zero, one = np.array([[0.5]]), np.zeros(1), np.ones(1)
    assert proves_state_bound(A, zero, one, one, np.array([2.0]))
    assert not proves_state_bound(A, zero, one, one, np.array([np.nextafter(2.0, 0)]))
    assert not proves_state_bound(np.eye(1), zero, one, zero, one)


def graph_of_many_kinds():
    rng = np.random.default_rng(3)
    builder = GraphBuilder()
    u = builder.input((4,))
    first = builder.add(FixedPoint(Affine(random_matrix(1, 6, 0.5)), Tanh()),
                        builder.add(Affine(rng.standard_normal((6, 4))), u))
    image = builder.add(Reshape((1, 6)), builder.add(LeakyRelu(0.1), first))
    pooled = builder.add(Reshape((3,)), builder.add(MaxPool((2,), (2,), padding=((0,), (0,))), image))
    second = builder.add(FixedPoint(Affine(random_matrix(2, 3, 0.5)), Relu()), pooled)
    return builder.build(builder.add(Affine(rng.standard_normal((2, 3))), second))


def rows_of(graph):
    with precision(128):
        return constraint_rows(graph, BALLS, in_double=True)


def test_graphs_of_many_layers():
    graph = graph_of_many_kinds()
    rows = rows_of(graph)
    bounds = _state_bounds(rows)
    gain, outputs = proved_output_bound(rows, bounds)
    assert gain == outputs.max()
    rng = np.random.default_rng(0)
    x = rng.standard_normal((300, 4)) * 10.0 ** rng.uniform(-2, 1, (300, 1))
    d = rng.choice([-1.0, 1.0], (300, 4)) * 10.0 ** rng.uniform(-3, 1, (300, 1))
    change = np.abs(graph.forward(x + d) - graph.forward(x))
    assert np.all(change <= outputs * np.abs(d).max(axis=1, keepdims=True))
    for k in range(2):
        lower = [*bounds[:k], bounds[k] * 0.99, *bounds[k + 1:]]
        assert proved_output_bound(rows, tuple(lower)) is None
    assert proved_output_bound(rows, bounds[:1]) is None


def test_groups_that_say_nothing_of_each_neuron_have_no_bound():
    graph = sequential((3,), [FixedPoint(Affine(-np.eye(3)), Relu()), Softmax()])
    rows = rows_of(graph)
    assert _state_bounds(rows) is None
    assert proved_output_bound(rows, (np.full(3, 9.0),)) is None


def test_refusals():
    with pytest.raises(ValueError, match="do not fit"):
        proves_state_bound(np.eye(2), np.zeros(3), np.ones(3), np.ones(3), np.ones(3))
    with pytest.raises(ValueError, match="finite"):
        proves_state_bound(np.eye(2), np.zeros(2), np.ones(2), -np.ones(2), np.ones(2))
