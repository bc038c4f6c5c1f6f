"""Clarabel through cvxpy, for matrix inequalities too varied for a solver of their own."""

import importlib
import warnings
from typing import Any


class _Cvxpy:
    """cvxpy, imported where it is first used: that takes longer than everything else together."""

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module("cvxpy"), name)


# cvxpy defines its atoms in ways that type checkers do not follow.
cp: Any = _Cvxpy()


def solved(problem: Any, what: str) -> bool:
    """Solves the problem; whether there is an answer, accurate or not. What an answer is worth its user evaluates.

    **Arguments:** `what`: names the problem in the error.

    **Raises:** `RuntimeError` for a status that is neither an answer nor infeasibility.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Solution may be inaccurate")
        try:
            problem.solve(solver=cp.CLARABEL)
        except cp.SolverError as error:
            raise RuntimeError(f"Clarabel failed on {what}: {error}") from error
    if problem.status in (cp.OPTIMAL, cp.OPTIMAL_INACCURATE):
        return True
    if problem.status in (cp.INFEASIBLE, cp.INFEASIBLE_INACCURATE):
        return False
    raise RuntimeError(f"Clarabel stopped with the status {problem.status!r} on {what}.")


def solve(problem: Any, what: str) -> None:
    """Solves the problem.

    **Raises:** `RuntimeError` where there is no answer.
    """
    if not solved(problem, what):
        raise RuntimeError(f"Clarabel finds no solution of {what}: it is infeasible, or numerically so.")
