"""Reading an ONNX file: external data, the standard's own checker, and constants as arrays."""

import hashlib
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from ..errors import ModelError

READABLE = {
    onnx.TensorProto.FLOAT: np.float32,
    onnx.TensorProto.DOUBLE: np.float64,
    onnx.TensorProto.INT32: np.int32,
    onnx.TensorProto.INT64: np.int64,
    onnx.TensorProto.BOOL: np.bool_,
}
"""Element types whose values float64 or int64 hold exactly and whose networks compute what the reals do, rounded."""


def element_type(code: int) -> str:
    """The standard's name of an element type: FLOAT16, INT8, ..."""
    try:
        return str(onnx.TensorProto.DataType.Name(code))
    except ValueError:
        return f"element type {code}"


def read_onnx(path: Path) -> onnx.ModelProto:
    """The model with its external data in memory, accepted by `onnx.checker`.

    **Raises:** `ModelError` for a file that is damaged, incomplete, reaches outside its folder, breaks the standard,
    or holds NaN or infinite weights.
    """
    model = onnx.ModelProto()
    try:
        model.ParseFromString(path.read_bytes())
    except DecodeError as error:
        raise ModelError(f"{path} is no ONNX model, or it is cut short: {error}.") from None
    if not model.HasField("graph") or not model.opset_import:
        raise ModelError(f"{path} is no ONNX model: it holds no graph, or no operator set version.")
    for tensor in _tensors(model.graph):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            _load_external(tensor, path)
    _refuse_duplicates(model.graph, path)
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, ValueError) as error:
        raise ModelError(f"{path} breaks the ONNX standard: {error}") from None
    _refuse_non_finite(model.graph, path)
    return model


def external_files(path: Path) -> list[Path]:
    """The files beside the model that hold its weights, sorted; every one exists inside the model's folder.

    **Raises:** `ModelError` as `read_onnx`.
    """
    model = onnx.ModelProto()
    try:
        model.ParseFromString(path.read_bytes())
    except DecodeError as error:
        raise ModelError(f"{path} is no ONNX model, or it is cut short: {error}.") from None
    return sorted({_external_path(t, path) for t in _tensors(model.graph) if t.data_location == t.EXTERNAL})


def array_of(tensor: onnx.TensorProto) -> np.ndarray:
    """The values of a tensor whose element type is in `READABLE`.

    **Raises:** `ModelError` if its length does not fit its shape.
    """
    try:
        array: np.ndarray = onnx.numpy_helper.to_array(tensor)
    except (ValueError, TypeError) as error:
        raise ModelError(f"The values of tensor {tensor.name!r} do not fit its shape {list(tensor.dims)}: "
                         f"{error}.") from None
    return array


def _tensors(graph: onnx.GraphProto) -> list[onnx.TensorProto]:
    """Every tensor stored in the graph: initialisers and the values of attributes."""
    attributes = [attribute for node in graph.node for attribute in node.attribute]
    single = [attribute.t for attribute in attributes if attribute.type == attribute.TENSOR]
    return [*graph.initializer, *single, *(tensor for attribute in attributes for tensor in attribute.tensors)]


def _external_path(tensor: onnx.TensorProto, model: Path) -> Path:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    parts = {PurePosixPath(location), PureWindowsPath(location)}
    if not location or any(part.is_absolute() or part.drive or ".." in part.parts for part in parts):
        raise ModelError(f"{model}: the values of {tensor.name!r} are said to be in {location!r}, which is not in the "
                         "model's folder. A model may only name files beside it.")
    folder = model.resolve().parent
    target: Path = (folder / location).resolve()
    if not target.is_relative_to(folder):
        raise ModelError(f"{model}: {location!r}, which holds {tensor.name!r}, is a link to a file outside the model's "
                         "folder.")
    if not target.is_file():
        raise ModelError(f"{model}: the file {location!r} with the values of {tensor.name!r} is missing. It was "
                         f"written together with the model and must lie in {folder}.")
    return target


def _load_external(tensor: onnx.TensorProto, model: Path) -> None:
    target = _external_path(tensor, model)
    entries = {entry.key: entry.value for entry in tensor.external_data}
    known = {"location", "offset", "length", "checksum", "basepath"}
    if unknown := set(entries) - known:
        raise ModelError(f"{model}: the external data of {tensor.name!r} has unknown entries {sorted(unknown)}.")
    size = target.stat().st_size
    try:
        offset = int(entries.get("offset", 0))
        length = int(entries["length"]) if "length" in entries else size - offset
    except ValueError:
        raise ModelError(f"{model}: offset or length of {tensor.name!r} in {target.name!r} is no integer.") from None
    if offset < 0 or length < 0 or offset + length > size:
        raise ModelError(f"{model}: {tensor.name!r} should fill bytes {offset} to {offset + length} of "
                         f"{target.name!r}, but that file has {size} bytes. Is it cut short, or from another export?")
    with target.open("rb") as stream:
        stream.seek(offset)
        values = stream.read(length)
    if "checksum" in entries and hashlib.sha1(target.read_bytes()).hexdigest() != entries["checksum"].lower():
        raise ModelError(f"{model}: {target.name!r} does not have the SHA-1 the model states for it.")
    tensor.raw_data = values
    tensor.data_location = onnx.TensorProto.DEFAULT
    del tensor.external_data[:]


def _refuse_duplicates(graph: onnx.GraphProto, path: Path) -> None:
    names = [tensor.name for tensor in graph.initializer]
    if twice := sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []:
        raise ModelError(f"{path}: these initialisers occur twice: {', '.join(twice)}.")


def _refuse_non_finite(graph: onnx.GraphProto, path: Path) -> None:
    """Weights must be finite; an infinite bound of a Clip says that there is none, and may stay."""
    bounds, others = set[str](), set[str]()
    for node in graph.node:
        for position, name in enumerate(node.input):
            (bounds if node.op_type == "Clip" and position else others).add(name)
    bad = []
    stored = [(tensor.name, tensor) for tensor in graph.initializer]
    stored += [(node.output[0], a.t) for node in graph.node if node.op_type == "Constant" for a in node.attribute
               if a.type == a.TENSOR]
    for name, tensor in stored:
        if tensor.data_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE):
            values = array_of(tensor)
            free = name in bounds and name not in others
            wrong = int(np.count_nonzero(np.isnan(values) if free else ~np.isfinite(values)))
            if wrong:
                bad.append(f"{name} {list(values.shape)}: {wrong} of {values.size} entries")
    if bad:
        raise ModelError(f"{path} holds NaN or infinite values; a bound needs finite weights. Was the training "
                         "divergent, or the file damaged?\n  - " + "\n  - ".join(bad))
