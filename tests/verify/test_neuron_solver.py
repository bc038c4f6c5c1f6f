"""Which solver the mode `neuron` ends with: its choice is helped where it stalls, somebody's own is not."""

import dataclasses

import numpy as np
import pytest
from netgain.layers import Affine, Relu, sequential
from netgain.solvers.closed_form import ClosedForm
from netgain.solvers.dual_scaling import DualScaling
from netgain.solvers.interior_point import InteriorPoint
from netgain.solvers.result import Limits, Status
from netgain.verify import neuron
from netgain.verify.neuron import unrolled


@pytest.fixture
def problem():
    rng = np.random.default_rng(0)
    layers = [Affine(rng.standard_normal((8, 4))), Relu(), Affine(rng.standard_normal((8, 8))), Relu(),
              Affine(rng.standard_normal((2, 8)))]
    return dataclasses.replace(unrolled(sequential((4,), layers)), solver=DualScaling())


def _stalls(self, scaled, limits, on_progress=None):
    return dataclasses.replace(ClosedForm().solve(scaled, limits), status=Status.STALLED, solver="dual_scaling")


def test_a_default_solver_that_stalls_is_helped(problem, monkeypatch):
    monkeypatch.setattr(DualScaling, "solve", _stalls)
    solution = problem.with_solver(None, []).solve(Limits(), None)
    optimum = InteriorPoint().solve(problem.scaled, Limits())
    assert solution.status is Status.OPTIMAL
    assert solution.bound == pytest.approx(optimum.bound, rel=1e-5)
    assert problem.prove(solution) is not None


def test_a_solver_that_was_asked_for_is_left_alone(problem, monkeypatch):
    monkeypatch.setattr(DualScaling, "solve", _stalls)
    assert problem.with_solver(DualScaling(), []).solve(Limits(), None).status is Status.STALLED


@pytest.mark.parametrize("obstacle", ["time", "memory"])
def test_without_time_or_memory_what_was_found_is_kept(problem, monkeypatch, obstacle):
    monkeypatch.setattr(DualScaling, "solve", _stalls)
    chosen = problem.with_solver(None, [])
    limits = Limits()
    if obstacle == "memory":
        monkeypatch.setattr(neuron, "fits", lambda needed: False)
    else:
        limits = Limits(time_limit=1e-9)
    found = chosen.solve(limits, None)
    assert found.bound <= ClosedForm().solve(problem.scaled, Limits()).bound * (1 + 1e-12)
    assert problem.prove(found) is not None


def test_a_default_solver_that_does_not_stall_is_alone(problem, monkeypatch):
    monkeypatch.setattr(InteriorPoint, "solve", lambda *arguments: pytest.fail("The other solver was run."))
    assert problem.with_solver(None, []).solve(Limits(), None).status is Status.OPTIMAL
