"""A multilayer perceptron as a single ONNX file, written node by node: no torch, no external data."""

import dataclasses
import itertools
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper

# Gemm and Relu have had their present meaning since opset 13; runtimes of 2020 and later read it.
_OPSET = 13
_IR_VERSION = 8


@dataclasses.dataclass(frozen=True, eq=False)
class Perceptron:
    """y = W_l relu(.. relu(W_1 x + b_1) ..) + b_l; weights of shape (out, in), float32."""

    weights: tuple[np.ndarray, ...]
    biases: tuple[np.ndarray, ...]

    def __post_init__(self) -> None:
        fits = len(self.weights) == len(self.biases) > 0
        fits = fits and all(w.ndim == 2 and b.shape == w.shape[:1]
                            for w, b in zip(self.weights, self.biases, strict=True))
        fits = fits and all(after.shape[1] == before.shape[0] for before, after in itertools.pairwise(self.weights))
        if not fits:
            raise ValueError(f"Weights of shapes {[w.shape for w in self.weights]} and biases of "
                             f"{[b.shape for b in self.biases]} do not make a network.")

    @property
    def sizes(self) -> tuple[int, ...]:
        """The widths, input and output included."""
        return (self.weights[0].shape[1], *(w.shape[0] for w in self.weights))

    def forward(self, x: np.ndarray) -> np.ndarray:
        """The values for a batch of shape (batch, inputs)."""
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            x = np.maximum(x @ weight.T + bias, 0)
        return np.asarray(x @ self.weights[-1].T + self.biases[-1])


def to_onnx(network: Perceptron, name: str, description: str, metadata: Mapping[str, str]) -> onnx.ModelProto:
    """The checked ONNX model: input `image` and output `logits`, both with a batch axis of any size."""
    nodes, constants, fed = [], [], "image"
    last = len(network.weights) - 1
    for k, (weight, bias) in enumerate(zip(network.weights, network.biases, strict=True)):
        constants += [onnx.numpy_helper.from_array(weight.astype(np.float32), f"linear_{k}.weight"),
                      onnx.numpy_helper.from_array(bias.astype(np.float32), f"linear_{k}.bias")]
        out = "logits" if k == last else f"linear_{k}.out"
        nodes.append(onnx.helper.make_node("Gemm", [fed, f"linear_{k}.weight", f"linear_{k}.bias"], [out],
                                           name=f"linear_{k}", transB=1))
        if k != last:
            nodes.append(onnx.helper.make_node("Relu", [out], [f"relu_{k}.out"], name=f"relu_{k}"))
            fed = f"relu_{k}.out"
    ends = [onnx.helper.make_tensor_value_info(end, onnx.TensorProto.FLOAT, ["batch", size])
            for end, size in (("image", network.sizes[0]), ("logits", network.sizes[-1]))]
    graph = onnx.helper.make_graph(nodes, name, ends[:1], ends[1:], constants)
    model = onnx.helper.make_model(graph, producer_name="netgain.experiments", doc_string=description,
                                   opset_imports=[onnx.helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)
    onnx.helper.set_model_props(model, dict(metadata))
    onnx.checker.check_model(model, full_check=True)
    return model


def write(model: onnx.ModelProto, path: Path) -> None:
    """Writes the model with a fixed order of fields, so that equal models are equal files."""
    path.write_bytes(model.SerializeToString(deterministic=True))
