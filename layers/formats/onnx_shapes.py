"""ONNX operators that move entries about, and the arithmetic of constants that can be done exactly."""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import onnx

from ..linear import Concatenate
from .onnx_file import READABLE, element_type
from .onnx_values import BATCH, Operation, Refusal, Tensor, Value, indices


def identity(op: Operation) -> Value:
    op.count(1)
    return op.operand(0)


def dropout(op: Operation) -> Value:
    """The identity in evaluation mode, which older operator sets ask for by `is_test`, newer ones by default."""
    op.count(3)
    op.floating("ratio", 0.5)
    if op.opset < 7 and not op.integer("is_test", 0):
        raise Refusal("is_test = 0: it drops entries at random; export the model in evaluation mode")
    if op.opset >= 12:
        op.integer("seed", 0)
        op.constant(1)
        training = op.constant(2)
        if training is not None and bool(training.any()):
            raise Refusal("training_mode is true: it drops entries at random; export the model in evaluation mode")
    return op.operand(0)


def cast(op: Operation) -> Value:
    op.count(1)
    target = op.text("to", "").upper() if op.opset < 6 else op.integer("to")
    code = onnx.TensorProto.DataType.Value(target) if isinstance(target, str) else target
    op.integer("saturate", 1)
    op.text("round_mode", "up")
    x = op.operand(0)
    if code not in READABLE:
        raise Refusal(f"to = {element_type(code)}: a network in this type computes another function")
    if isinstance(x, Tensor):
        if code != x.dtype and (x.dtype, code) != (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE):
            raise Refusal(f"from {element_type(x.dtype)} to {element_type(code)}: it rounds every entry")
        return Tensor(x.node, x.shape, code)
    if x.dtype == object:
        if code != onnx.TensorProto.INT64:
            raise Refusal("a shape with the batch size in it can only stay INT64")
        return x
    with np.errstate(all="ignore"):
        result: np.ndarray = x.astype(READABLE[code])
        back = result.astype(x.dtype)
    if not np.array_equal(back, x):
        raise Refusal(f"constants change when cast to {element_type(code)}")
    return result


def constant(op: Operation) -> Value:
    op.count(0, 0)
    value = op.stored("value")
    if value is not None:
        return value
    if op.has_attribute("value_float"):
        return np.array(op.floating("value_float", 0.0), dtype=np.float32)
    if op.has_attribute("value_floats"):
        return np.array(op.floats("value_floats"), dtype=np.float32)
    for name, read in (("value_int", op.integer), ("value_ints", op.integers)):
        if op.has_attribute(name):
            return np.array(read(name), dtype=np.int64)
    raise Refusal("only `value`, `value_float(s)` and `value_int(s)` can be read")


def constant_of_shape(op: Operation) -> Value:
    op.count(1)
    shape, value = op.whole_numbers(0), op.stored("value")
    fill = np.zeros(1, dtype=np.float32) if value is None else value
    return np.full(shape or (), fill.ravel()[0], dtype=fill.dtype)


def shape(op: Operation) -> Value:
    op.count(1)
    x = op.operand(0)
    sizes: list[Any] = list(x.shape)
    if op.leading(x):
        sizes.insert(0, 1 if op.emitter.batch_is_one else BATCH)
    sizes = sizes[slice(op.integer("start", 0), op.integer("end", None))]
    return np.array(sizes, dtype=object if BATCH in sizes else np.int64)


def flatten(op: Operation) -> Value:
    op.count(1)
    x = op.operand(0)
    rank, axis = op.rank(x), op.integer("axis", 1)
    if not -rank <= axis <= rank:
        raise Refusal(f"axis = {axis} does not exist among {rank} axes")
    axis += rank if axis < 0 else 0
    if not op.leading(x):
        return op.rearrange(x, indices(x).reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:])))
    if axis == 0 or math.prod(x.shape[: axis - 1]) != 1:
        raise Refusal(f"axis = {axis} merges the batch axis with others; only axis = 1 keeps samples apart")
    return op.rearrange(x, indices(x).ravel())


def reshape(op: Operation) -> Value:
    op.count(2)
    x = op.operand(0)
    allowzero = op.integer("allowzero", 0)
    if op.opset < 5:
        target: list[Any] = op.integers("shape", [])
    else:
        sizes = op.constant(1)
        if sizes is None or sizes.ndim != 1 or sizes.dtype.kind not in "iO":
            raise Refusal("the new shape must be a vector of integers")
        target = [size if size is BATCH else int(size) for size in sizes]
    sources: list[Any] = [BATCH, *x.shape] if op.leading(x) else list(x.shape)
    for position, size in enumerate(target):
        if size is not BATCH and size == 0:
            if allowzero or position >= len(sources):
                raise Refusal(f"the shape {target} has an axis without entries")
            target[position] = sources[position]
    if op.leading(x):
        target = _without_batch(op, x, target)
    if BATCH in target:
        raise Refusal(f"the shape {target} moves the batch axis")
    target = [int(size) for size in target]
    size, known = math.prod(x.shape), math.prod(s for s in target if s != -1)
    fits = known > 0 and (size % known == 0 if -1 in target else size == known)
    if min(target, default=1) < -1 or target.count(-1) > 1 or not fits:
        raise Refusal(f"{tuple(x.shape)} has {size} entries per sample and cannot take the shape {target}")
    return op.rearrange(x, indices(x).reshape(target))


def _without_batch(op: Operation, x: Value, target: list[Any]) -> list[Any]:
    """The shape for one sample, given that for a batch."""
    first, rest = (target[0], target[1:]) if target else (None, [])
    if first is BATCH or (first == 1 and op.emitter.batch_is_one):
        return rest
    if first == -1 and BATCH not in rest and -1 not in rest and math.prod(rest) == math.prod(x.shape):
        return rest
    raise Refusal(f"the shape {target} does not keep the batch axis as it is (a sample has shape {tuple(x.shape)})")


def transpose(op: Operation) -> Value:
    op.count(1)
    x = op.operand(0)
    rank = op.rank(x)
    order = op.integers("perm", list(range(rank))[::-1])
    if sorted(order) != list(range(rank)):
        raise Refusal(f"perm = {order} is no permutation of {rank} axes")
    if op.leading(x) and order[0] != 0:
        raise Refusal(f"perm = {order} moves the batch axis")
    skip = op.leading(x)
    return op.rearrange(x, indices(x).transpose([axis - skip for axis in order[skip:]]))


def _axes(op: Operation) -> list[int] | None:
    """The axes of Squeeze and Unsqueeze: an attribute before operator set 13, an input since."""
    op.count(1 if op.opset < 13 else 2)
    return op.integers("axes") if op.opset < 13 else op.whole_numbers(1)


def squeeze(op: Operation) -> Value:
    x, axes = op.operand(0), _axes(op)
    if axes is None:
        if op.leading(x):
            raise Refusal("without axes it would also remove a batch axis of one sample")
        return op.rearrange(x, indices(x).squeeze())
    places = [op.axis(x, axis) for axis in axes]
    if any(x.shape[place] != 1 for place in places):
        raise Refusal(f"axes {axes} are not all of size 1 in {tuple(x.shape)}")
    return op.rearrange(x, indices(x).squeeze(tuple(places)))


def unsqueeze(op: Operation) -> Value:
    x, axes = op.operand(0), _axes(op)
    if axes is None:
        raise Refusal("axes are missing")
    rank = op.rank(x) + len(axes)
    places = [op.axis(x, axis, rank) for axis in axes]
    if len(set(places)) != len(places):
        raise Refusal(f"axes {axes} repeat")
    return op.rearrange(x, np.expand_dims(indices(x), tuple(places)))


def expand(op: Operation) -> Value:
    op.count(2, 2)
    x, sizes = op.operand(0), op.constant(1)
    target: list[Any] = [] if sizes is None else [size if size is BATCH else int(size) for size in sizes]
    if op.leading(x):
        if len(target) > op.rank(x) or (len(target) == op.rank(x) and target[0] is not BATCH and target[0] != 1):
            raise Refusal(f"the shape {target} changes the batch axis")
        target = target[1:] if len(target) == op.rank(x) else target
    if BATCH in target:
        raise Refusal(f"the shape {target} moves the batch axis")
    try:
        full = np.broadcast_shapes(x.shape, tuple(int(size) for size in target))
    except ValueError:
        raise Refusal(f"{tuple(x.shape)} does not broadcast to {target}") from None
    return op.rearrange(x, np.broadcast_to(indices(x), full))


def slicing(op: Operation) -> Value:
    x = op.operand(0)
    if op.opset < 10:
        op.count(1)
        starts, ends, axes, steps = op.integers("starts", []), op.integers("ends", []), op.integers("axes"), None
    else:
        op.count(5, 3)
        starts, ends = op.whole_numbers(1) or [], op.whole_numbers(2) or []
        axes, steps = op.whole_numbers(3), op.whole_numbers(4)
    axes = list(range(len(starts))) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
        raise Refusal(f"starts {starts}, ends {ends}, axes {axes}, steps {steps} do not fit together")
    chosen = [slice(None)] * len(x.shape)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        place = op.axis(x, axis)
        size = x.shape[place]
        # Python reads an end of -1 as "before the last", so an end below -size, "past the first", has to become None.
        stop = None if step < 0 and end < -size else end
        chosen[place] = slice(start, stop, step)
    return op.rearrange(x, indices(x)[tuple(chosen)])


def gather(op: Operation) -> Value:
    op.count(2, 2)
    x, where = op.operand(0), op.constant(1)
    place = op.axis(x, op.integer("axis", 0))
    size = x.shape[place]
    if where is None or where.dtype.kind not in "iu" or np.any((where < -size) | (where >= size)):
        raise Refusal(f"indices must be integers in {-size} .. {size - 1}")
    return op.rearrange(x, np.take(indices(x), where % size, axis=place))


def split(op: Operation) -> list[Value]:
    op.count(2)
    x, parts = op.operand(0), len(op.node.output)
    place = op.axis(x, op.integer("axis", 0))
    sizes = op.integers("split") if op.opset < 13 else op.whole_numbers(1)
    wanted = op.integer("num_outputs", parts)
    size = x.shape[place]
    if sizes is None:
        if op.opset < 18 and size % parts:
            raise Refusal(f"{size} entries do not split into {parts} equal parts")
        each = -(-size // parts)
        sizes = [each] * (parts - 1) + [size - each * (parts - 1)]
    if wanted != parts or len(sizes) != parts or sum(sizes) != size or min(sizes) < 1:
        raise Refusal(f"{size} entries do not split into parts of {sizes} for {parts} outputs")
    pieces = np.split(indices(x), np.cumsum(sizes)[:-1], axis=place)
    return [op.rearrange(x, piece) for piece in pieces]


def concat(op: Operation) -> Value:
    values = [op.operand(position) for position in range(len(op.inputs))]
    axis = op.integer("axis", 1 if op.opset < 4 else None)
    if axis is None:
        raise Refusal("attribute axis is missing")
    arrays = [value for value in values if isinstance(value, np.ndarray)]
    if len(arrays) == len(values):
        return np.concatenate(arrays, axis=axis)
    tensors = [value for value in values if isinstance(value, Tensor)]
    if arrays:
        raise Refusal("it joins activations with constants")
    if len({len(tensor.shape) for tensor in tensors}) != 1:
        raise Refusal(f"shapes {[tensor.shape for tensor in tensors]} differ in the number of axes")
    place = op.axis(tensors[0], axis)
    if len(tensors) == 1:
        return tensors[0]
    return op.emit(Concatenate(place - len(tensors[0].shape)), *tensors)


_EXACT: dict[str, Callable[[Any, Any], Any]] = {
    "Add": lambda a, b: a + b,
    "Sub": lambda a, b: a - b,
    "Mul": lambda a, b: a * b,
    "Div": lambda a, b: a / b,
}


def fold(kind: str, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The sum, difference, product or quotient of constants.

    Floats are combined in rational arithmetic and must come out as float64 numbers, so the result is that of the
    reals; integers must divide without remainder.

    **Raises:** `Refusal` otherwise.
    """
    if left.dtype == object or right.dtype == object:
        raise Refusal("arithmetic with the batch size has no meaning for one sample")
    if left.dtype.kind == "b" or right.dtype.kind == "b" or left.dtype.kind != right.dtype.kind:
        raise Refusal(f"constants of types {left.dtype} and {right.dtype}")
    floats = left.dtype.kind == "f"
    if floats and kind == "Mul" and (exact := exact_product(left, right)) is not None:
        return exact
    if max(left.size, right.size) > 10_000:
        raise Refusal("arithmetic on this many constants is not folded; simplify the model before exporting it")
    number = Fraction if floats else int
    left, right = np.broadcast_arrays(left, right)
    results: list[Any] = []
    for a, b in zip(left.ravel().tolist(), right.ravel().tolist(), strict=True):
        if kind == "Div" and b == 0:
            raise Refusal("a constant is divided by zero")
        exact_value = Fraction(number(a)) / number(b) if kind == "Div" else _EXACT[kind](number(a), number(b))
        value = _nearest(exact_value) if floats else int(exact_value)
        if value != exact_value or (not floats and not -(2**63) <= value < 2**63):
            number_kind = "float64" if floats else "64-bit integer"
            raise Refusal(f"the constant {a!r} {kind} {b!r} is no {number_kind}, so folding would round; if it is part "
                          "of a weight normalisation, remove that before exporting the model")
        results.append(value)
    return np.array(results, dtype=np.float64 if floats else np.int64).reshape(left.shape)


def _nearest(value: Fraction) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf


def exact_product(left: np.ndarray, right: np.ndarray) -> np.ndarray | None:
    """left * right in float64 if no entry is rounded for sure, else None.

    Two 24-bit significands have a product of 48 bits, which float64 holds; and a factor of +-1 changes nothing.
    """
    with np.errstate(over="ignore"):
        single = all(np.array_equal(np.float32(a).astype(np.float64), a.astype(np.float64)) for a in (left, right))
    unit = any(bool(np.all(np.abs(a) == 1)) for a in (left, right))
    return left.astype(np.float64) * right.astype(np.float64) if single or unit else None


OPERATORS: dict[str, Callable[[Operation], Value | list[Value]]] = {
    "Identity": identity,
    "Dropout": dropout,
    "Cast": cast,
    "Constant": constant,
    "ConstantOfShape": constant_of_shape,
    "Shape": shape,
    "Flatten": flatten,
    "Reshape": reshape,
    "Transpose": transpose,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Expand": expand,
    "Slice": slicing,
    "Gather": gather,
    "Split": split,
    "Concat": concat,
}
