"""The mode `roesser` by its own solver: what it proves, against a conic solver and other modes, and stopped early."""

import functools

import numpy as np
import pytest
from netgain.layers import Affine, Convolution, Flatten, Relu, sequential
from netgain.solvers.availability import Backend
from netgain.solvers.conic import Conic
from netgain.solvers.result import Limits, Progress, Solution, Status
from netgain.verify.certificate import Certificate
from netgain.verify.check import check
from netgain.verify.lipschitz import lipschitz
from netgain.verify.mode import Mode
from netgain.verify.roesser import predict_roesser, roesser

from .dissipative_networks import BANK
from .image_networks import random_network

each = pytest.mark.parametrize("name", BANK)


@functools.cache
def by_clarabel(name: str) -> float:
    realisation = roesser(BANK[name], Backend.CLARABEL)
    certificate = realisation.prove(realisation.solve(Limits(), None))
    assert certificate is not None
    return certificate.value


def own(name: str, limits: Limits | None = None, on_progress=None) -> tuple[Solution, Certificate]:
    realisation = roesser(BANK[name])
    solution = realisation.solve(limits or Limits(), on_progress)
    certificate = realisation.prove(solution)
    assert certificate is not None
    assert check(certificate, BANK[name]).proved
    return solution, certificate


@each
def test_proves_what_clarabel_does_and_says_how_much_less_there_may_be(name: str) -> None:
    seen: list[Progress] = []
    solution, certificate = own(name, on_progress=seen.append)
    assert solution.status is Status.OPTIMAL
    assert tuple(seen) == solution.history
    assert solution.dual_bound <= solution.bound <= certificate.value <= solution.dual_bound * (1 + 1e-5)
    # Clarabel's points have to keep a margin to be feasible.
    assert certificate.value <= by_clarabel(name) * (1 + 2e-6)
    # For a conic solver the head is cut into pixels, which gives the product of slopes of one sign away.
    loss = 1e-4 if name != "a leaky head" else 0.5
    assert certificate.value == pytest.approx(by_clarabel(name), rel=loss)


@pytest.mark.parametrize("seed", [3, 24, 33, 41, 77, 122, 124])
def test_random_networks_agree_with_clarabel(seed: int) -> None:
    values = []
    for backend in (None, Backend.CLARABEL):
        realisation = roesser(random_network(seed), backend)
        certificate = realisation.prove(realisation.solve(Limits(), None))
        assert certificate is not None
        values.append(certificate.value)
    assert values[0] == pytest.approx(values[1], rel=1e-4)


@pytest.mark.parametrize("name", ["strides and folding", "maxima and a head", "state spaces"])
@pytest.mark.parametrize("reason", [Status.TIME_LIMIT, Status.INTERRUPTED, Status.CLOSED_FORM])
def test_stopped_early_a_valid_bound_is_proved(name: str, reason: Status) -> None:
    def interrupt(progress: Progress) -> None:
        if progress.iteration == 2 and reason is Status.INTERRUPTED:
            raise KeyboardInterrupt

    if reason is Status.CLOSED_FORM:
        realisation = roesser(BANK[name])
        solution = realisation.closed_form()
        certificate = realisation.prove(solution)
        assert certificate is not None
    else:
        limits = Limits(time_limit=1e-9) if reason is Status.TIME_LIMIT else Limits()
        solution, certificate = own(name, limits, interrupt)
    assert solution.status is reason
    assert solution.dual_bound <= by_clarabel(name) * (1 + 1e-6)
    assert certificate.value >= by_clarabel(name) * (1 - 1e-4)


def test_orders_beyond_those_of_conic_solvers() -> None:
    """On one pixel, kernels of one tap are matrices, and chains of metrics lose nothing against one inequality."""
    rng = np.random.default_rng(2)
    layers = []
    for out, channels in ((25, 110), (20, 25), (5, 20)):
        layers += [Convolution(rng.normal(size=(out, channels, 1, 1)) / 6), Relu()]
    graph = sequential((110, 1, 1), layers[:-1])
    assert predict_roesser(graph).order == 135
    chain, whole = (lipschitz(graph, mode=mode, lower_bounds=False) for mode in (Mode.ROESSER, Mode.NEURON))
    assert chain.solution.status is Status.OPTIMAL
    assert chain.upper == pytest.approx(whole.upper, rel=5e-6)


def test_the_report_names_the_solver() -> None:
    graph = BANK["one axis"]
    mine, other = (lipschitz(graph, solver, mode=Mode.ROESSER, lower_bounds=False)
                   for solver in (None, Conic(Backend.CLARABEL)))
    assert mine.solution.solver == "dissipation_interior_point"
    assert other.solution.solver == "clarabel, dissipation"
    assert 0 < mine.solution.dual_bound <= mine.upper


@pytest.mark.parametrize(("place", "with_head"), [(0, False), (1, False), (1, True), (2, True)])
def test_nothing_reaches_the_output(place: int, with_head: bool) -> None:
    rng = np.random.default_rng(1)
    kernels, last = rng.normal(size=(2, 2, 2, 3, 3)), rng.normal(size=(3, 18))
    (kernels[place] if place < 2 else last).fill(0)
    head = [Relu(), Flatten(), Affine(last)] if with_head else []
    graph = sequential((2, 7, 7), [Convolution(kernels[0]), Relu(), Convolution(kernels[1]), *head])
    report = lipschitz(graph, mode=Mode.ROESSER, lower_bounds=False)
    assert (report.solution.status, report.upper, report.proved) == (Status.OPTIMAL, 0.0, True)


@pytest.mark.parametrize("factor", [2.0**-400, 2.0**400])
def test_any_units_do(factor: float) -> None:
    kernels = np.random.default_rng(6).normal(size=(2, 2, 2, 3, 3))
    values = []
    for first in (1.0, factor):
        graph = sequential((2, 6, 6), [Convolution(first * kernels[0]), Relu(), Convolution(kernels[1])])
        values.append(lipschitz(graph, mode=Mode.ROESSER, lower_bounds=False).upper)
    assert values[1] == pytest.approx(factor * values[0], rel=3e-6)
