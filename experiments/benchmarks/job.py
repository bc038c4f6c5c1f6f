"""One job in a process of its own: memory is measured per job, a crash or a hang ends one job only.

`launch` starts this module as a program, waits, and ends it from outside when its time is over.
"""

import contextlib
import dataclasses
import functools
import json
import math
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from netgain.layers import Graph
from netgain.solvers.availability import SolverUnavailable
from netgain.solvers.closed_form import compress, scale
from netgain.solvers.conic import Conic
from netgain.solvers.family_conic import FamilyConic
from netgain.solvers.result import Limits, Solution, Status
from netgain.verify.certificate import Certificate
from netgain.verify.channelwise import ModeError
from netgain.verify.constraints import constraint_rows, to_inequality
from netgain.verify.memory import gibibytes
from netgain.verify.proof import prove
from netgain.verify.spectral import Spectral

from .contenders import Claimant, Sharing, Solver, contender
from .networks import read_folder
from .outcome import Outcome, Record
from .peers import NotApplicable

# Start-up, imports and the proof come on top of the time a solver is given.
GRACE = 30.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """`time_limit`: seconds for the solver; `memory_limit`: bytes of address space."""

    folder: str
    network: str
    contender: str
    tolerance: float
    time_limit: float
    memory_limit: int


def launch(job: Job, grace: float = GRACE) -> Record:
    """Runs the job in a new process and reports how it ended; `grace`: seconds beyond its time limit."""
    with tempfile.TemporaryDirectory() as scratch:
        answer, log = Path(scratch) / "record.json", Path(scratch) / "log"
        command = [sys.executable, "-m", __spec__.name, json.dumps(dataclasses.asdict(job)), str(answer)]
        with log.open("wb") as stream:
            # A session of its own, so that whatever the job starts ends with it.
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream,
                                       start_new_session=True)
            try:
                code = process.wait(job.time_limit + grace if math.isfinite(job.time_limit) else None)
            except subprocess.TimeoutExpired:
                return _ended(job, Outcome.TIMEOUT, f"ended after {job.time_limit + grace:.0f} s")
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
        if answer.is_file():
            return Record.from_json(answer.read_text())
        lines = log.read_text(errors="replace").strip().splitlines()
        reason = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return _ended(job, Outcome.FAILED, f"{reason}: {lines[-1] if lines else 'no message'}")


def peak_memory() -> float:
    """The largest resident memory of this process so far, in MB."""
    # On Linux ru_maxrss also counts the parent before exec; VmHWM is of this program only.
    with contextlib.suppress(OSError), open("/proc/self/status") as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def _ended(job: Job, outcome: Outcome, detail: str) -> Record:
    return Record(network=job.network, contender=job.contender, outcome=outcome, detail=detail)


def _run(job: Job) -> Record:
    chosen = contender(job.contender)
    if not chosen.installed():
        return _ended(job, Outcome.NOT_INSTALLED, f"pip install {chosen.distribution}")
    graph = next(network for network in read_folder(Path(job.folder)) if network.name == job.network).build()
    tool = chosen.make()
    try:
        if isinstance(tool, Claimant):
            return _claim(job, graph, tool)
        return _solve_and_prove(job, graph, tool)
    except (ModeError, NotApplicable) as error:
        return _ended(job, Outcome.NOT_APPLICABLE, str(error))
    except SolverUnavailable as error:
        return _ended(job, Outcome.NOT_INSTALLED, str(error))
    except MemoryError as error:
        return _ended(job, Outcome.FAILED, f"out of memory: {error}")


def _claim(job: Job, graph: Graph, tool: Claimant) -> Record:
    claim = tool.claim(graph)
    return Record(network=job.network, contender=job.contender, outcome=Outcome.DONE, bound=claim.bound,
                  solve_seconds=claim.seconds, tool=claim.tool, detail=claim.detail)


def _solve_and_prove(job: Job, graph: Graph, tool: Solver | Sharing) -> Record:
    """Every solver gets the same scaled inequality, or that of its mode; all multipliers go through the checker."""
    begin = time.perf_counter()
    limits = Limits(tolerance=job.tolerance, time_limit=job.time_limit)
    proof: Callable[[Solution], Certificate | None]
    if isinstance(tool, Sharing):
        realisation = tool.realise(graph)
        if isinstance(realisation, Spectral) and isinstance(realisation.solver, FamilyConic):
            _require(realisation.solver.memory(realisation.scaled), job)
        solution, proof = realisation.solve(limits, None), realisation.prove
    else:
        scaled = scale(compress(to_inequality(constraint_rows(graph))))
        if isinstance(tool, Conic):
            _require(tool.memory(scaled), job)
        solution, proof = tool.solve(scaled, limits), functools.partial(prove, graph, scaled)
    solved = time.perf_counter()
    certificate = proof(solution) if solution.status.has_multipliers else None
    finished = time.perf_counter()
    remarks = []
    if solution.status not in (Status.OPTIMAL, Status.CLOSED_FORM):
        remarks.append(f"{solution.status.name.lower()}, {solution.detail}".rstrip(", "))
    if certificate is None and solution.status.has_multipliers:
        remarks.append("multipliers prove nothing")
    return Record(
        network=job.network,
        contender=job.contender,
        outcome=Outcome.DONE,
        bound=solution.bound if solution.status.has_multipliers else None,
        dual_bound=solution.dual_bound or None,
        proved=certificate.value if certificate else None,
        solve_seconds=solved - begin,
        prove_seconds=finished - solved,
        tool=f"{solution.solver} {solution.version}".strip(),
        detail="; ".join(remarks),
    )


def _require(needed: int, job: Job) -> None:
    if needed > job.memory_limit:
        raise MemoryError(f"about {gibibytes(needed)} would be needed")


def _main() -> None:
    job = Job(**json.loads(sys.argv[1]))
    resource.setrlimit(resource.RLIMIT_AS, (job.memory_limit, job.memory_limit))
    record = _run(job)
    if record.outcome in (Outcome.DONE, Outcome.FAILED):
        record = dataclasses.replace(record, peak_mb=peak_memory())
    Path(sys.argv[2]).write_text(record.to_json())


if __name__ == "__main__":
    _main()
