import numpy as np
import pytest
from netgain.experiments.benchmarks.networks import perceptron
from netgain.experiments.benchmarks.peers import Eclipse, NotApplicable, Sdpa
from netgain.layers import Tanh, sequential
from netgain.solvers.closed_form import scale
from netgain.solvers.conic_forms import Form
from netgain.solvers.inequality import Inequality, SlopeConstraint
from netgain.solvers.result import Limits, Status


def two_neurons() -> Inequality:
    """y = relu(u_1) + 2 relu(u_2); the optimum is sqrt(5), the norm of the output weight."""
    constraint = SlopeConstraint({0: np.eye(2)}, np.zeros(2), np.ones(2))
    return Inequality(2, (constraint,), {1: np.array([[1.0, 2.0]])})


@pytest.mark.parametrize("form", Form)
def test_sdpa_finds_a_known_optimum(form):
    pytest.importorskip("sdpap")
    solution = Sdpa(form).solve(scale(two_neurons()), Limits())
    assert solution.status in (Status.OPTIMAL, Status.INACCURATE)
    assert solution.bound == pytest.approx(np.sqrt(5), rel=1e-5)
    assert [lam.shape for lam in solution.multipliers] == [(2,)]


def test_eclipse_bounds_the_gain():
    pytest.importorskip("eclipse_nn")
    graph = perceptron([(np.eye(2), np.zeros(2)), (np.array([[1.0, 2.0]]), np.zeros(1))], "two neurons")
    claim = Eclipse("ECLipsE_Fast").claim(graph)
    assert claim.bound >= np.sqrt(5) * (1 - 1e-6)
    assert claim.tool.startswith("eclipse-nn ")


def test_eclipse_refuses_what_it_cannot_express():
    with pytest.raises(NotApplicable, match="chains of affine maps"):
        Eclipse("ECLipsE").claim(sequential((2,), [Tanh()]))
