"""Small ONNX models, written node by node."""

from pathlib import Path

import numpy as np
import onnx
from netgain.layers import Graph, load
from onnx import TensorProto, helper, numpy_helper


def write(path: Path, nodes, weights=None, *, shape=("batch", 4), opset=18, output="y", elem=TensorProto.FLOAT, ir=10,
          listed=False) -> Path:
    """Writes a model with input x of the given shape and the given nodes; arrays in `weights` are initialisers."""
    stored = [value if isinstance(value, onnx.TensorProto) else numpy_helper.from_array(np.asarray(value), name)
              for name, value in (weights or {}).items()]
    inputs = [helper.make_tensor_value_info("x", elem, list(shape))]
    if listed:
        inputs += [helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)) for t in stored]
    names = [output] if isinstance(output, str) else output
    outputs = [helper.make_tensor_value_info(name, elem, None) for name in names]
    graph = helper.make_graph(nodes, "net", inputs, outputs, stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)
    # The checker wants the outputs to have shapes, which the inference that comes with onnx knows.
    inferred = onnx.shape_inference.infer_shapes(model).graph.output
    for entry, known in zip(model.graph.output, inferred, strict=True):
        entry.CopyFrom(known)
        if not entry.type.tensor_type.HasField("shape"):
            entry.type.tensor_type.shape.dim.add().dim_param = "any"
    onnx.save(model, path)
    return path


def imported(tmp_path: Path, nodes, weights=None, **options) -> Graph:
    return load(write(tmp_path / "net.onnx", nodes, weights, **options))


def node(kind: str, inputs: str, output: str = "y", **attributes) -> onnx.NodeProto:
    """A node whose inputs are given as words; `-` is an input left out."""
    names = ["" if name == "-" else name for name in inputs.split()]
    return helper.make_node(kind, names, output.split(), name=attributes.pop("label", ""), **attributes)


def single(*values) -> np.ndarray:
    return np.array(values, dtype=np.float32)
