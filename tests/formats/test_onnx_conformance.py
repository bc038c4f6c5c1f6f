"""The ONNX standard's own test cases, run through the importer."""

import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
from netgain.layers import ModelError, UnsupportedModelError, load
from netgain.layers.formats.onnx_import import OPERATORS
from onnx import helper, numpy_helper

DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"


@pytest.fixture(scope="module")
def cases():
    """The node cases of operators in the table whose inputs are arrays, small enough for the reference evaluator."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = collect_testcases(None)
    return [c for c in found if c.model is not None and {n.op_type for n in c.model.graph.node} <= OPERATORS.keys()
            and c.data_sets[0][0] and all(isinstance(i, np.ndarray) and i.size < 20_000 for i in c.data_sets[0][0])]


def with_activation(case, place: int) -> onnx.ModelProto:
    """The case with all inputs but one made constants; that one is a reshaped vector: no batch axis."""
    given = case.data_sets[0][0]
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    graph = model.graph
    entry = graph.input[place]
    name, kind = entry.name, entry.type.tensor_type.elem_type
    for other, value in zip(case.model.graph.input, given, strict=True):
        if other.name != name:
            graph.initializer.append(numpy_helper.from_array(value, other.name))
    kept = [helper.make_tensor_value_info("flat", kind, [given[place].size])]
    del graph.input[:]
    graph.input.extend(kept)
    graph.initializer.append(numpy_helper.from_array(np.array(given[place].shape, dtype=np.int64), "shape_of_input"))
    reshape = helper.make_node("Reshape", ["flat", "shape_of_input"], [name], name="reshape_input")
    nodes = [reshape, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.output[1:]
    return model


def test_every_node_case_is_reproduced_or_refused(cases, tmp_path):
    reproduced, wrong = set(), []
    path = tmp_path / "case.onnx"
    for case in cases:
        given, expected = case.data_sets[0]
        for place, value in enumerate(given):
            opset = max(entry.version for entry in case.model.opset_import)
            if value.dtype not in (np.float32, np.float64) or value.size == 0 or opset < 7:
                continue
            onnx.save(with_activation(case, place), path)
            try:
                graph = load(path)
            except (UnsupportedModelError, ModelError):
                continue
            result = graph.forward(value.astype(np.float64).reshape(1, -1))[0]
            if result.shape != expected[0].shape or not np.allclose(result, expected[0], rtol=5e-4, atol=1e-6):
                wrong.append(f"{case.name}, input {place}")
            reproduced.add(case.name)
    assert not wrong
    # A silent refusal of everything would pass the comparison, so the operators a network is made of must be there.
    for stem, least in {"gemm": 10, "matmul": 3, "add": 2, "sub": 3, "mul": 3, "div": 3, "flatten": 8, "reshape": 7,
                        "transpose": 7, "concat": 0, "softmax": 6, "gelu": 4, "slice": 6, "gather": 3, "squeeze": 2,
                        "unsqueeze": 5, "split": 6, "prelu": 2, "clip": 1, "batchnorm": 2, "expand": 2, "celu": 1,
                        "elu": 3, "selu": 3, "leakyrelu": 3, "hardsigmoid": 3, "hardswish": 1, "mish": 2, "softplus": 2,
                        "softsign": 2, "tanh": 2, "sigmoid": 2, "relu": 1, "abs": 1, "atan": 2, "neg": 2, "swish": 1,
                        "dropout": 1, "sum": 1, "identity": 1, "averagepool": 14, "globalaveragepool": 2,
                        "basic_conv": 2, "conv_with": 4, "reduce_mean": 8, "maxpool": 10,
                        "globalmaxpool": 2, "reduce_max": 8}.items():
        count = sum(1 for name in reproduced if name.startswith(f"test_{stem}"))
        assert count >= least, f"{stem}: only {count} cases were imported"


CONVERTED = ["Linear", "Linear_no_bias", "PReLU_1d", "PReLU_1d_multiparam", "PReLU_2d", "PReLU_2d_multiparam", "ReLU",
             "LeakyReLU", "LeakyReLU_with_negval", "ELU", "SELU", "Sigmoid", "Softmax", "Softplus", "Softsign", "Tanh",
             "BatchNorm1d_3d_input_eval", "BatchNorm2d_eval", "BatchNorm2d_momentum_eval",
             *[f"AvgPool{kind}" for kind in ("1d", "1d_stride", "2d", "2d_stride", "3d", "3d_stride")],
             *[f"Conv1d{kind}" for kind in ("", "_dilated", "_groups", "_pad1", "_pad1size1", "_pad2", "_pad2size1",
                                            "_stride")],
             *[f"Conv2d{kind}" for kind in ("", "_depthwise", "_depthwise_padded", "_depthwise_strided", "_dilated",
                                            "_depthwise_with_multiplier", "_groups", "_groups_thnn", "_no_bias",
                                            "_padding", "_strided")],
             *[f"Conv3d{kind}" for kind in ("", "_dilated", "_dilated_strided", "_groups", "_no_bias", "_stride",
                                            "_stride_padding")],
             *[f"MaxPool{kind}" for kind in ("1d", "1d_stride", "1d_stride_padding_dilation", "2d",
                                             "2d_stride_padding_dilation", "3d", "3d_stride", "3d_stride_padding")],
             "ConstantPad2d", "ZeroPad2d"]


@pytest.mark.parametrize("name", CONVERTED)
def test_networks_converted_from_torch_give_their_stored_outputs(name, tmp_path):
    folder = DATA / "pytorch-converted" / f"test_{name}"
    if not folder.is_dir():
        pytest.skip("not in this release of onnx")
    arrays = []
    for kind in ("input_0", "output_0"):
        tensor = onnx.TensorProto()
        tensor.ParseFromString((folder / "test_data_set_0" / f"{kind}.pb").read_bytes())
        arrays.append(numpy_helper.to_array(tensor).astype(np.float64))
    model = onnx.load(folder / "model.onnx")
    stored = {tensor.name for tensor in model.graph.initializer}
    for entry in (*model.graph.input, *model.graph.output):
        if entry.name not in stored:
            entry.type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.save(model, tmp_path / "net.onnx")
    graph = load(tmp_path / "net.onnx")
    np.testing.assert_allclose(graph.forward(arrays[0]), arrays[1], rtol=1e-4, atol=1e-5)
