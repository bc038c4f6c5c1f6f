"""A trained network as a single ONNX file, written node by node: no torch, no external data."""

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
from netgain.layers import Add, Affine, BatchNormalization, Convolution, Flatten, Graph, Layer, Relu

# What these operators compute in inference has not changed since opset 13; runtimes of 2020 and later read it.
_OPSET = 13
_IR_VERSION = 8


@dataclasses.dataclass(frozen=True)
class _Operator:
    """`arrays`: the constant inputs, by the names they get, in order; `attributes` as in the standard."""

    kind: str
    arrays: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    attributes: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def _operator(layer: Layer) -> _Operator:
    """**Raises:** `ValueError` for a layer that training does not make."""
    match layer:
        case Affine(axis=-1):
            return _Operator("Gemm", _present(weight=layer.weight, bias=layer.bias), {"transB": 1})
        case Convolution():
            pads = [size for side in layer.padding for size in side]
            return _Operator("Conv", _present(weight=layer.weight, bias=layer.bias),
                             {"kernel_shape": layer.weight.shape[2:], "strides": layer.strides, "pads": pads,
                              "dilations": layer.dilations, "group": layer.groups})
        case BatchNormalization():
            return _Operator("BatchNormalization", _present(scale=layer.gamma, bias=layer.beta, mean=layer.mean,
                                                            variance=layer.variance), {"epsilon": layer.epsilon})
        case Relu():
            return _Operator("Relu")
        case Flatten():
            return _Operator("Flatten")
        case Add(signs=(1, 1)):
            return _Operator("Add")
    raise ValueError(f"{layer.describe()} is not written here: {layer}.")


def to_onnx(network: Graph, description: str, metadata: Mapping[str, str]) -> onnx.ModelProto:
    """The checked ONNX model, named as the network: output `logits`, a batch axis of any size, float32.

    **Raises:** `ValueError` if a parameter is no float32 number, or a layer is none of those that training makes.
    """
    nodes, constants = [], []
    (last,) = network.inputs(network.output)
    tensors = {network.input: network.input, last: "logits"}
    for node in network.order[1:-1]:
        operator = _operator(network.layer(node))
        constants += [onnx.numpy_helper.from_array(_single(array, f"{node}.{name}"), f"{node}.{name}")
                      for name, array in operator.arrays.items()]
        fed = [tensors[name] for name in network.inputs(node)] + [f"{node}.{name}" for name in operator.arrays]
        out = tensors.setdefault(node, f"{node}.out")
        nodes.append(onnx.helper.make_node(operator.kind, fed, [out], name=node, **operator.attributes))
    ends = [_end(tensors[node], network.shape(node)) for node in (network.input, last)]
    graph = onnx.helper.make_graph(nodes, network.name, ends[:1], ends[1:], constants)
    model = onnx.helper.make_model(graph, producer_name="netgain.experiments", doc_string=description,
                                   opset_imports=[onnx.helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)
    onnx.helper.set_model_props(model, dict(metadata))
    onnx.checker.check_model(model, full_check=True)
    return model


def write(model: onnx.ModelProto, path: Path) -> None:
    """Writes the model with a fixed order of fields, so that equal models are equal files."""
    path.write_bytes(model.SerializeToString(deterministic=True))


def _end(name: str, shape: Iterable[int]) -> onnx.ValueInfoProto:
    return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", *shape])


def _present(**arrays: np.ndarray | None) -> dict[str, np.ndarray]:
    return {name: array for name, array in arrays.items() if array is not None}


def _single(array: np.ndarray, name: str) -> np.ndarray:
    """The same numbers as float32."""
    single = array.astype(np.float32)
    if not np.array_equal(single, array):
        raise ValueError(f"{name} holds numbers that are not float32: written, they would be those of another network.")
    return single
