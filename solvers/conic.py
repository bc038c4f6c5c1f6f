"""The matrix inequality through cvxpy: MOSEK, Clarabel and SCS, in two forms.

These are the cross-check of this package's own solvers, and the way the literature solves the problem.
"""

import dataclasses
import importlib
import importlib.metadata
import math
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import cvxpy as cp
import numpy as np
from cvxpy.atoms.affine.reshape import reshape

from .availability import Backend as Backend
from .availability import SolverUnavailable as SolverUnavailable
from .availability import probe
from .closed_form import Scaled
from .conic_forms import ConeProgram, cone_program, orders, variables
from .conic_forms import Form as Form
from .inequality import Inequality
from .result import Limits, OnProgress, Progress, Solution, Status

# A status that is not listed is an error, never a success.
_CLARABEL = {
    "Solved": Status.OPTIMAL,
    "AlmostSolved": Status.INACCURATE,
    "MaxIterations": Status.ITERATION_LIMIT,
    "MaxTime": Status.TIME_LIMIT,
    "InsufficientProgress": Status.STALLED,
    "NumericalError": Status.STALLED,
    "CallbackTerminated": Status.INTERRUPTED,
    "PrimalInfeasible": Status.FAILED,
    "DualInfeasible": Status.FAILED,
    "AlmostPrimalInfeasible": Status.FAILED,
    "AlmostDualInfeasible": Status.FAILED,
    "Unsolved": Status.FAILED,
}
_SCS = {
    "1": Status.OPTIMAL,
    "2": Status.INACCURATE,
    "2 max_iters": Status.ITERATION_LIMIT,
    "2 time_limit_secs": Status.TIME_LIMIT,
    "-1": Status.FAILED,
    "-2": Status.FAILED,
    "-3": Status.FAILED,
    "-4": Status.FAILED,
    "-5": Status.INTERRUPTED,
    "-6": Status.FAILED,
    "-7": Status.FAILED,
}
_MOSEK = {
    "optimal": Status.OPTIMAL,
    "prim_and_dual_feas": Status.INACCURATE,
    "prim_feas": Status.INACCURATE,
    "dual_feas": Status.INACCURATE,
    "unknown": Status.STALLED,
    "prim_infeas_cer": Status.FAILED,
    "dual_infeas_cer": Status.FAILED,
    "prim_illposed_cer": Status.FAILED,
    "dual_illposed_cer": Status.FAILED,
}
STATUSES = {Backend.CLARABEL: _CLARABEL, Backend.SCS: _SCS, Backend.MOSEK: _MOSEK}

_Invert = Callable[[], np.ndarray | None]


@dataclasses.dataclass(frozen=True)
class Conic:
    """Least rho by a conic solver, on the scaled inequality.

    The backends look at the clock between iterations only, and not while they set up: a time limit shorter than one
    iteration is exceeded by that much.

    **Arguments:** `backend`: the solver; `form`: how the problem is posed to it.
    """

    backend: Backend
    form: Form = Form.CHAIN

    def memory(self, scaled: Scaled) -> int:
        """The estimate of `predicted_memory`."""
        return int(predicted_memory(scaled.inequality, self.form, self.backend))

    def solve(self, scaled: Scaled, limits: Limits, on_progress: OnProgress | None = None) -> Solution:
        """The multipliers the backend returns, also when it calls them inaccurate.

        `dual_bound` is the backend's dual objective, and 0 unless its status is optimal.

        **Raises:** `SolverUnavailable`.
        """
        begin = time.perf_counter()
        probe(self.backend).require()
        program = cone_program(scaled.inequality, self.form)
        groups = [constraint.groups for constraint in scaled.inequality.constraints]
        form = self.form.name.lower().replace("_", " ")
        return solve_program(program, self.backend, limits, begin, form, groups, scaled.unscale, on_progress)


@dataclasses.dataclass(frozen=True, eq=False)
class _Answer:
    """What a backend said; `w` is None if it gave no point."""

    status: str
    w: np.ndarray | None
    dual_objective: float
    iterations: int


def run(program: ConeProgram, backend: Backend, limits: Limits) -> _Answer:
    w = cp.Variable(program.variables)
    constraints = [
        reshape(block.matrix @ w - block.constant, (block.order, block.order), order="C") >> 0
        for block in program.blocks
    ]
    if program.multipliers:
        constraints.append(w[1 : 1 + program.multipliers] >= 0)
    problem = cp.Problem(cp.Minimize(w[0]), constraints)
    options, read = _BACKENDS[backend]
    settings = options(limits)
    with warnings.catch_warnings():  # cvxpy warns where the status says the same
        warnings.simplefilter("ignore", UserWarning)
        # Problem.solve drops the point of every status it does not like, so the solver's own answer is read instead.
        data, chain, inverse = problem.get_problem_data(backend.name, solver_opts=settings)
        raw = chain.solve_via_data(problem, data, warm_start=False, verbose=False, solver_opts=settings)
        return read(raw, lambda: chain.invert(raw, inverse).primal_vars.get(w.id))


def solve_program(
    program: ConeProgram,
    backend: Backend,
    limits: Limits,
    begin: float,
    form: str,
    groups: Sequence[int],
    unscale: Callable[[float], float],
    on_progress: OnProgress | None = None,
) -> Solution:
    """What the backend finds, with w[1:] split into layers of so many `groups`; the clock runs since `begin`.

    **Raises:** `SolverUnavailable`.
    """
    availability = probe(backend)
    availability.require()
    remaining = max(limits.time_limit - (time.perf_counter() - begin), 1e-3)
    answer = run(program, backend, dataclasses.replace(limits, time_limit=remaining))
    status, w = STATUSES[backend].get(answer.status), answer.w
    if status is None:
        raise RuntimeError(f"{backend.name} {availability.version} stopped with the status {answer.status!r}, "
                           "which this package does not know. Please report it.")
    if w is None or not np.all(np.isfinite(w)):
        status, w = Status.FAILED, np.full(program.variables, np.nan)
    seconds = time.perf_counter() - begin
    if status is Status.STALLED and seconds > limits.time_limit:
        status = Status.TIME_LIMIT
    bound = unscale(math.sqrt(max(w[0], 0.0))) if status.has_multipliers else math.inf
    dual_bound = unscale(math.sqrt(max(answer.dual_objective, 0.0))) if status is Status.OPTIMAL else 0.0
    last = Progress(bound, dual_bound, answer.iterations, seconds)
    if on_progress is not None:
        on_progress(last)
    return Solution(
        status=status,
        bound=bound,
        dual_bound=dual_bound,
        multipliers=_multipliers(groups, w) if status.has_multipliers else (),
        iterations=answer.iterations,
        seconds=seconds,
        solver=f"{backend.value}, {form}",
        version=f"{availability.version}, cvxpy {importlib.metadata.version('cvxpy')}",
        history=(last,),
        detail=f"status {answer.status}",
    )


def _clarabel_options(limits: Limits) -> dict[str, Any]:
    return {
        "tol_gap_abs": limits.tolerance / 10,
        "tol_gap_rel": limits.tolerance / 10,
        "tol_feas": min(limits.tolerance / 100, 1e-8),
        "time_limit": limits.time_limit,
    }


def _read_clarabel(raw: Any, invert: _Invert) -> _Answer:
    return _Answer(str(raw.status), np.array(raw.x), raw.obj_val_dual, raw.iterations)


def _scs_options(limits: Limits) -> dict[str, Any]:
    time_limit = limits.time_limit if math.isfinite(limits.time_limit) else 0.0  # 0: none
    return {
        "eps_abs": limits.tolerance / 10,
        "eps_rel": limits.tolerance / 10,
        "max_iters": 100_000,
        "time_limit_secs": time_limit,
    }


def _read_scs(raw: Any, invert: _Invert) -> _Answer:
    info = raw["info"]
    status = str(info["status_val"])
    for reason in ("max_iters", "time_limit_secs"):
        if status == "2" and reason in info["status"]:
            status = f"2 {reason}"
    return _Answer(status, raw["x"], info["dobj"], info["iter"])


def _mosek_options(limits: Limits) -> dict[str, Any]:
    parameters = {
        "MSK_DPAR_INTPNT_CO_TOL_REL_GAP": limits.tolerance / 10,
        "MSK_DPAR_INTPNT_CO_TOL_PFEAS": min(limits.tolerance / 100, 1e-8),
        "MSK_DPAR_INTPNT_CO_TOL_DFEAS": min(limits.tolerance / 100, 1e-8),
    }
    if math.isfinite(limits.time_limit):
        parameters["MSK_DPAR_OPTIMIZER_MAX_TIME"] = limits.time_limit
    return {"mosek_params": parameters, "accept_unknown": True}


def _read_mosek(raw: Any, invert: _Invert) -> _Answer:
    mosek, task = importlib.import_module("mosek"), raw["task"]
    status = task.getsolsta(mosek.soltype.itr)
    name = str(status).rpartition(".")[2]
    # cvxpy gives MOSEK the dual problem, so our dual objective is the primal one of the task.
    dual_objective = task.getprimalobj(mosek.soltype.itr)
    iterations = task.getintinf(mosek.iinfitem.intpnt_iter)
    return _Answer(name, invert(), dual_objective, iterations)


_BACKENDS = {
    Backend.CLARABEL: (_clarabel_options, _read_clarabel),
    Backend.SCS: (_scs_options, _read_scs),
    Backend.MOSEK: (_mosek_options, _read_mosek),
}


def _multipliers(groups: Sequence[int], w: np.ndarray) -> tuple[np.ndarray, ...]:
    """lam by layer. A backend meets lam >= 0 to its tolerance only; the checker needs it exactly."""
    ends = np.cumsum(groups)
    return tuple(np.split(np.maximum(w[1 : 1 + ends[-1]], 0.0), ends[:-1])) if len(ends) else ()


# Measured with Clarabel 0.11 and SCS 3.3: one order n = 90 took 0.84 GB, cliques of 60 and 80 took 0.70 GB together;
# SCS took 0.04 GB for cliques of 60 to 80 in a net of depth 8. MOSEK's is its Schur matrix, not measured.
_CLARABEL_BYTES, _SCS_BYTES, _MOSEK_BYTES = 53, 800, 16


def predicted_memory(inequality: Inequality, form: Form, backend: Backend) -> float:
    """Bytes the backend will need, to within a factor of about two: for refusing what cannot fit.

    Clarabel stores and factors a dense matrix of order n (n + 1) / 2 for each semidefinite cone of order n, after
    splitting ONE_BLOCK into the cliques of CHAIN by itself. MOSEK factors a matrix of the order of the variables.
    """
    sides = orders(inequality, Form.CHAIN if backend is Backend.CLARABEL else form)
    return memory_of_cones(sides, variables(inequality, form), backend)


def memory_of_cones(orders: Sequence[int], variables: int, backend: Backend) -> float:
    """The same from the orders of the semidefinite cones and the number of variables."""
    if backend is Backend.CLARABEL:
        return float(_CLARABEL_BYTES * sum((n * (n + 1) / 2) ** 2 for n in orders))
    if backend is Backend.SCS:
        return float(_SCS_BYTES * sum(n**2 for n in orders))
    return float(_MOSEK_BYTES * variables**2)
