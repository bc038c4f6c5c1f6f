"""Activations that exporters write as several operators, recognised by algebra.

An elementwise expression in one value x is expanded into a polynomial over atoms: x itself, and functions such as
sigmoid or erf of such polynomials, with rational coefficients. Every arrangement of the same formula has the same
polynomial, so one pattern per activation suffices, and a match is an identity between real functions.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

import numpy as np
import onnx
import scipy.special

from ..activation import Gelu, GeluTanh, HardSwish, Mish, Sigmoid, Silu, Softplus, Softsign, Swish
from ..errors import MismatchError, ModelError
from ..layer import Layer, LinearLayer
from ..linear import Scale

Atom = tuple[Any, ...]
Monomial = tuple[Atom, ...]
Polynomial = dict[Monomial, Fraction]

X: Atom = ("x",)
MOST_NODES = 40
MOST_TERMS = 12
TRIGGERS = frozenset({"Mul", "Div", "Neg", "Reciprocal"})
"""Operators at which a decomposed activation may end."""


class _NoMatchError(Exception):
    """The expression is not of the kind that can be expanded."""


@dataclasses.dataclass(frozen=True)
class Match:
    """The value of a node is `layers`, applied one after the other to the value `root`.

    **Attributes:** `most_axes`: the largest number of axes among the constants of the expression, which must not
    exceed that of the root, or else the result has more axes than the root.
    """

    root: str
    layers: tuple[Layer, ...]
    most_axes: int


@dataclasses.dataclass(frozen=True)
class Expressions:
    """The file's nodes and constants, as far as formulas need them.

    **Attributes:** `producers`: the node that makes each value; `constants`: the values known beforehand; `uses`: how
    often each value is used.
    """

    producers: Mapping[str, onnx.NodeProto]
    constants: Mapping[str, np.ndarray]
    uses: Mapping[str, int]
    opset: int

    def match(self, node: onnx.NodeProto) -> Match | None:
        """The activation that ends at this node, if it is one.

        **Raises:** `MismatchError` if the algebra and a numerical comparison disagree.
        """
        if node.op_type not in TRIGGERS:
            return None
        factors = [name for name in node.input if name not in self.constants]
        if len(factors) == 1 and self.uses.get(factors[0], 0) > 1:
            # A multiple of a value that others use too: that value gets its own layer, which they share.
            return None
        best: Match | None = None
        for root in self._candidates(node):
            reader = _Reader(self, root)
            try:
                layers = recognise(reader.polynomial(node.output[0]))
            except _NoMatchError:
                continue
            if layers is not None and (best is None or len(layers) < len(best.layers)):
                best = Match(root, layers, reader.most_axes)
        if best:
            self._compare(node, best)
        return best

    def _candidates(self, node: onnx.NodeProto) -> list[str]:
        """Values the node depends on through elementwise operators, nearest first."""
        found: list[str] = []
        queue = [node]
        while queue and len(found) < MOST_NODES:
            current = queue.pop(0)
            for name in current.input:
                if name and name not in self.constants and name not in found:
                    found.append(name)
                    producer = self.producers.get(name)
                    if producer is not None and producer.op_type in _EXPANSIONS:
                        queue.append(producer)
        return found

    def _compare(self, node: onnx.NodeProto, match: Match) -> None:
        grid = np.concatenate([np.linspace(-12, 12, 193), np.array([-1e-3, 1e-3, -80.0, 80.0])])
        with np.errstate(all="ignore"):
            expected = self._evaluate(node.output[0], match.root, grid)
        value = grid[:, None]
        for layer in match.layers:
            value = layer.forward(value)
        error = np.max(np.abs(value[:, 0] - expected) / (1 + np.abs(expected)))
        if not error <= 1e-12:
            read = " then ".join(layer.describe() for layer in match.layers)
            raise MismatchError(f"The operators that end at {node.output[0]!r} were read as {read}, but differ by "
                                f"{error:.2g}. This is a fault of the importer; please report the model.")

    def _evaluate(self, name: str, root: str, x: np.ndarray) -> np.ndarray:
        """The expression in float64, straight from the operators."""
        if name == root:
            return x
        if name in self.constants:
            return np.full(x.shape, float(self.constants[name].ravel()[0]))
        node = self.producers[name]
        values = [self._evaluate(i, root, x) if i else None for i in node.input]
        numbers = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        result: np.ndarray = _NUMERIC[node.op_type](values, numbers)
        return result


class _Reader:
    """Expands values into polynomials over one root."""

    def __init__(self, expressions: Expressions, root: str) -> None:
        self.expressions = expressions
        self.root = root
        self.most_axes = 0
        self._known: dict[str, Polynomial] = {root: {(X,): Fraction(1)}}

    def polynomial(self, name: str) -> Polynomial:
        if name not in self._known:
            if len(self._known) > MOST_NODES:
                raise _NoMatchError
            self._known[name] = self._expand(name)
        return self._known[name]

    def number(self, name: str) -> Fraction:
        values = self.expressions.constants.get(name)
        if values is None or values.size != 1 or values.dtype.kind != "f" or not np.isfinite(values).all():
            raise _NoMatchError
        self.most_axes = max(self.most_axes, values.ndim)
        return Fraction(float(values.ravel()[0]))

    def _expand(self, name: str) -> Polynomial:
        if name in self.expressions.constants:
            return {(): self.number(name)}
        node = self.expressions.producers.get(name)
        if node is None or node.domain not in ("", "ai.onnx") or node.op_type not in _EXPANSIONS:
            raise _NoMatchError
        expand, attributes = _EXPANSIONS[node.op_type]
        if self.expressions.opset < 7:
            # How a second input is aligned; here it has one entry or the shape of the first.
            attributes |= {"broadcast", "axis"}
        if {a.name for a in node.attribute} - attributes or any(a.ref_attr_name for a in node.attribute):
            raise _NoMatchError
        return expand(self, node)


def _add(left: Polynomial, right: Polynomial, factor: int = 1) -> Polynomial:
    result = dict(left)
    for monomial, value in right.items():
        result[monomial] = result.get(monomial, Fraction(0)) + factor * value
    return {monomial: value for monomial, value in result.items() if value}


def _multiply(left: Polynomial, right: Polynomial) -> Polynomial:
    result: Polynomial = {}
    for a, p in left.items():
        for b, q in right.items():
            monomial = tuple(sorted(a + b, key=repr))
            result[monomial] = result.get(monomial, Fraction(0)) + p * q
    if len(result) > MOST_TERMS or any(len(monomial) > 8 for monomial in result):
        raise _NoMatchError
    return {monomial: value for monomial, value in result.items() if value}


def _frozen(polynomial: Polynomial) -> tuple[tuple[Monomial, Fraction], ...]:
    return tuple(sorted(polynomial.items(), key=repr))


def _apply(function: str, argument: Polynomial, *parameters: Fraction | float) -> Polynomial:
    return {((function, _frozen(argument), *parameters),): Fraction(1)}


def _reciprocal(argument: Polynomial) -> Polynomial:
    """1 / argument; 1 / (1 + exp(t)) is the sigmoid of -t."""
    if set(argument) == {()}:
        return {(): 1 / argument[()]}
    if len(argument) == 2 and argument.get(()) == 1:
        (monomial, factor), = ((m, f) for m, f in argument.items() if m)
        if factor == 1 and len(monomial) == 1 and monomial[0][0] == "exp":
            return _apply("sigmoid", {m: -f for m, f in monomial[0][1]})
    return _apply("reciprocal", argument)


def _power(reader: _Reader, node: onnx.NodeProto) -> Polynomial:
    values = reader.expressions.constants.get(node.input[1])
    if values is None or values.size != 1 or values.dtype.kind not in "if":
        raise _NoMatchError
    reader.most_axes = max(reader.most_axes, values.ndim)
    exponent = values.ravel()[0]
    if exponent not in (1, 2, 3):
        raise _NoMatchError
    base = result = reader.polynomial(node.input[0])
    for _ in range(int(exponent) - 1):
        result = _multiply(result, base)
    return result


def _clip(reader: _Reader, node: onnx.NodeProto) -> Polynomial:
    if reader.expressions.opset < 11:
        attributes = {a.name: Fraction(a.f) for a in node.attribute}
        if set(attributes) != {"min", "max"}:
            raise _NoMatchError
        low, high = attributes["min"], attributes["max"]
    else:
        if len(node.input) != 3 or not all(node.input):
            raise _NoMatchError
        # A bound is a scalar that does not take part in broadcasting.
        axes = reader.most_axes
        low, high = reader.number(node.input[1]), reader.number(node.input[2])
        reader.most_axes = axes
    return _apply("clip", reader.polynomial(node.input[0]), low, high)


def _hard_sigmoid(reader: _Reader, node: onnx.NodeProto) -> Polynomial:
    attributes = {a.name: Fraction(a.f) for a in node.attribute}
    a, b = (attributes.get(key, Fraction(float(np.float32(value)))) for key, value in (("alpha", 0.2), ("beta", 0.5)))
    line = _add(_multiply(reader.polynomial(node.input[0]), {(): a}), {(): b})
    return _apply("clip", line, Fraction(0), Fraction(1))


def _pair(combine: Callable[[Polynomial, Polynomial], Polynomial]) -> Callable[[_Reader, onnx.NodeProto], Polynomial]:
    return lambda reader, node: combine(reader.polynomial(node.input[0]), reader.polynomial(node.input[1]))


def _divide(left: Polynomial, right: Polynomial) -> Polynomial:
    if not right:
        raise _NoMatchError
    return _multiply(left, _reciprocal(right))


def _function(name: str) -> Callable[[_Reader, onnx.NodeProto], Polynomial]:
    return lambda reader, node: _apply(name, reader.polynomial(node.input[0]))


_EXPANSIONS: dict[str, tuple[Callable[[_Reader, onnx.NodeProto], Polynomial], frozenset[str]]] = {
    "Identity": (lambda reader, node: reader.polynomial(node.input[0]), frozenset()),
    "Neg": (lambda reader, node: _add({}, reader.polynomial(node.input[0]), -1), frozenset()),
    "Add": (_pair(_add), frozenset()),
    "Sub": (_pair(lambda a, b: _add(a, b, -1)), frozenset()),
    "Mul": (_pair(_multiply), frozenset()),
    "Div": (_pair(_divide), frozenset()),
    "Reciprocal": (lambda reader, node: _divide({(): Fraction(1)}, reader.polynomial(node.input[0])), frozenset()),
    "Pow": (_power, frozenset()),
    "Clip": (_clip, frozenset({"min", "max"})),
    "HardSigmoid": (_hard_sigmoid, frozenset({"alpha", "beta"})),
    **{kind: (_function(kind.lower()), frozenset[str]())
       for kind in ("Sigmoid", "Tanh", "Erf", "Softplus", "Abs", "Exp")},
}

_NUMERIC: dict[str, Callable[[list[Any], dict[str, Any]], Any]] = {
    "Identity": lambda v, a: v[0],
    "Neg": lambda v, a: -v[0],
    "Add": lambda v, a: v[0] + v[1],
    "Sub": lambda v, a: v[0] - v[1],
    "Mul": lambda v, a: v[0] * v[1],
    "Div": lambda v, a: v[0] / v[1],
    "Reciprocal": lambda v, a: 1 / v[0],
    "Pow": lambda v, a: v[0] ** v[1],
    "Clip": lambda v, a: np.clip(v[0], v[1] if len(v) > 1 else a["min"], v[2] if len(v) > 2 else a["max"]),
    "HardSigmoid": lambda v, a: np.clip(a.get("alpha", np.float64(np.float32(0.2))) * v[0] + a.get("beta", 0.5), 0, 1),
    "Sigmoid": lambda v, a: scipy.special.expit(v[0]),
    "Tanh": lambda v, a: np.tanh(v[0]),
    "Erf": lambda v, a: scipy.special.erf(v[0]),
    "Softplus": lambda v, a: np.logaddexp(0, v[0]),
    "Abs": lambda v, a: np.abs(v[0]),
    "Exp": lambda v, a: np.exp(v[0]),
}


def recognise(polynomial: Polynomial) -> tuple[Layer, ...] | None:
    """Layers whose composition is the polynomial in x, or None if it is no known activation.

    A constant that no float64 holds is a None as well: the nearest activation would be another function.
    """
    for pattern in (_sigmoid, _softplus, _silu, _mish, _softsign, _gelu, _gelu_tanh, _hard_swish):
        try:
            found = pattern(polynomial)
        except (_NoMatchError, ModelError):
            continue
        if found is not None:
            return tuple(layer for layer in found if not isinstance(layer, LinearLayer) or not layer.keeps_order())
    return None


def _only(polynomial: Polynomial) -> tuple[Monomial, Fraction]:
    if len(polynomial) != 1:
        raise _NoMatchError
    return next(iter(polynomial.items()))


def _function_of(monomial: Monomial, function: str, *, times_x: bool) -> Atom:
    """The function in function(..), or with `times_x` in x * function(..)."""
    rest = [atom for atom in monomial if atom != X]
    if len(rest) != 1 or rest[0][0] != function or len(monomial) != (2 if times_x else 1):
        raise _NoMatchError
    return rest[0]


def _argument(atom: Atom, *monomials: Monomial) -> list[Fraction]:
    """The coefficients of the given monomials, when the atom's argument has no others."""
    polynomial = dict(atom[1])
    if set(polynomial) != set(monomials):
        raise _NoMatchError
    return [polynomial[monomial] for monomial in monomials]


def _float(value: Fraction) -> float:
    """The float64 equal to the fraction."""
    try:
        result = float(value)
    except OverflowError:
        raise _NoMatchError from None
    if Fraction(result) != value or not math.isfinite(result):
        raise _NoMatchError
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
        raise _NoMatchError
    return Mish(), _scale(factor)


def _softsign(polynomial: Polynomial) -> tuple[Layer, ...]:
    monomial, factor = _only(polynomial)
    size = ("abs", (((X,), Fraction(1)),))
    constant, slope = _argument(_function_of(monomial, "reciprocal", times_x=True), (), (size,))
    # f x / (c + s |x|) = (f / s) y / (1 + |y|) for y = s x / c.
    if constant <= 0 or slope <= 0:
        raise _NoMatchError
    return _scale(slope / constant), Softsign(), _scale(factor / slope)


def _half_and_half(polynomial: Polynomial, function: str) -> tuple[Atom, Fraction]:
    """The function and f in f x (1 + function(..))."""
    if len(polynomial) != 2 or (X,) not in polynomial:
        raise _NoMatchError
    (monomial, factor), = ((m, f) for m, f in polynomial.items() if m != (X,))
    if factor != polynomial[(X,)]:
        raise _NoMatchError
    return _function_of(monomial, function, times_x=True), factor


def _gelu(polynomial: Polynomial) -> tuple[Layer, ...]:
    atom, factor = _half_and_half(polynomial, "erf")
    c, = _argument(atom, (X,))
    if c <= 0:
        raise _NoMatchError
    try:
        return Gelu(_float(c)), _scale(2 * factor)
    except _NoMatchError:
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
        raise _NoMatchError
    # x clip(s x + h/2, 0, h) = (h / t) hardswish(t x) for t = 6 s / h.
    stretch = 6 * slope / high
    return _scale(stretch), HardSwish(), _scale(factor * high / stretch)
