"""A family of inequalities through cvxpy, all members at once: the cross-check of this package's own solver.

Conic solvers know real matrices. X + iY is replaced by [[X, -Y], [Y, X]] in every two by two block, which keeps
products and definiteness and turns conjugate transposes into transposes, so that every member is an inequality of
`netgain.solvers.inequality` in which real and imaginary parts of the rows share their multipliers.
"""

import dataclasses
import time
from collections.abc import Mapping

import numpy as np

from .availability import Backend, probe
from .conic import predicted_memory, solve_program
from .conic_forms import ConeProgram, Form, cone_program
from .family import Family, ScaledFamily
from .inequality import Inequality, SlopeConstraint
from .result import Limits, OnProgress, Solution

_PARTS = 2


@dataclasses.dataclass(frozen=True)
class FamilyConic:
    """Least rho by a conic solver, with one matrix inequality for every member; of families without a head.

    **Arguments:** `backend`: the solver.
    """

    backend: Backend

    def memory(self, scaled: ScaledFamily) -> int:
        """Bytes the backend will need, to within a factor of about two."""
        member = real_member(scaled.family, 0)
        return scaled.family.members * int(predicted_memory(member, Form.ONE_BLOCK, self.backend))

    def solve(self, scaled: ScaledFamily, limits: Limits, on_progress: OnProgress | None = None) -> Solution:
        """The multipliers the backend returns, as `netgain.solvers.conic.Conic` does.

        **Raises:** `SolverUnavailable`; `ValueError` if the family has a head.
        """
        begin = time.perf_counter()
        probe(self.backend).require()
        program = family_program(scaled.family)
        groups = [constraint.multipliers for constraint in scaled.family.constraints]
        return solve_program(program, self.backend, limits, begin, "all members", groups, scaled.unscale, on_progress)


def family_program(family: Family) -> ConeProgram:
    """Least rho over w = (rho, lam), with one block for each member.

    **Raises:** `ValueError` if the family has a head.
    """
    programs = [cone_program(real_member(family, member), Form.ONE_BLOCK) for member in range(family.members)]
    blocks = tuple(block for program in programs for block in program.blocks)
    return dataclasses.replace(programs[0], blocks=blocks)


def real_member(family: Family, member: int) -> Inequality:
    """One member in real numbers, with the multipliers of the family.

    **Raises:** `ValueError` if the family has a head, or multipliers with different numbers of rows in one layer.
    """
    if family.head is not None:
        raise ValueError("A family with a head has a metric among its unknowns, and no conic form here; use "
                         "FamilyInteriorPoint.")
    constraints = []
    for constraint in family.constraints:
        shared = np.bincount(constraint.variable)
        if np.any(shared != shared[0]):
            raise ValueError(f"Multipliers of one layer stand for {np.unique(shared).tolist()} rows; the conic form "
                             "needs the same number for each. Use FamilyInteriorPoint.")
        kept = (_PARTS * constraint.kept[:, None] + np.arange(_PARTS)).ravel()
        constraints.append(SlopeConstraint(_real(constraint.maps, member), np.repeat(constraint.lower, _PARTS),
                                           np.repeat(constraint.upper, _PARTS), _PARTS * int(shared[0]), kept))
    return Inequality(_PARTS * family.input_size, tuple(constraints), _real(family.output, member))


def _real(maps: Mapping[int, np.ndarray], member: int) -> dict[int, np.ndarray]:
    turn = np.array([[0.0, -1.0], [1.0, 0.0]])
    return {j: np.kron(a[member].real, np.eye(_PARTS)) + np.kron(a[member].imag, turn) for j, a in maps.items()}
