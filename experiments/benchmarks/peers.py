"""Other people's tools, run as their authors publish them; none is a dependency of this package.

A peer that returns multipliers is a solver like ours, so that its multipliers go through the same checker. One that
returns only a number gives a `Claim`, and nothing of it can be proved.
"""

import contextlib
import dataclasses
import importlib
import importlib.metadata
import io
import math
import time
import warnings
from typing import Any, ClassVar

import numpy as np
import scipy.sparse as sp
from netgain.layers import Graph
from netgain.solvers.closed_form import Scaled
from netgain.solvers.conic_forms import Form, cone_program
from netgain.solvers.inequality import Inequality
from netgain.solvers.result import Limits, OnProgress, Solution, Status

from .networks import affine_chain

# Whatever SDPA calls its end, its last iterate is returned: the checker decides. Named here is only what we say of it.
_SDPA = {
    "pdOPT": Status.OPTIMAL,
    "pdFEAS": Status.INACCURATE,
    "pFEAS": Status.INACCURATE,
    "dFEAS": Status.INACCURATE,
    "noINFO": Status.STALLED,
    "pdINF": Status.STALLED,
    "pFEAS_dINF": Status.STALLED,
    "pINF_dFEAS": Status.STALLED,
    "pUNBD": Status.STALLED,
    "dUNBD": Status.STALLED,
}


class NotApplicable(ValueError):
    """The peer has no method for this network."""


@dataclasses.dataclass(frozen=True)
class Claim:
    """A bound without multipliers."""

    bound: float
    seconds: float
    tool: str
    detail: str = ""


@dataclasses.dataclass(frozen=True)
class Eclipse:
    """ECLipsE and ECLipsE-Fast, layer by layer, of eclipse-nn. **Source:** Xu, Sivaranjani, NeurIPS 2024.

    `method` is the tool's own name of it: "ECLipsE" or "ECLipsE_Fast".
    """

    MODULE: ClassVar[str] = "eclipse_nn"
    DISTRIBUTION: ClassVar[str] = "eclipse-nn"
    method: str

    def claim(self, graph: Graph) -> Claim:
        """**Raises:** `NotApplicable` unless the network is affine maps and ReLU in turn."""
        weights = affine_chain(graph)
        if weights is None:
            raise NotApplicable("eclipse-nn takes chains of affine maps with one activation between.")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch = importlib.import_module("torch")
            estimator = importlib.import_module("eclipse_nn.LipConstEstimator").LipConstEstimator
            printed, start = io.StringIO(), time.perf_counter()
            with contextlib.redirect_stdout(printed):
                tensors = [torch.tensor(np.array(weight), dtype=torch.float64) for weight in weights]
                bound = float(estimator(weights=tensors).estimate(self.method))
        # The tool changes method on its own when its SDP fails, and says so on its standard output only.
        fell_back = "Falling back" in printed.getvalue()
        version = importlib.metadata.version(self.DISTRIBUTION)
        return Claim(bound, time.perf_counter() - start, f"{self.DISTRIBUTION} {version}",
                     "fell back to ECLipsE-Fast" if fell_back else "")


@dataclasses.dataclass(frozen=True)
class Sdpa:
    """SDPA through sdpa-python, on the data its own interface takes. **Source:** Yamashita et al., SDPA 7."""

    MODULE: ClassVar[str] = "sdpap"
    DISTRIBUTION: ClassVar[str] = "sdpa-python"
    form: Form = Form.ONE_BLOCK

    def solve(self, scaled: Scaled, limits: Limits, on_progress: OnProgress | None = None) -> Solution:
        """SDPA has no time limit of its own; `limits.time_limit` is not used. Our scaling helps it: without it, it
        loses its accuracy on deep networks.
        """
        start = time.perf_counter()
        inequality = scaled.inequality
        sdpap = importlib.import_module("sdpap")
        a, c, orders = self._data(inequality)
        b = np.zeros((a.shape[0], 1))
        b[0, 0] = -1.0
        cone = sdpap.SymCone(l=inequality.multipliers, s=orders)
        tolerance = min(1e-7, limits.tolerance)
        option = {"print": "no", "epsilonStar": tolerance, "epsilonDash": tolerance}
        _, y, _, _, info = sdpap.solve(a, b, c, cone, sdpap.SymCone(f=a.shape[0]), option)
        w = np.asarray(y.todense() if sp.issparse(y) else y, dtype=np.float64).ravel()
        return self._solution(scaled, w, info, time.perf_counter() - start)

    def _data(self, inequality: Inequality) -> tuple[sp.csc_matrix, np.ndarray, tuple[int, ...]]:
        """With w = (rho, lam, ..): max b^T w so that c - A^T w lies in the cone of lam >= 0 and the blocks."""
        program = cone_program(inequality, self.form)
        signs = sp.csr_array((np.full(program.multipliers, -1.0),
                              (np.arange(program.multipliers), 1 + np.arange(program.multipliers))),
                             shape=(program.multipliers, program.variables))
        columns = sp.vstack([signs, *(-block.matrix for block in program.blocks)])
        c = np.concatenate([np.zeros(program.multipliers), *(-block.constant for block in program.blocks)])
        return sp.csc_matrix(columns.T), c[:, None], tuple(block.order for block in program.blocks)

    def _solution(self, scaled: Scaled, w: np.ndarray, info: dict[str, Any], seconds: float) -> Solution:
        inequality, status = scaled.inequality, _SDPA[info["phasevalue"]]
        lam = np.maximum(w[1 : 1 + inequality.multipliers], 0.0)
        # At zero SDPA never left its start.
        if not np.all(np.isfinite(w)) or w[0] <= 0:
            status = Status.FAILED
        ends = np.cumsum([constraint.groups for constraint in inequality.constraints])[:-1]
        return Solution(
            status=status,
            bound=scaled.unscale(float(np.sqrt(w[0]))) if status.has_multipliers else math.inf,
            dual_bound=0.0,
            multipliers=tuple(np.split(lam, ends)) if status.has_multipliers else (),
            iterations=int(info.get("iteration", 0)),
            seconds=seconds,
            solver=f"SDPA ({self.form.name.lower().replace('_', ' ')})",
            version=importlib.metadata.version(self.DISTRIBUTION),
            detail=str(info["phasevalue"]),
        )
