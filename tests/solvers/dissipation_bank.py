"""Small chains of dissipative stages, as matrices, and inequalities behind them."""

import itertools

import numpy as np
from netgain.solvers.dissipation import DissipationProblem, StageData
from netgain.solvers.inequality import Inequality, SlopeConstraint


def delay(weights: list[float], following: float = 1.0) -> DissipationProblem:
    """v_t = w_0 u_t + w_1 u_{t-1} + ..; z_t with slopes in [0, 1]; y = following z."""
    n = len(weights) - 1
    A, B = np.eye(n, k=-1), np.eye(n, 1)
    C, D = np.array([weights[1:]]), np.array([[weights[0]]])
    nonlinear = StageData(A, B, C, D, (slice(0, n),), True, 1, np.zeros(1), np.ones(1), 1, False)
    empty = np.zeros((0, 0))
    linear = StageData(empty, np.zeros((0, 1)), np.zeros((1, 0)), np.array([[following]]), (), True, 1, None, None, 1,
                       False)
    return DissipationProblem((nonlinear, linear), None)


def random_head(rng: np.random.Generator, channels: int, pixels: int) -> Inequality:
    size = channels * pixels
    first = SlopeConstraint({0: rng.normal(size=(3, size))}, np.array([0.0, -0.5, -0.2]), np.array([1.0, 1.0, 0.7]))
    silent = SlopeConstraint({0: rng.normal(size=(4, size)), 1: rng.normal(size=(4, 3))}, -np.ones(4), np.ones(4), 2,
                             np.array([0, 2]))
    inner = SlopeConstraint({1: rng.normal(size=(2, 3)), 2: rng.normal(size=(2, 2))}, np.full(2, 0.2), np.ones(2))
    return Inequality(size, (first, silent, inner), {j: rng.normal(size=(2, n)) for j, n in ((0, size), (3, 2))})


def stage(rng: np.random.Generator, inputs: int, channels: int, states: tuple[int, ...], phases: int = 1,
          slopes: tuple[float, float] | None = (0.0, 1.0), gain: int = 1, diagonal: bool = False,
          radius: float | None = None) -> StageData:
    """Random matrices; A is nilpotent, or has the spectral radius `radius`."""
    n, columns = sum(states), inputs * phases
    A = np.triu(rng.normal(size=(n, n)), 1)
    if radius is not None:
        A = rng.normal(size=(n, n))
        A *= radius / np.abs(np.linalg.eigvals(A)).max()
    ends = np.cumsum([0, *states])
    blocks = tuple(slice(int(a), int(b)) for a, b in itertools.pairwise(ends) if a < b)
    lower, upper = (None, None) if slopes is None else (np.full(channels, end) for end in slopes)
    B, C, D = (rng.normal(size=shape) for shape in ((n, columns), (channels, n), (channels, columns)))
    return StageData(A, B, C, D, blocks, radius is None, phases, lower, upper, gain, diagonal)


def _bank() -> dict[str, DissipationProblem]:
    rng = np.random.default_rng(11)
    chains = {
        "a line": (stage(rng, 2, 2, (3,)), stage(rng, 2, 1, (2,), slopes=None)),
        "the plane": (stage(rng, 1, 2, (2, 2)), stage(rng, 2, 3, (3, 2), slopes=(-0.3, 1.0)),
                      stage(rng, 3, 2, (2, 3), slopes=None)),
        "strides and maxima": (stage(rng, 1, 2, (2,), phases=2),
                               stage(rng, 2, 2, (), slopes=None, gain=4, diagonal=True),
                               stage(rng, 2, 2, (1, 2), phases=3)),
        "stable states": (stage(rng, 2, 2, (3,), radius=0.9), stage(rng, 2, 2, (), slopes=(-1.0, 0.5)),
                          stage(rng, 2, 2, (2,), radius=0.5, slopes=None)),
        "one stage": (stage(rng, 2, 3, (2, 1)),),
        "a matrix": (stage(rng, 2, 3, (), slopes=None),),
        "many stages": tuple(stage(rng, 2, 2, (1, 1)) for _ in range(6)),
    }
    problems = {name: DissipationProblem(stages, None) for name, stages in chains.items()}
    for name, pixels in (("a head", 3), ("a head of maxima", 2)):
        first = stage(rng, 1, 2, (1, 1)) if pixels == 3 else stage(rng, 1, 2, (1,), slopes=None, diagonal=True)
        problems[name] = DissipationProblem((first,), random_head(rng, 2, pixels))
    alone = Inequality(4, (), {0: rng.normal(size=(3, 4))})
    problems["a linear head"] = DissipationProblem((stage(rng, 2, 2, (2,)),), alone)
    return problems


BANK = _bank()
