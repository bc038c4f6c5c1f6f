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
from ..neuron import require_memory_for_rows
from .attack import Attack
from .certificate import RegionClaim, RobustnessCertificate, SampleClaim
from .local_bound import RadiusSearch, region_gain
from .local_check import LocalClaim
from .margins import Margins, margins, radii
from .pairs import PairBounds, PairSearch, deciding_pairs
from .region import LocalNetwork, Region
from .region_witness import region_witness
from .samples import Samples

DEFAULT_RADII = (0.1, 0.25, 0.5, 1.0)
DEFAULT_TOLERANCE = 1e-3

# Of the time that is left: for classes in ball arithmetic, for the bound of the whole output, for those of pairs, and
# for attacks before local slopes.
_CLASSIFY_SHARE, _OVERALL_SHARE, _PAIR_SHARE, _ATTACK_SHARE = 0.3, 0.4, 0.7, 0.3


@dataclasses.dataclass(frozen=True)
class CurvePoint:
    """Shares of all samples at a radius: `certified` of a true class that is proved to be kept, of these
    `certified_globally` by constants over all inputs, and `attacked` that no attack has changed. The first is a lower,
    the last an upper bound of the robust accuracy."""

    radius: float
    certified_globally: float
    certified: float
    attacked: float


@dataclasses.dataclass(frozen=True, eq=False)
class RegionBound:
    """The Lipschitz constant of all outputs on a region around a sample: lower <= L <= upper, both proved.

    **Attributes:** `index`: of the sample; `unstable`, `neurons`: how many neurons are not linear on the region, of how
    many; `claim`: None where the bound over all inputs is no worse, and is `upper`.
    """

    index: int
    region: Region
    lower: float
    upper: float
    unstable: int
    neurons: int
    seconds: float
    claim: LocalClaim | None


@dataclasses.dataclass(frozen=True, eq=False)
class RobustnessReport:
    """What is known of a classifier's class near some samples, distances Euclidean and in the units of its input.

    **Attributes:** `predicted`: the class of each sample, (count,); `decided`: whether it is proved; `radii`: within
    which it is proved to be kept, by slopes of its own ball too; `global_radii`: by constants over all inputs alone;
    `searched`: of how many samples slopes of their own ball were tried; `regions`: constants around the first samples;
    `attacked`: how near a point of another class than the label was found, inf for none;
    `bounds`: of pairs; `overall`: of the whole output; `notes`: what a reader should know.
    """

    name: str
    samples: Samples
    predicted: np.ndarray
    decided: np.ndarray
    radii: np.ndarray
    global_radii: np.ndarray
    searched: int
    regions: tuple[RegionBound, ...]
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
    local: int = 0,
    region: Region | None = None,
    seed: int = 0,
    on_stage: Callable[[str], None] | None = None,
) -> RobustnessReport:
    """Bounds each f_i - f_j, certifies radii of samples by them, and attacks the samples at every level.

    **Arguments:** `levels`: radii of the curve; `mode`: how multipliers are shared, as in `verify.lipschitz`; `limits`:
    tolerance of the solves and seconds for everything, after which what was proved so far is reported; `local`: of how
    many samples slopes on their own balls are tried too; `region`: bounds the constant on it around each of these.

    **Raises:** `ModelError` for networks of fewer than two outputs; `LocalError`, `TooLargeError` if local slopes are
    asked of a network that has none or is too large; `ContradictionError`; and what `lipschitz` raises.

    **Source:** Tsuzuku, Sato, Sugiyama (NeurIPS 2018) for margin / (sqrt(2) L); pairs as in Fazlyab et al. (2019).
    """
    if math.prod(graph.shape(graph.output)) < 2:
        raise ModelError("Robustness is asked of classifiers: a network of at least two outputs, the largest naming "
                         f"the class. This one has the output {graph.shape(graph.output)}.")
    run = _Run(graph, samples, limits or Limits(tolerance=DEFAULT_TOLERANCE), on_stage or (lambda text: None))
    with threadpool_limits(limits=1, user_api="blas"):
        return run.report(sorted(levels), mode, attack or Attack(seed=seed), min(local, len(samples)), region, seed)


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

    def report(self, levels: list[float], mode: Mode | None, attack: Attack, local: int, region: Region | None,
               seed: int) -> RobustnessReport:
        network = None
        if local:
            require_memory_for_rows(self.graph)
            network = LocalNetwork(self.graph)
        self.say("classifying")
        lead = margins(self.graph, self.samples.inputs, self.deadline(_CLASSIFY_SHARE))
        done = len(lead.predicted)
        if done < len(self.samples):
            self.notes.append(f"Only the first {done} of {len(self.samples)} samples were classified in time.")
            self.samples = dataclasses.replace(self.samples, inputs=self.samples.inputs[:done],
                                               labels=self.samples.labels[:done])
        self.timed("classify")
        self.say("bounding the whole output")
        shares = (_OVERALL_SHARE, _PAIR_SHARE, _ATTACK_SHARE) if network else (_OVERALL_SHARE, _PAIR_SHARE, 1.0)
        share = dataclasses.replace(self.limits, time_limit=self.left(shares[0]))
        overall = lipschitz(self.graph, limits=share, mode=mode, seed=seed, lower_bounds=False,
                            on_progress=lambda p: self.say(f"bounding the whole output: {p.bound:.7g}"))
        self.interrupted = overall.solution.status is Status.INTERRUPTED
        self.notes += overall.notes
        self.timed("overall")
        bounds = self.pairs(overall, lead, shares[1])
        globally = radii(lead, bounds.matrix())
        self.timed("pairs")
        distances = self.attacked(attack, levels, shares[2])
        self.timed("attack")
        found, searched = globally.copy(), 0
        claims: dict[int, LocalClaim] = {}
        regions: list[RegionBound] = []
        if network:
            claims, searched = self.locally(network, local, lead, found, distances)
            regions = self.regions(network, local, region, overall, seed) if region else []
            self.timed("local")
        self.seconds["total"] = time.perf_counter() - self.begin
        right = (lead.predicted == self.samples.labels) & lead.decided
        self.contradictions(right, found, distances)
        curve = tuple(CurvePoint(level, float(np.mean(right & (globally >= level))),
                                 float(np.mean(right & (found >= level))), float(np.mean(distances > level)))
                      for level in levels)
        return RobustnessReport(
            name=self.graph.name, samples=self.samples, predicted=lead.predicted, decided=lead.decided, radii=found,
            global_radii=globally, searched=searched, regions=tuple(regions), attacked=distances, curve=curve,
            bounds=bounds, overall=overall, certificate=self.certificate(bounds, lead, found, claims, regions),
            seconds=self.seconds, notes=tuple(self.notes), interrupted=self.interrupted,
        )

    def locally(self, network: LocalNetwork, count: int, lead: Margins, found: np.ndarray, distances: np.ndarray
                ) -> tuple[dict[int, LocalClaim], int]:
        """Raises the radii of the first samples by slopes on their own balls.

        A misclassified sample is left as it is. Returns claims by sample, and how many were tried.
        """
        claims: dict[int, LocalClaim] = {}
        digest, deadline = self.graph.digest, self.deadline()
        searched = 0
        try:
            for k in range(count):
                if self.interrupted or time.perf_counter() > deadline:
                    break
                self.say(f"slopes on balls: sample {k + 1} of {count}")
                if lead.predicted[k] == self.samples.labels[k]:
                    search = RadiusSearch(deadline=deadline)
                    better = search.find(network, digest, self.samples.inputs[k], int(lead.predicted[k]),
                                         lead.values[k], float(found[k]), float(distances[k]))
                    if better.claim is not None:
                        found[k], claims[k] = better.radius, better.claim
                searched += 1
        except KeyboardInterrupt:
            self.interrupted = True
        if searched < count:
            self.notes.append(f"Slopes on balls were tried for {searched} of {count} samples before the time was up or "
                              "Ctrl-C was pressed.")
        return claims, searched

    def regions(self, network: LocalNetwork, count: int, region: Region, overall: LipschitzReport, seed: int
                ) -> list[RegionBound]:
        """Lipschitz constants of all outputs on the region around each of the first samples."""
        digest, bounds = self.graph.digest, []
        neurons = sum(map(len, network.neurons))
        try:
            for k in range(count):
                if self.interrupted or self.left() <= 1e-3:
                    break
                self.say(f"constants on regions: sample {k + 1} of {count}")
                begin, x = time.perf_counter(), self.samples.inputs[k]
                limits = Limits(tolerance=self.limits.tolerance, time_limit=self.left())
                claim, unstable = region_gain(network, digest, network.centre(x), region, limits)
                # What holds for all inputs holds on a region too.
                if claim is not None and claim.gains[-1].value >= overall.upper:
                    claim = None
                upper = claim.gains[-1].value if claim else overall.upper
                lower = region_witness(self.graph, x, region, seed + k)
                bounds.append(RegionBound(k, region, lower, upper, unstable, neurons, time.perf_counter() - begin,
                                          claim))
        except KeyboardInterrupt:
            self.interrupted = True
        if len(bounds) < count:
            self.notes.append(f"{len(bounds)} of {count} regions were bounded before the time was up or Ctrl-C was "
                              "pressed.")
        return bounds

    def pairs(self, overall: LipschitzReport, lead: Margins, share: float) -> PairBounds:
        """Bounds of all pairs by shared multipliers, then of those that decide a radius by their own."""
        classes = lead.values.shape[1]
        search = PairSearch(self.graph, overall.mode, PairBounds(classes, overall.certificate, {}, frozenset()),
                            self.limits.tolerance, self.deadline(share), self.say)
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

    def attacked(self, attack: Attack, levels: list[float], share: float) -> np.ndarray:
        """Distances of misclassified points; where there was no time to look, none is known."""
        if self.interrupted:
            self.notes.append("Interrupted: the samples were not attacked.")
        else:
            self.say("attacking")
            limited = dataclasses.replace(attack, deadline=min(attack.deadline, self.deadline(share)))
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

    def certificate(self, bounds: PairBounds, lead: Margins, found: np.ndarray, local: dict[int, LocalClaim],
                    regions: list[RegionBound]) -> RobustnessCertificate | None:
        if bounds.overall is None and not bounds.pairs:
            return None
        claims = tuple(
            # Where nothing limits the radius, the file says as much of it as a number can.
            SampleClaim(x.ravel(), int(p), min(float(r), float(np.finfo(np.float64).max)), local.get(k))
            for k, (x, p, r) in enumerate(zip(self.samples.inputs, lead.predicted, found, strict=True)) if r > 0
        )
        around = tuple(RegionClaim(self.samples.inputs[bound.index].ravel(), bound.claim)
                       for bound in regions if bound.claim is not None)
        return RobustnessCertificate(self.graph.digest, bounds.overall, bounds.pairs, claims, around)


def margins_wrong(graph: Graph, samples: Samples) -> np.ndarray:
    """Which samples float64 misclassifies."""
    logits = graph.forward(samples.inputs).reshape((len(samples), -1))
    return np.asarray(np.argmax(logits, axis=1) != samples.labels)
