"""Files that are damaged, dangerous or not a network of one input and one output."""

import numpy as np
import onnx
import pytest
from netgain.layers import MismatchError, ModelError, UnsupportedModelError, describe_source, load
from netgain.layers.formats import onnx_activations, onnx_import
from onnx import TensorProto, helper
from onnx_models import imported, node, write

W = np.arange(16, dtype=np.float32).reshape(4, 4) / 16 - 0.4


def mlp(path, **options):
    nodes = [node("MatMul", "x W", "h"), node("Relu", "h", "r"), node("Gemm", "r V z")]
    return write(path, nodes, {"W": W, "V": W.T, "z": W[0]}, **options)


def external(tmp_path, **changes):
    """A model whose weights lie in net.data, with entries of their location changed."""
    path = mlp(tmp_path / "net.onnx")
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, location="net.data", size_threshold=0)
    model = onnx.load(path, load_external_data=False)
    for entry in model.graph.initializer[0].external_data:
        if entry.key in changes:
            entry.value = changes[entry.key]
    path.write_bytes(model.SerializeToString())
    return path


def test_weights_beside_the_model_are_read_and_hashed(tmp_path):
    path = external(tmp_path)
    graph = load(path)
    assert graph.name == "net"
    assert np.array_equal(graph.layer(graph.order[1]).weight, W.T)
    before = describe_source(path)
    data = tmp_path / "net.data"
    content = bytearray(data.read_bytes())
    content[3] ^= 1
    data.write_bytes(content)
    assert describe_source(path).sha256 != before.sha256
    assert before.format == "ONNX"


@pytest.mark.parametrize("location", ["/etc/hostname", "../net.data", "a/../../net.data", "C:\\net.data",
                                      "..\\net.data", ""])
def test_weights_outside_the_folder_are_refused(tmp_path, location):
    for read in (load, describe_source):
        with pytest.raises(ModelError, match="not in the model's folder"):
            read(external(tmp_path, location=location))


def test_a_link_out_of_the_folder_is_refused(tmp_path):
    (tmp_path / "secret").write_bytes(bytes(64))
    folder = tmp_path / "model"
    folder.mkdir()
    path = external(folder)
    (folder / "net.data").unlink()
    (folder / "net.data").symlink_to(tmp_path / "secret")
    with pytest.raises(ModelError, match="link to a file outside"):
        load(path)


def test_missing_or_short_data_files_are_named(tmp_path):
    with pytest.raises(ModelError, match=r"offset|bytes"):
        load(external(tmp_path, offset="9999999"))
    with pytest.raises(ModelError, match="bytes"):
        load(external(tmp_path, length="100000"))
    with pytest.raises(ModelError, match=r"breaks the ONNX standard|do not fit"):
        load(external(tmp_path, length="8"))
    path = external(tmp_path)
    (tmp_path / "net.data").unlink()
    with pytest.raises(ModelError, match=r"net\.data.*missing"):
        load(path)


def test_damaged_files_are_refused_at_any_length(tmp_path):
    path = mlp(tmp_path / "net.onnx")
    content = path.read_bytes()
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        with pytest.raises(ModelError):
            load(path)
    path.write_bytes(b"this is no protobuf at all")
    with pytest.raises(ModelError, match="no ONNX model"):
        load(path)


def test_other_files_are_refused_with_advice(tmp_path):
    for name, text in (("net.bin", "ONNX"), ("net.pkl", "run any code"), ("net.h5", "no reader"), ("net", "no reader")):
        (tmp_path / name).write_bytes(b"x")
        with pytest.raises(ModelError, match=text):
            load(tmp_path / name)
    (tmp_path / "folder.onnx").mkdir()
    (tmp_path / "empty.onnx").touch()
    for name, text in (("folder.onnx", "is a folder"), ("empty.onnx", "is empty"), ("none.onnx", "does not exist")):
        with pytest.raises(ModelError, match=text):
            load(tmp_path / name)


def test_all_weights_that_are_not_finite_are_listed_at_once(tmp_path):
    bad, worse = W.copy(), W.copy()
    bad[0, 0], worse[1, 1] = np.nan, np.inf
    nodes = [node("Gemm", "x W", "h"), node("Gemm", "h V")]
    with pytest.raises(ModelError, match=r"(?s)W \[4, 4\]: 1 of 16.*V \[4, 4\]: 1 of 16"):
        imported(tmp_path, nodes, {"W": bad, "V": worse})


def test_an_infinite_bound_of_a_clip_is_no_weight(tmp_path):
    graph = imported(tmp_path, [node("Clip", "x a b")], {"a": np.float32(0), "b": np.float32(np.inf)})
    assert np.array_equal(graph.forward(-np.ones((1, 4))), np.zeros((1, 4)))


def test_everything_unsupported_is_listed_at_once(tmp_path):
    nodes = [node("ConvTranspose", "x k", "a", label="first"), node("Sin", "a", "b"),
             node("LpPool", "b", "c", kernel_shape=[1, 1]), node("Cos", "x", "e"), node("Add", "c e")]
    with pytest.raises(UnsupportedModelError, match="not supported yet") as caught:
        imported(tmp_path, nodes, {"k": np.ones((1, 1, 1, 1), np.float32)}, shape=("batch", 1, 4, 4))
    assert len(caught.value.offenders) == 4
    for part in ("'first' (ConvTranspose)", "'b' (Sin)", "'c' (LpPool)", "'e' (Cos)"):
        assert part in str(caught.value)


def test_operators_the_output_does_not_need_do_not_matter(tmp_path):
    graph = imported(tmp_path, [node("Sin", "x", "unused"), node("Relu", "x")])
    assert len(graph.order) == 3


def test_an_attribute_nobody_reads_is_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(onnx_import.OPERATORS, "LeakyRelu", onnx_activations.OPERATORS["Relu"])
    with pytest.raises(UnsupportedModelError, match=r"not understood.*alpha"):
        imported(tmp_path, [node("LeakyRelu", "x", alpha=0.5)])
    with pytest.raises(ModelError, match="secret"):
        imported(tmp_path, [node("Relu", "x", secret=1)])


def test_a_wrong_meaning_is_caught_by_the_comparison(tmp_path, monkeypatch):
    monkeypatch.setitem(onnx_import.OPERATORS, "Tanh", onnx_activations.OPERATORS["Sigmoid"])
    with pytest.raises(MismatchError, match="disagree"):
        imported(tmp_path, [node("Tanh", "x")])


def test_a_difference_that_float32_would_hide_is_caught(tmp_path, monkeypatch):
    monkeypatch.setitem(onnx_import.OPERATORS, "Mul", onnx_import.OPERATORS["Identity"])
    with pytest.raises((MismatchError, UnsupportedModelError)):
        imported(tmp_path, [node("Mul", "x c")], {"c": np.float32(1.00002)})


def test_foreign_operators_and_functions_are_refused(tmp_path):
    nodes = [helper.make_node("Relu", ["x"], ["y"], domain="com.example")]
    path = write(tmp_path / "net.onnx", [node("Relu", "x")])
    model = onnx.load(path)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    onnx.save(model, path)
    with pytest.raises(ModelError, match=r"com\.example"):
        load(path)


@pytest.mark.parametrize(("shape", "text"), [((3, 4), "batch of 3"), (("batch", "width"), "fixed size"),
                                             (("n",), "fixed size"), ((), "axes")])
def test_inputs_of_open_size_or_fixed_batch_are_refused(tmp_path, shape, text):
    with pytest.raises(ModelError, match=text):
        imported(tmp_path, [node("Relu", "x")], shape=shape)


def test_two_inputs_or_outputs_are_named(tmp_path):
    path = write(tmp_path / "net.onnx", [node("Relu", "x", "y"), node("Tanh", "x", "z")], output=["y", "z"])
    with pytest.raises(ModelError, match=r"2 outputs \(y, z\)"):
        load(path)
    path = write(tmp_path / "net.onnx", [node("Add", "x w")], {"w": W[0]}, listed=True)
    load(path)
    model = onnx.load(path)
    del model.graph.initializer[:]
    onnx.save(model, path)
    with pytest.raises(ModelError, match=r"2 inputs \(x, w\)"):
        load(path)


def test_initialisers_listed_as_inputs_are_constants(tmp_path):
    graph = load(mlp(tmp_path / "net.onnx", listed=True, ir=3, opset=8))
    x = np.random.default_rng(1).standard_normal((3, 4))
    np.testing.assert_allclose(graph.forward(x), np.maximum(x @ W, 0) @ W.T + W[0], rtol=1e-6)


@pytest.mark.parametrize("elem", [TensorProto.FLOAT16, TensorProto.BFLOAT16])
def test_half_precision_is_refused(tmp_path, elem):
    with pytest.raises(UnsupportedModelError, match="FLOAT16"):
        imported(tmp_path, [node("Relu", "x")], elem=elem)


def test_half_precision_and_quantised_weights_are_refused(tmp_path):
    nodes = [node("Cast", "W", "V", to=TensorProto.FLOAT), node("MatMul", "x V")]
    with pytest.raises(UnsupportedModelError, match="FLOAT16"):
        imported(tmp_path, nodes, {"W": W.astype(np.float16)})
    nodes = [node("QuantizeLinear", "x s z", "q"), node("DequantizeLinear", "q s z")]
    with pytest.raises(UnsupportedModelError, match="piecewise constant"):
        imported(tmp_path, nodes, {"s": np.float32(0.1), "z": np.int8(0)})


def test_an_output_that_ignores_the_input_is_refused(tmp_path):
    with pytest.raises(ModelError, match="does not depend"):
        imported(tmp_path, [node("Identity", "W")], {"W": W})


def test_onnxruntime_is_optional(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    load(mlp(tmp_path / "net.onnx"))
