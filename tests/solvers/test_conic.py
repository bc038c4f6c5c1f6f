import dataclasses
import importlib.util
import itertools
import math

import numpy as np
import pytest
from netgain.solvers import availability, conic
from netgain.solvers.availability import Availability, Backend, Licence, SolverUnavailable, probe
from netgain.solvers.closed_form import scale
from netgain.solvers.conic import Conic, Form, predicted_memory
from netgain.solvers.conic_forms import cone_program, orders, variables
from netgain.solvers.inequality import Inequality
from netgain.solvers.result import Limits, Status

from .bank import CLOSED_FORMS, constraint, dense

BACKENDS = [backend for backend in Backend if probe(backend).usable]
LIMITS = Limits(tolerance=1e-6, time_limit=20)


def random_maps(rng, rows, **columns):
    maps = {int(name[1:]): rng.standard_normal((rows, n)) for name, n in columns.items()}
    norm = np.linalg.norm(np.concatenate(list(maps.values()), axis=1), 2)
    return {j: a / norm for j, a in maps.items()}


def mlp(seed, sizes, lower=0.0, upper=1.0, coupled=1):
    rng = np.random.default_rng(seed)
    layers = [random_maps(rng, n, **{f"b{k}": m}) for k, (m, n) in enumerate(itertools.pairwise(sizes))]
    return Inequality(sizes[0], tuple(constraint(m, lower, upper, coupled) for m in layers[:-1]), layers[-1])


def skips(seed):
    """Layer 3 reads layers 1 and 2, layer 2 the input as well, and the output reads layers 1 and 3."""
    rng = np.random.default_rng(seed)
    first = constraint(random_maps(rng, 4, b0=3))
    second = constraint(random_maps(rng, 3, b0=3, b1=4), lower=0.1)
    third = constraint(random_maps(rng, 4, b1=4, b2=3))
    return Inequality(3, (first, second, third), random_maps(rng, 2, b1=4, b3=4))


BANK = {
    "mlp": mlp(0, (3, 6, 5, 2)),
    "one hidden layer": mlp(1, (4, 7, 3)),
    "leaky": mlp(2, (3, 5, 5, 2), lower=0.2),
    "symmetric slopes": mlp(3, (3, 4, 4, 2), lower=-1.0),
    "slopes on one side of zero": mlp(4, (3, 4, 4, 2), lower=0.5, upper=1.5),
    "coupled": mlp(5, (4, 6, 6, 2), lower=-1.0, coupled=2),
    "skips": skips(6),
}

@pytest.mark.parametrize("form", Form, ids=lambda form: form.name)
@pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: backend.name)
@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_closed_forms(name, backend, form):
    inequality, value = CLOSED_FORMS[name]
    solution = Conic(backend, form).solve(scale(inequality), LIMITS)
    assert solution.status is Status.OPTIMAL
    assert solution.bound == pytest.approx(value, rel=1e-5)
    assert solution.dual_bound == pytest.approx(value, rel=1e-5)
    assert [len(lam) for lam in solution.multipliers] == [c.groups for c in inequality.constraints]
    assert all(np.all(lam >= 0) for lam in solution.multipliers)


@pytest.mark.parametrize("name", BANK)
def test_backends_and_forms_agree(name):
    scaled, bounds = scale(BANK[name]), {}
    for backend in BACKENDS:
        for form in Form:
            scaled = scale(BANK[name])
            solution = Conic(backend, form).solve(scaled, LIMITS)
            assert solution.status is Status.OPTIMAL
            rho = (solution.bound * 2.0**-scaled.output_exponent) ** 2
            assert np.linalg.eigvalsh(dense(scaled.inequality, rho, solution.multipliers))[0] > -1e-5
            bounds[backend, form] = solution.bound
    reference = bounds[Backend.CLARABEL, Form.ONE_BLOCK]
    assert list(bounds.values()) == pytest.approx([reference] * len(bounds), rel=2e-5)


@pytest.mark.parametrize("form", Form, ids=lambda form: form.name)
@pytest.mark.parametrize("name", BANK)
def test_program_says_what_the_inequality_says(name, form):
    inequality = BANK[name]
    program = cone_program(inequality, form)
    assert tuple(block.order for block in program.blocks) == orders(inequality, form)
    assert program.variables == variables(inequality, form)
    # The cliques' inequalities add up to the one inequality, whatever Q is: compare traces with a random point.
    w = np.random.default_rng(0).standard_normal(program.variables)
    blocks = [(block.matrix @ w - block.constant).reshape(block.order, block.order) for block in program.blocks]
    assert all(np.allclose(block, block.T) for block in blocks)
    whole = cone_program(inequality, Form.ONE_BLOCK)
    (one,) = whole.blocks
    single = (one.matrix @ w[: whole.variables] - one.constant).reshape(one.order, one.order)
    assert sum(np.trace(block) for block in blocks) == pytest.approx(np.trace(single))


def test_cliques_hold_what_is_still_read():
    inequality = BANK["skips"]
    assert orders(inequality, Form.ONE_BLOCK) == (14,)
    assert orders(inequality, Form.CHAIN) == (3 + 4, 3 + 4 + 3, 4 + 3 + 4)


def test_progress_and_provenance_are_reported():
    seen = []
    solution = Conic(Backend.CLARABEL).solve(scale(BANK["mlp"]), LIMITS, seen.append)
    assert tuple(seen) == solution.history
    assert seen[-1].bound == solution.bound
    assert solution.solver == "clarabel, chain"
    assert "cvxpy" in solution.version
    assert solution.seconds > 0
    assert solution.detail == "status Solved"


@pytest.mark.parametrize("backend", [Backend.CLARABEL, Backend.SCS], ids=lambda backend: backend.name)
def test_time_limit_is_passed_on(backend):
    solution = Conic(backend).solve(scale(mlp(0, (10, 30, 30, 5))), Limits(tolerance=1e-9, time_limit=0.1))
    assert solution.status in (Status.TIME_LIMIT, Status.FAILED)
    assert solution.seconds < 4
    assert solution.dual_bound == 0


def test_unknown_status_is_an_error(monkeypatch):
    monkeypatch.setitem(conic.STATUSES, Backend.CLARABEL, {})
    with pytest.raises(RuntimeError, match="status 'Solved'"):
        Conic(Backend.CLARABEL).solve(scale(BANK["mlp"]), LIMITS)


def test_points_that_are_not_numbers_are_a_failure(monkeypatch):
    def run(program, backend, limits):
        return conic._Answer("Solved", np.full(program.variables, np.nan), math.nan, 3)

    monkeypatch.setattr(conic, "run", run)
    solution = Conic(Backend.CLARABEL).solve(scale(BANK["mlp"]), LIMITS)
    assert (solution.status, solution.bound, solution.multipliers) == (Status.FAILED, math.inf, ())


def test_mosek_without_module(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SolverUnavailable, match=r"pip install mosek.*no licence"):
        Conic(Backend.MOSEK).solve(scale(BANK["mlp"]), LIMITS)


def test_mosek_without_licence_says_where_it_was_looked_for(monkeypatch):
    monkeypatch.setenv("MOSEKLM_LICENSE_FILE", "/nowhere/mosek.lic")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(availability.importlib.metadata, "version", lambda name: "11.0")
    monkeypatch.setattr(availability, "_mosek_refusal", lambda: "err_missing_license_file")
    found = probe(Backend.MOSEK)
    assert (found.installed, found.licence, found.usable) == (True, Licence.MISSING, False)
    with pytest.raises(SolverUnavailable, match=r"MOSEKLM_LICENSE_FILE=/nowhere/mosek\.lic and in .*mosek\.lic"):
        found.require()


def test_free_solvers_need_no_licence():
    found = probe(Backend.CLARABEL)
    assert found == Availability("CLARABEL", True, found.version, Licence.NOT_NEEDED, (), "")
    assert found.version


def test_predicted_memory_orders_forms_and_sizes():
    small, large = mlp(0, (10, 20, 20, 5)), mlp(0, (10, 80, 80, 5))
    for backend in Backend:
        for form in Form:
            assert predicted_memory(small, form, backend) < predicted_memory(large, form, backend)
    one_layer = mlp(0, (30, 60, 10))
    assert 0.4e9 < predicted_memory(one_layer, Form.ONE_BLOCK, Backend.CLARABEL) < 1.7e9  # 0.84 GB measured


def test_settings_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Conic(Backend.SCS).form = Form.CHAIN
