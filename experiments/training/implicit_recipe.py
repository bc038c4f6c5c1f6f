"""What implicit classifiers are trained with, as data."""

import dataclasses
import enum


class Method(enum.Enum):
    """How A is kept well-posed."""

    NEMON = "nemon"
    MON = "mon"
    NORM = "norm"
    PLAIN = "plain"

    @property
    def is_bounded(self) -> bool:
        """Whether a logarithmic norm below 1 is kept, on which l_inf bounds and interval reachability rest."""
        return self in (Method.NEMON, Method.NORM)


class Penalty(enum.Enum):
    """Which l_inf Lipschitz bound is added to the loss."""

    MAJORANT = "majorant"
    SURROGATE = "surrogate"


# m of mu(A) <= m, k of I - A >= k I, r of |A| <= r.
_LEVELS = {Method.NEMON: 0.0, Method.MON: 1.0, Method.NORM: 0.95, Method.PLAIN: 0.0}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImplicitRecipe:
    """What to train, and how.

    **Attributes:** `channels`: of convolutions instead of `size` neurons with weights of their own, 0 for the latter;
    their kernels have `kernel` pixels a side, at every `stride`-th pixel; `level`: what bounds A, see
    `ImplicitClassifier`; by default that of the method; `penalty` and `weight`: what is added to the loss; `radius`: of
    boxes around images; `share`: what worst cases over these boxes, by interval reachability, come to count for in the
    loss; both grow from zero during the second quarter of training.
    """

    method: Method = Method.NEMON
    size: int = 100
    channels: int = 0
    kernel: int = 3
    stride: int = 4
    level: float | None = None
    penalty: Penalty = Penalty.MAJORANT
    weight: float = 0.0
    radius: float = 0.0
    share: float = 0.75
    epochs: int = 12
    seed: int = 0
    batch: int = 100
    rate: float = 3e-3

    def __post_init__(self) -> None:
        if min(self.size, self.epochs, self.batch) < 1:
            raise ValueError(f"`size`, `epochs` and `batch` must be at least 1, got {self.size}, {self.epochs}, "
                             f"{self.batch}.")
        if self.channels < 0 or self.kernel < 1 or not self.kernel % 2 or self.stride < 1:
            raise ValueError("`channels` must not be negative, `kernel` must be odd and `stride` at least 1, got "
                             f"{self.channels}, {self.kernel}, {self.stride}.")
        if not self.rate > 0 or not self.weight >= 0 or not self.radius >= 0 or not 0 <= self.share <= 1:
            raise ValueError("`rate` must be positive, `weight` and `radius` must not be negative and `share` must lie "
                             f"in [0, 1], got {self.rate}, {self.weight}, {self.radius}, {self.share}.")
        if (self.weight or self.radius) and not self.method.is_bounded:
            raise ValueError(f"`weight` and `radius` must be 0 for {self.method.value}: no l_inf bound of it exists. "
                             "Take nemon or norm.")
        if self.level is None:
            object.__setattr__(self, "level", _LEVELS[self.method])
        if self.method.is_bounded and not self.bound < 1:
            raise ValueError(f"`level` must be below 1 for {self.method.value}, got {self.level}.")
        if self.method in (Method.MON, Method.NORM) and not self.bound > 0:
            raise ValueError(f"`level` must be positive for {self.method.value}, got {self.level}.")

    @property
    def bound(self) -> float:
        """`level`, as a number."""
        assert self.level is not None
        return self.level

    def settings(self) -> dict[str, str | float | int]:
        """What is recorded with a model."""
        return {key: value.value if isinstance(value, enum.Enum) else value
                for key, value in dataclasses.asdict(self).items()}

    def ramp(self, progress: float) -> float:
        """From 0 at a quarter of the training to 1 at its half."""
        return min(max(4 * progress - 1, 0.0), 1.0)
