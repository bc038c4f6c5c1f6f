"""The question of classifiers: how many inputs provably keep their class within a Euclidean ball?"""

import dataclasses
import math
import time
from collections.abc import Callable, Sequence

import numpy as np
from netgain.layers import Graph, ModelError
from netgain.solvers.result import Limits, Status
from threadpoolctl import threadpool_limits

from ..lipschitz import LipschitzReport, lipschitz
from ..mode import Mode
from .attack import Attack
from .certificate import RobustnessCertificate, SampleClaim
from .margins import Margins, margins, radii
from .pairs import PairBounds, PairSearch, deciding_pairs
from .samples import Samples

DEFAULT_RADII = (0.1, 0.25, 0.5, 1.0)
DEFAULT_TOLERANCE = 1e-3

# Of the time that is left: for the bound of the whole output, and for those of pairs, the rest being the attack's.
_OVERALL_SHARE, _PAIR_SHARE = 0.4, 0.7


@dataclasses.dataclass(frozen=True)
class CurvePoint:
    """Shares of all samples at a radius: `certified` of a true class that is proved to be kept, `attacked` that no
    attack found has changed. The first is a lower, the second an upper bound of the robust accuracy."""

    radius: float
    certified: float
    attacked: float


@dataclasses.dataclass(frozen=True, eq=False)
class RobustnessReport:
    """What is known of a classifier's class near some samples, distances Euclidean and in the units of its input.

    **Attributes:** `predicted`: the class of each sample, (count,); `decided`: whether it is proved; `radii`: within
    which it is proved to be kept; `attacked`: how near a point of another class than the label was found, inf for none;
    `bounds`: of pairs; `overall`: of the whole output; `notes`: what a reader should know.
    """

    name: str
    samples: Samples
    predicted: np.ndarray
    decided: np.ndarray
    radii: np.ndarray
    attacked: np.ndarray
    curve: tuple[CurvePoint, ...]
    bounds: PairBounds
    overall: LipschitzReport
    certificate: RobustnessCertificate | None
    seconds: dict[str, float]
    notes: tuple[str, ...]
    interrupted: bool

    @property
    def right(self) -> np.ndarray:
        """Which samples are provably of their label's class."""
        return np.asarray((self.predicted == self.samples.labels) & self.decided)

    @property
    def proved(self) -> bool:
        return self.certificate is not None


class ContradictionError(RuntimeError):
    """An attack got within a certified radius: one of the two is wrong, and nothing is to be believed."""


def robustness(
    graph: Graph,
    samples: Samples,
    levels: Sequence[float] = DEFAULT_RADII,
    *,
    mode: Mode | None = None,
    limits: Limits | None = None,
    attack: Attack | None = None,
    seed: int = 0,
    on_stage: Callable[[str], None] | None = None,
) -> RobustnessReport:
    """Bounds each f_i - f_j, certifies radii of samples by them, and attacks the samples at every level.

    **Arguments:** `levels`: radii of the curve; `mode`: how multipliers are shared, as in `verify.lipschitz`; `limits`:
    tolerance of the solves and seconds for everything, after which what was proved so far is reported.

    **Raises:** `ModelError` for networks of fewer than two outputs; `ContradictionError`; and what `lipschitz` raises.

    **Source:** Tsuzuku, Sato, Sugiyama (NeurIPS 2018) for margin / (sqrt(2) L); pairs as in Fazlyab et al. (2019).
    """
    if math.prod(graph.shape(graph.output)) < 2:
        raise ModelError("Robustness is asked of classifiers: a network of at least two outputs, the largest naming "
                         f"the class. This one has the output {graph.shape(graph.output)}.")
    run = _Run(graph, samples, limits or Limits(tolerance=DEFAULT_TOLERANCE), on_stage or (lambda text: None))
    with threadpool_limits(limits=1, user_api="blas"):
        return run.report(sorted(levels), mode, attack or Attack(seed=seed), seed)


class _Run:
    """One report: what was found so far, whenever the time is up."""

    def __init__(self, graph: Graph, samples: Samples, limits: Limits, say: Callable[[str], None]):
        self.graph, self.samples, self.limits, self.say = graph, samples, limits, say
        self.begin = time.perf_counter()
        self.seconds: dict[str, float] = {}
        self.notes: list[str] = list(samples.notes)
        self.interrupted = False

    def left(self, share: float = 1.0) -> float:
        """Seconds that may still be taken."""
        return max(share * (self.limits.time_limit - (time.perf_counter() - self.begin)), 1e-3)

    def deadline(self, share: float = 1.0) -> float:
        return time.perf_counter() + self.left(share)

    def timed(self, stage: str) -> None:
        self.seconds[stage] = time.perf_counter() - self.begin - sum(self.seconds.values())

    def report(self, levels: list[float], mode: Mode | None, attack: Attack, seed: int) -> RobustnessReport:
        self.say("classifying")
        lead = margins(self.graph, self.samples.inputs)
        self.timed("classify")
        self.say("bounding the whole output")
        share = dataclasses.replace(self.limits, time_limit=self.left(_OVERALL_SHARE))
        overall = lipschitz(self.graph, limits=share, mode=mode, seed=seed, lower_bounds=False,
                            on_progress=lambda p: self.say(f"bounding the whole output: {p.bound:.7g}"))
        self.interrupted = overall.solution.status is Status.INTERRUPTED
        self.notes += overall.notes
        self.timed("overall")
        bounds = self.pairs(overall, lead)
        found = radii(lead, bounds.matrix())
        self.timed("pairs")
        distances = self.attacked(attack, levels)
        self.timed("attack")
        self.seconds["total"] = time.perf_counter() - self.begin
        right = (lead.predicted == self.samples.labels) & lead.decided
        self.contradictions(right, found, distances)
        curve = tuple(CurvePoint(level, float(np.mean(right & (found >= level))), float(np.mean(distances > level)))
                      for level in levels)
        return RobustnessReport(
            name=self.graph.name, samples=self.samples, predicted=lead.predicted, decided=lead.decided, radii=found,
            attacked=distances, curve=curve, bounds=bounds, overall=overall,
            certificate=self.certificate(bounds, lead, found), seconds=self.seconds, notes=tuple(self.notes),
            interrupted=self.interrupted,
        )

    def pairs(self, overall: LipschitzReport, lead: Margins) -> PairBounds:
        """Bounds of all pairs by shared multipliers, then of those that decide a radius by their own."""
        classes = lead.values.shape[1]
        search = PairSearch(self.graph, overall.mode, PairBounds(classes, overall.certificate, {}, frozenset()),
                            self.limits.tolerance, self.deadline(_PAIR_SHARE), self.say)
        if self.interrupted:
            return search.bounds
        open_ = 0
        try:
            search.share()
            while True:
                deciding = deciding_pairs(lead.predicted, lead.values, search.bounds.matrix())
                todo = [pair for pair in deciding if pair not in search.bounds.optimised]
                open_ = len(todo)
                if not todo or search.out_of_time:
                    break
                self.say(f"bounding pairs one by one: {len(search.bounds.optimised)} done, {open_} to do")
                search.optimise(todo[0])
        except KeyboardInterrupt:
            self.interrupted = True
        if open_:
            self.notes.append(f"{open_} pairs that decide radii were not optimised for lack of time.")
        return search.bounds

    def attacked(self, attack: Attack, levels: list[float]) -> np.ndarray:
        """Distances of misclassified points; where there was no time to look, none is known."""
        if self.interrupted:
            self.notes.append("Interrupted: the samples were not attacked.")
        else:
            self.say("attacking")
            limited = dataclasses.replace(attack, deadline=min(attack.deadline, self.deadline()))
            try:
                found = limited.distances(self.graph, self.samples.inputs, self.samples.labels, levels)
                if time.perf_counter() > limited.deadline:
                    self.notes.append("The attack was cut short by the time limit.")
                return found
            except KeyboardInterrupt:
                self.interrupted = True
                self.notes.append("Interrupted during the attack: its finds were dropped.")
        return np.where(margins_wrong(self.graph, self.samples), 0.0, math.inf)

    def contradictions(self, right: np.ndarray, found: np.ndarray, distances: np.ndarray) -> None:
        """**Raises:** `ContradictionError`."""
        against = np.flatnonzero(right & np.isfinite(distances) & (distances <= found))
        if len(against):
            k = int(against[0])
            raise ContradictionError(f"Sample {k} is certified within {float(found[k])!r}, but a point of another "
                                     f"class was found at the distance {float(distances[k])!r}.")

    def certificate(self, bounds: PairBounds, lead: Margins, found: np.ndarray) -> RobustnessCertificate | None:
        if bounds.overall is None and not bounds.pairs:
            return None
        claims = tuple(
            # Where nothing limits the radius, the file says as much of it as a number can.
            SampleClaim(x.ravel(), int(p), min(float(r), float(np.finfo(np.float64).max)))
            for x, p, r in zip(self.samples.inputs, lead.predicted, found, strict=True) if r > 0
        )
        return RobustnessCertificate(self.graph.digest, bounds.overall, bounds.pairs, claims)


def margins_wrong(graph: Graph, samples: Samples) -> np.ndarray:
    """Which samples float64 misclassifies."""
    logits = graph.forward(samples.inputs).reshape((len(samples), -1))
    return np.asarray(np.argmax(logits, axis=1) != samples.labels)
