"""Activations that exporters write as several operators, recognised by algebra.

The expression that ends at a node is compared, as a polynomial over functions, with one pattern for each activation; a
match is an identity between real functions.
"""

import dataclasses
import math
from fractions import Fraction

import numpy as np
import onnx

from ..activation import Gelu, GeluTanh, HardSwish, Mish, Sigmoid, Silu, Softplus, Softsign, Swish
from ..errors import MismatchError, ModelError
from ..layer import Layer, LinearLayer
from ..linear import Scale
from .onnx_expressions import Atom, Expressions, Monomial, NoMatchError, Polynomial, Reader, X

TRIGGERS = frozenset({"Mul", "Div", "Neg", "Reciprocal"})
"""Operators at which a decomposed activation may end."""


@dataclasses.dataclass(frozen=True)
class Match:
    """The value of a node is `layers`, applied one after the other to the value `root`.

    **Attributes:** `most_axes`: the largest number of axes among the constants of the expression, which must not
    exceed that of the root, or else the result has more axes than the root.
    """

    root: str
    layers: tuple[Layer, ...]
    most_axes: int


def find_match(expressions: Expressions, node: onnx.NodeProto) -> Match | None:
    """The activation that ends at this node, if it is one.

    **Raises:** `MismatchError` if the algebra and a numerical comparison disagree.
    """
    if node.op_type not in TRIGGERS:
        return None
    factors = [name for name in node.input if name not in expressions.constants]
    if len(factors) == 1 and expressions.uses.get(factors[0], 0) > 1:
        # A multiple of a value that others use too: that value gets its own layer, which they share.
        return None
    best: Match | None = None
    for root in expressions.candidates(node):
        reader = Reader(expressions, root)
        try:
            layers = recognise(reader.polynomial(node.output[0]))
        except NoMatchError:
            continue
        if layers is not None and (best is None or len(layers) < len(best.layers)):
            best = Match(root, layers, reader.most_axes)
    if best:
        _compare(expressions, node, best)
    return best


def _compare(expressions: Expressions, node: onnx.NodeProto, match: Match) -> None:
    grid = np.concatenate([np.linspace(-12, 12, 193), np.array([-1e-3, 1e-3, -80.0, 80.0])])
    with np.errstate(all="ignore"):
        expected = expressions.evaluate(node.output[0], match.root, grid)
    value = grid[:, None]
    for layer in match.layers:
        value = layer.forward(value)
    error = np.max(np.abs(value[:, 0] - expected) / (1 + np.abs(expected)))
    if not error <= 1e-12:
        read = " then ".join(layer.describe() for layer in match.layers)
        raise MismatchError(f"The operators that end at {node.output[0]!r} were read as {read}, but differ by "
                            f"{error:.2g}. This is a fault of the importer; please report the model.")


def recognise(polynomial: Polynomial) -> tuple[Layer, ...] | None:
    """Layers whose composition is the polynomial in x, or None if it is no known activation.

    A constant that no float64 holds is a None as well: the nearest activation would be another function.
    """
    for pattern in (_sigmoid, _softplus, _silu, _mish, _softsign, _gelu, _gelu_tanh, _hard_swish):
        try:
            found = pattern(polynomial)
        except (NoMatchError, ModelError):
            continue
        if found is not None:
            return tuple(layer for layer in found if not isinstance(layer, LinearLayer) or not layer.keeps_order())
    return None


def _only(polynomial: Polynomial) -> tuple[Monomial, Fraction]:
    if len(polynomial) != 1:
        raise NoMatchError
    return next(iter(polynomial.items()))


def _function_of(monomial: Monomial, function: str, *, times_x: bool) -> Atom:
    """The function in function(..), or with `times_x` in x * function(..)."""
    rest = [atom for atom in monomial if atom != X]
    if len(rest) != 1 or rest[0][0] != function or len(monomial) != (2 if times_x else 1):
        raise NoMatchError
    return rest[0]


def _argument(atom: Atom, *monomials: Monomial) -> list[Fraction]:
    """The coefficients of the given monomials, when the atom's argument has no others."""
    polynomial = dict(atom[1])
    if set(polynomial) != set(monomials):
        raise NoMatchError
    return [polynomial[monomial] for monomial in monomials]


def _float(value: Fraction) -> float:
    """The float64 equal to the fraction."""
    try:
        result = float(value)
    except OverflowError:
        raise NoMatchError from None
    if Fraction(result) != value or not math.isfinite(result):
        raise NoMatchError
    return result


def _scale(factor: Fraction) -> Scale:
    return Scale(multiplier=_float(Fraction(factor.numerator)), divisor=_float(Fraction(factor.denominator)))


def _sigmoid(polynomial: Polynomial) -> tuple[Layer, ...]:
    monomial, factor = _only(polynomial)
    slope, = _argument(_function_of(monomial, "sigmoid", times_x=False), (X,))
    return _scale(slope), Sigmoid(), _scale(factor)


def _softplus(polynomial: Polynomial) -> tuple[Layer, ...]:
    monomial, factor = _only(polynomial)
    b, = _argument(_function_of(monomial, "softplus", times_x=False), (X,))
    return Softplus(_float(b)), _scale(factor * b)


def _silu(polynomial: Polynomial) -> tuple[Layer, ...]:
    monomial, factor = _only(polynomial)
    b, = _argument(_function_of(monomial, "sigmoid", times_x=True), (X,))
    return Silu() if b == 1 else Swish(_float(b)), _scale(factor)


def _mish(polynomial: Polynomial) -> tuple[Layer, ...]:
    monomial, factor = _only(polynomial)
    inner = ("softplus", (((X,), Fraction(1)),))
    one, = _argument(_function_of(monomial, "tanh", times_x=True), (inner,))
    if one != 1:
        raise NoMatchError
    return Mish(), _scale(factor)


def _softsign(polynomial: Polynomial) -> tuple[Layer, ...]:
    monomial, factor = _only(polynomial)
    size = ("abs", (((X,), Fraction(1)),))
    constant, slope = _argument(_function_of(monomial, "reciprocal", times_x=True), (), (size,))
    # f x / (c + s |x|) = (f / s) y / (1 + |y|) for y = s x / c.
    if constant <= 0 or slope <= 0:
        raise NoMatchError
    return _scale(slope / constant), Softsign(), _scale(factor / slope)


def _half_and_half(polynomial: Polynomial, function: str) -> tuple[Atom, Fraction]:
    """The function and f in f x (1 + function(..))."""
    if len(polynomial) != 2 or (X,) not in polynomial:
        raise NoMatchError
    (monomial, factor), = ((m, f) for m, f in polynomial.items() if m != (X,))
    if factor != polynomial[(X,)]:
        raise NoMatchError
    return _function_of(monomial, function, times_x=True), factor


def _gelu(polynomial: Polynomial) -> tuple[Layer, ...]:
    atom, factor = _half_and_half(polynomial, "erf")
    c, = _argument(atom, (X,))
    if c <= 0:
        raise NoMatchError
    try:
        return Gelu(_float(c)), _scale(2 * factor)
    except NoMatchError:
        # x / 1.41421354 and the like: x (1 + erf(c x)) / 2 = gelu_1(c x) / c, where gelu_1 has c = 1.
        return _scale(c), Gelu(1.0), _scale(2 * factor / c)


def _gelu_tanh(polynomial: Polynomial) -> tuple[Layer, ...]:
    atom, factor = _half_and_half(polynomial, "tanh")
    k, cubic = _argument(atom, (X,), (X, X, X))
    return GeluTanh(_float(k), _float(cubic / k)), _scale(2 * factor)


def _hard_swish(polynomial: Polynomial) -> tuple[Layer, ...]:
    monomial, factor = _only(polynomial)
    atom = _function_of(monomial, "clip", times_x=True)
    slope, middle = _argument(atom, (X,), ())
    low, high = atom[2:]
    if low != 0 or slope <= 0 or middle * 2 != high or high <= 0:
        raise NoMatchError
    # x clip(s x + h/2, 0, h) = (h / t) hardswish(t x) for t = 6 s / h.
    stretch = 6 * slope / high
    return _scale(stretch), HardSwish(), _scale(factor * high / stretch)
