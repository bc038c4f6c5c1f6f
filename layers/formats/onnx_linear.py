"""ONNX operators that are affine in the activations."""

from collections.abc import Callable

import numpy as np

from ..layer import Layer
from ..linear import Add, Affine, BatchNormalization, Scale
from .onnx_file import element_type
from .onnx_shapes import exact_product, fold
from .onnx_values import Operation, Refusal, Tensor, Value, indices


def per_sample(op: Operation, x: Tensor, values: np.ndarray) -> np.ndarray:
    """A constant that meets x in an elementwise operator, without the axis that would meet the batch.

    **Raises:** `Refusal` if the constant has one value per sample, or adds axes in front of the batch axis.
    """
    if values.dtype.kind != "f":
        raise Refusal(f"a constant of type {values.dtype} meets an activation of type {element_type(x.dtype)}")
    if not op.leading(x) or values.ndim <= len(x.shape):
        return values
    if values.ndim > op.rank(x) or values.shape[0] != 1:
        raise Refusal(f"a constant of shape {values.shape} does not broadcast to a batch of samples of shape {x.shape} "
                      "and leave the batch axis alone")
    return values.reshape(values.shape[1:])


def stretch(op: Operation, x: Tensor, *others: tuple[int, ...]) -> Tensor:
    """x broadcast against other shapes, as numpy does."""
    try:
        full = np.broadcast_shapes(x.shape, *others)
    except ValueError:
        raise Refusal(f"shapes {x.shape} and {', '.join(map(str, others))} do not broadcast") from None
    result = op.rearrange(x, np.broadcast_to(indices(x), full))
    assert isinstance(result, Tensor)
    return result


def _legacy_broadcast(op: Operation) -> None:
    """Before operator set 7 broadcasting was asked for, and `axis` could align the second input elsewhere."""
    if op.opset >= 7:
        return
    asked = op.integer("broadcast", 0)
    left, right = op.operand(0), op.operand(1)
    same = left.shape == right.shape and op.leading(left) == op.leading(right)
    axis = op.integer("axis", None)
    if not asked and not same:
        raise Refusal(f"broadcast = 0 in operator set {op.opset} for shapes that differ")
    if asked and axis is not None and axis % op.rank(left) != op.rank(left) - op.rank(right):
        raise Refusal(f"axis = {axis} aligns the second input neither with the last axes nor in full")


def shifted(op: Operation, x: Tensor, shift: np.ndarray, sign: int) -> Tensor:
    """x + sign * shift; added to a matrix product that nobody else uses, the shift becomes the bias of that product."""
    shift = sign * per_sample(op, x, shift)
    x = stretch(op, x, shift.shape)
    affine = None if op.input_is_shared else op.emitter.bare_affine(x)
    if affine is not None:
        layer, source = affine
        return op.emit(Affine(layer.weight, shift, layer.axis), source)
    return op.emit(Scale(shift=shift), x)


def scaled(
    op: Operation, x: Tensor, *, multiplier: np.ndarray | float = 1.0, divisor: np.ndarray | float = 1.0
) -> Tensor:
    """x * multiplier / divisor."""
    multiplier = per_sample(op, x, np.asarray(multiplier))
    divisor = per_sample(op, x, np.asarray(divisor))
    if np.all(multiplier == 1) and np.all(divisor == 1):
        return stretch(op, x, multiplier.shape, divisor.shape)
    if np.any(divisor == 0):
        raise Refusal("it divides by zero")
    return op.emit(Scale(multiplier=multiplier, divisor=divisor), stretch(op, x, multiplier.shape, divisor.shape))


def total(op: Operation, terms: list[Tensor], signs: list[int]) -> Tensor:
    """The signed sum of activations, broadcast as numpy does."""
    if len({len(term.shape) for term in terms}) != 1 and op.emitter.batched:
        raise Refusal(f"shapes {[term.shape for term in terms]} (of one sample) would broadcast across the batch axis")
    terms = [stretch(op, term, *(other.shape for other in terms)) for term in terms]
    if len(terms) == 2 and terms[0] == terms[1]:
        if signs[0] != signs[1]:
            raise Refusal("it subtracts an activation from itself")
        # Twice the same node: one edge of a simple graph, so said as a factor.
        return op.emit(Scale(multiplier=2.0 * signs[0]), terms[0])
    return op.emit(Add(tuple(signs)), *terms)


def add(op: Operation) -> Value:
    return _sum_of_two(op, 1)


def subtract(op: Operation) -> Value:
    return _sum_of_two(op, -1)


def _sum_of_two(op: Operation, sign: int) -> Value:
    op.count(2, 2)
    _legacy_broadcast(op)
    left, right = op.operand(0), op.operand(1)
    if isinstance(left, Tensor):
        if isinstance(right, Tensor):
            return total(op, [left, right], [1, sign])
        return shifted(op, left, right, sign)
    if isinstance(right, Tensor):
        if sign == 1:
            return shifted(op, right, left, 1)
        left = per_sample(op, right, left)
        return op.emit(Scale(multiplier=-1.0, shift=left), stretch(op, right, left.shape))
    return fold(op.kind, left, right)


def sum_of_all(op: Operation) -> Value:
    values = [op.operand(position) for position in range(len(op.inputs))]
    tensors = [value for value in values if isinstance(value, Tensor)]
    arrays = [value for value in values if isinstance(value, np.ndarray)]
    if not tensors:
        raise Refusal("a sum of constants")
    result = tensors[0]
    if len({tensor.node for tensor in tensors}) == len(tensors) > 2:
        result = total(op, tensors, [1] * len(tensors))
    else:
        for tensor in tensors[1:]:
            result = total(op, [result, tensor], [1, 1])
    for array in arrays:
        shift = per_sample(op, result, array)
        result = op.emit(Scale(shift=shift), stretch(op, result, shift.shape))
    return result


def multiply(op: Operation) -> Value:
    op.count(2, 2)
    _legacy_broadcast(op)
    left, right = op.operand(0), op.operand(1)
    if isinstance(left, Tensor) and isinstance(right, Tensor):
        raise Refusal("a product of two activations, which matches no decomposed activation this importer knows "
                      "(SiLU, Swish, Mish, GELU, HardSwish, Softsign, with constants a float64 can express)")
    if isinstance(left, Tensor):
        return scaled(op, left, multiplier=np.asarray(right))
    if isinstance(right, Tensor):
        return scaled(op, right, multiplier=left)
    return fold("Mul", left, right)


def divide(op: Operation) -> Value:
    op.count(2, 2)
    _legacy_broadcast(op)
    left, right = op.operand(0), op.operand(1)
    if isinstance(right, Tensor):
        raise Refusal("it divides by an activation, and matches no decomposed activation this importer knows")
    return scaled(op, left, divisor=right) if isinstance(left, Tensor) else fold("Div", left, right)


def negate(op: Operation) -> Value:
    op.count(1)
    x = op.operand(0)
    if isinstance(x, Tensor):
        return op.emit(Scale(multiplier=-1.0), x)
    if x.dtype.kind not in "if":
        raise Refusal(f"of a constant of type {x.dtype}")
    return -x


def _matrix(values: np.ndarray) -> np.ndarray:
    """A constant factor of a matrix product; axes of size 1 in front only broadcast."""
    if values.dtype.kind != "f":
        raise Refusal(f"the constant factor has type {values.dtype}")
    if values.ndim > 2 and any(size != 1 for size in values.shape[:-2]):
        raise Refusal(f"the constant factor has shape {values.shape}: a stack of matrices")
    return values.reshape(values.shape[-2:]) if values.ndim > 2 else values


def matmul(op: Operation) -> Value:
    """x W or W x, whichever factor is constant; a vector of weights loses its axis in the result."""
    op.count(2, 2)
    left, right = op.operand(0), op.operand(1)
    if isinstance(left, Tensor) and isinstance(right, Tensor):
        raise Refusal("a product of two activations")
    x, weight = (left, right) if isinstance(left, Tensor) else (right, left)
    if not isinstance(x, Tensor) or not isinstance(weight, np.ndarray):
        raise Refusal("both factors are constants, and folding their product would round. If it is part of a spectral "
                      "or weight normalisation, remove that before exporting (torch: remove_parametrizations)")
    if weight.ndim == 0 or weight.ndim > max(op.rank(x), 2):
        raise Refusal(f"a constant factor of shape {weight.shape} adds axes to an activation with {op.rank(x)}")
    matrix = _matrix(weight)
    if x is left:
        axis, layer = -1, Affine(matrix.T if matrix.ndim == 2 else matrix[None, :], axis=-1)
    else:
        axis = -1 if op.rank(x) == 1 else -2
        layer = Affine(np.atleast_2d(matrix), axis=axis)
    if len(x.shape) < -axis:
        raise Refusal("it contracts the batch axis, so it mixes samples")
    if matrix.ndim == 2:
        return op.emit(layer, x)
    result = op.emit(layer, x)
    return op.rearrange(result, indices(result).squeeze(axis))


def gemm(op: Operation) -> Value:
    """alpha A' B' + beta C, with A' = A or its transpose, and so B'."""
    op.count(3, 2)
    alpha, beta = op.floating("alpha", 1.0), op.floating("beta", 1.0)
    transposed_a, transposed_b = bool(op.integer("transA", 0)), bool(op.integer("transB", 0))
    if op.opset < 7:
        op.integer("broadcast", 0)
    a, b, c = op.operand(0), op.operand(1), op.optional(2)
    if isinstance(a, Tensor) == isinstance(b, Tensor):
        raise Refusal("a product of two activations" if isinstance(a, Tensor) else "a product of two constants")
    if op.rank(a) != 2 or op.rank(b) != 2:
        raise Refusal(f"its factors must be matrices, but have {op.rank(a)} and {op.rank(b)} axes")
    left, right = (_oriented(op, a, transposed_a), _oriented(op, b, transposed_b))
    x, weight, axis = (left, right, -1) if isinstance(left, Tensor) else (right, left, -2)
    assert isinstance(x, Tensor)
    assert isinstance(weight, np.ndarray)
    if len(x.shape) < -axis:
        raise Refusal("it contracts the batch axis, so it mixes samples")
    matrix = _matrix(weight).T if axis == -1 else _matrix(weight)
    folded = exact_product(matrix, np.asarray(alpha))
    bias = _gemm_bias(op, x, c, beta, rows=matrix.shape[0], axis=axis) if isinstance(c, np.ndarray) and beta else None
    if folded is not None:
        result = op.emit(Affine(folded, bias, axis), x)
    else:
        result = op.emit(Affine(matrix, axis=axis), x)
        result = op.emit(Scale(multiplier=alpha, shift=bias), result)
    if isinstance(c, Tensor) and beta:
        if len(c.shape) != len(result.shape) or np.broadcast_shapes(c.shape, result.shape) != result.shape:
            raise Refusal(f"C of shape {c.shape} (of one sample) does not broadcast to the product's {result.shape}")
        result = total(op, [result, scaled(op, c, multiplier=beta)], [1, 1])
    return result


def _oriented(op: Operation, factor: Value, transposed: bool) -> Value:
    if not transposed:
        return factor
    if op.leading(factor):
        raise Refusal("it transposes an activation, which moves the batch axis")
    return op.rearrange(factor, indices(factor).T)


def _gemm_bias(op: Operation, x: Tensor, c: np.ndarray, beta: float, *, rows: int, axis: int) -> np.ndarray:
    c = per_sample(op, x, c)
    shape = list(x.shape)
    shape[axis] = rows
    bias = exact_product(c, np.asarray(beta))
    if bias is None:
        raise Refusal(f"beta = {beta!r} times C is no float64 number; scale C before exporting")
    if bias.ndim > len(shape) or np.broadcast_shapes(tuple(shape), bias.shape) != tuple(shape):
        raise Refusal(f"C of shape {c.shape} does not broadcast to the product's {tuple(shape)} (of one sample)")
    return bias


def batch_normalization(op: Operation) -> Value:
    op.count(5, 5)
    epsilon = op.floating("epsilon", 1e-5)
    op.floating("momentum", 0.9)
    if op.opset < 7 and not op.integer("is_test", 0):
        raise Refusal("is_test = 0: it uses the statistics of the batch; export the model in evaluation mode")
    if op.opset < 9 and not op.integer("spatial", 1):
        raise Refusal("spatial = 0: statistics for every entry")
    if op.opset >= 14 and op.integer("training_mode", 0):
        raise Refusal("training_mode = 1: it uses the statistics of the batch; export the model in evaluation mode")
    if any(op.node.output[1:]):
        raise Refusal("it returns running statistics, as in training; export the model in evaluation mode")
    x = op.activation()
    trailing = op.rank(x) - 2
    if trailing < 0:
        raise Refusal("its input has no channel axis")
    arrays = [op.constant(position) for position in range(1, 5)]
    gamma, beta, mean, variance = (np.asarray(array) for array in arrays)
    channels = x.shape[1 - op.leading(x)]
    if gamma.shape != (channels,):
        raise Refusal(f"its scale has shape {gamma.shape} for {channels} channels")
    layer: Layer = BatchNormalization(gamma, beta, mean, variance, epsilon, trailing)
    return op.emit(layer, x)


OPERATORS: dict[str, Callable[[Operation], Value | list[Value]]] = {
    "Add": add,
    "Sub": subtract,
    "Sum": sum_of_all,
    "Mul": multiply,
    "Div": divide,
    "Neg": negate,
    "MatMul": matmul,
    "Gemm": gemm,
    "BatchNormalization": batch_normalization,
}
