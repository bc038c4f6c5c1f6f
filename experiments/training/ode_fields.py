"""The fields u' = f(t, u) of the neural-ODE classifiers, by form: what is trained, how it acts, how it is stored.

- `ONE_LAYER`: u' = s(A u + b), parameters A (n, n), b (n,);
- `LAYERS`: u' = s(A_2 s(A_1 u + b_1) + b_2), parameters A_1 (hidden, n), b_1, A_2 (n, hidden), b_2;
- `IN_TIME`: u' = s(A(t) u + b), where A(t) runs linearly between `nodes` matrices at even times in [0, 1]; parameters
  the matrices, in one array (nodes, n, n), and b. The worst logarithmic norm being convex in A, it keeps in between
  what it keeps at the nodes.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from netgain.solvers.contractivity.logarithmic_norm import SlopeField
from netgain.solvers.contractivity.multilayer_field import MultilayerField
from netgain.solvers.contractivity.time_dependent_field import SampledField
from netgain.verify.contractivity.report import FieldForm

# Samples between two nodes that a file holds: tents over samples that are closer prove more.
_SAMPLES = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainedForm:
    """Which field is trained, and its sizes.

    **Attributes:** `size`: n; `hidden`: units between two layers; `nodes`: matrices that A(t) runs through; `slope`: of
    the leaky ReLU s below zero, the least slope.

    **Raises:** `ValueError` for sizes below 1, fewer than two nodes, or a slope outside (0, 1).
    """

    form: FieldForm = FieldForm.ONE_LAYER
    size: int = 32
    hidden: int = 16
    nodes: int = 5
    slope: float = 0.1

    def __post_init__(self) -> None:
        if min(self.size, self.hidden) < 1 or self.nodes < 2:
            raise ValueError("`size` and `hidden` must be at least 1 and `nodes` at least 2, got "
                             f"{self.size}, {self.hidden} and {self.nodes}.")
        if not 0 < self.slope < 1:
            raise ValueError(f"`slope` must lie in (0, 1), got {self.slope}.")

    @property
    def activation(self) -> str:
        """s, as files name it."""
        return f"leaky_relu:{self.slope!r}"

    def shapes(self) -> list[tuple[int, ...]]:
        """Of the parameters, matrices and biases in turn."""
        n = self.size
        match self.form:
            case FieldForm.ONE_LAYER:
                return [(n, n), (n,)]
            case FieldForm.LAYERS:
                return [(self.hidden, n), (self.hidden,), (n, self.hidden), (n,)]
            case FieldForm.IN_TIME:
                return [(self.nodes, n, n), (n,)]

    def layers_at(self, parameters: Sequence[Any], t: float) -> list[tuple[Any, Any]]:
        """The layers (matrix, bias) of the field at the time t in [0, 1]; arrays and tensors alike."""
        if self.form is FieldForm.IN_TIME:
            place = t * (self.nodes - 1)
            left = min(int(place), self.nodes - 2)
            share = place - left
            matrices = parameters[0]
            return [((1 - share) * matrices[left] + share * matrices[left + 1], parameters[1])]
        return list(zip(parameters[::2], parameters[1::2], strict=True))

    def slope_fields(self, parameters: Sequence[np.ndarray]) -> list[SlopeField]:
        """One for each matrix A that a method keeps contractive: the only one, or all nodes.

        **Raises:** `ValueError` for several layers, whose bound is not convex in the weights.
        """
        if self.form is FieldForm.LAYERS:
            raise ValueError("Fields of several layers can only be trained plainly.")
        matrices = parameters[0] if self.form is FieldForm.IN_TIME else parameters[0][None]
        return [SlopeField(matrix.astype(np.float64), self.slope) for matrix in matrices]

    def field(self, parameters: Sequence[np.ndarray]) -> SlopeField | MultilayerField | SampledField:
        """What `verify` bounds; A(t) is that of the file, linear between its samples."""
        arrays = self.arrays(parameters)
        match self.form:
            case FieldForm.ONE_LAYER:
                return SlopeField(arrays["A"], self.slope)
            case FieldForm.LAYERS:
                return MultilayerField((arrays["A1"], arrays["A2"]), self.slope)
            case FieldForm.IN_TIME:
                return SampledField(arrays["times"], arrays["A"], float(arrays["lipschitz"]), self.slope)

    def arrays(self, parameters: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """The content of a file that `layers.load_field` reads, but for the activation."""
        match self.form:
            case FieldForm.ONE_LAYER:
                return {"A": parameters[0], "b": parameters[1]}
            case FieldForm.LAYERS:
                return dict(zip(("A1", "b1", "A2", "b2"), parameters, strict=True))
            case FieldForm.IN_TIME:
                count = _SAMPLES * (self.nodes - 1)
                times = np.arange(count + 1) / count
                doubles = [parameter.astype(np.float64) for parameter in parameters]
                samples = np.array([self.layers_at(doubles, t)[0][0] for t in times])
                speeds = np.linalg.norm(np.diff(samples, axis=0), 2, axis=(1, 2)) * count
                # The constant of the interpolation is the greatest speed; a hair more covers its rounding.
                lipschitz = np.array(float(np.max(speeds)) * (1 + 1e-10))
                return {"A": samples, "b": parameters[1], "times": times, "lipschitz": lipschitz}
