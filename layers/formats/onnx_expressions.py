"""Elementwise expressions of an ONNX graph as polynomials.

An expression in one value x is expanded into a polynomial over atoms: x itself, and functions such as sigmoid or erf
of such polynomials, with rational coefficients. Every arrangement of the same formula has the same polynomial.
"""

import dataclasses
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

import numpy as np
import onnx
import scipy.special

Atom = tuple[Any, ...]
Monomial = tuple[Atom, ...]
Polynomial = dict[Monomial, Fraction]

X: Atom = ("x",)
MOST_NODES = 40
MOST_TERMS = 12


class NoMatchError(Exception):
    """The expression is not of the kind that can be expanded, or not of the form looked for."""


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

    def candidates(self, node: onnx.NodeProto) -> list[str]:
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

    def evaluate(self, name: str, root: str, x: np.ndarray) -> np.ndarray:
        """The expression in float64, straight from the operators."""
        return self._evaluate(name, {root: x})

    def _evaluate(self, name: str, known: dict[str, np.ndarray]) -> np.ndarray:
        if name not in known:
            if name in self.constants:
                known[name] = np.asarray(float(self.constants[name].ravel()[0]))
            else:
                node = self.producers[name]
                values = [self._evaluate(i, known) if i else None for i in node.input]
                numbers = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
                known[name] = _NUMERIC[node.op_type](values, numbers)
        return known[name]


class Reader:
    """Expands values into polynomials over one root."""

    def __init__(self, expressions: Expressions, root: str) -> None:
        self.expressions = expressions
        self.root = root
        self.most_axes = 0
        self._known: dict[str, Polynomial] = {root: {(X,): Fraction(1)}}

    def polynomial(self, name: str) -> Polynomial:
        if name not in self._known:
            if len(self._known) > MOST_NODES:
                raise NoMatchError
            self._known[name] = self._expand(name)
        return self._known[name]

    def number(self, name: str) -> Fraction:
        values = self.expressions.constants.get(name)
        if values is None or values.size != 1 or values.dtype.kind != "f" or not np.isfinite(values).all():
            raise NoMatchError
        self.most_axes = max(self.most_axes, values.ndim)
        return Fraction(float(values.ravel()[0]))

    def _expand(self, name: str) -> Polynomial:
        if name in self.expressions.constants:
            return {(): self.number(name)}
        node = self.expressions.producers.get(name)
        if node is None or node.domain not in ("", "ai.onnx") or node.op_type not in _EXPANSIONS:
            raise NoMatchError
        expand, attributes = _EXPANSIONS[node.op_type]
        if self.expressions.opset < 7:
            # How a second input is aligned; here it has one entry or the shape of the first.
            attributes |= {"broadcast", "axis"}
        if {a.name for a in node.attribute} - attributes or any(a.ref_attr_name for a in node.attribute):
            raise NoMatchError
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
        raise NoMatchError
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


def _power(reader: Reader, node: onnx.NodeProto) -> Polynomial:
    values = reader.expressions.constants.get(node.input[1])
    if values is None or values.size != 1 or values.dtype.kind not in "if":
        raise NoMatchError
    reader.most_axes = max(reader.most_axes, values.ndim)
    exponent = values.ravel()[0]
    if exponent not in (1, 2, 3):
        raise NoMatchError
    base = result = reader.polynomial(node.input[0])
    for _ in range(int(exponent) - 1):
        result = _multiply(result, base)
    return result


def _clip(reader: Reader, node: onnx.NodeProto) -> Polynomial:
    if reader.expressions.opset < 11:
        attributes = {a.name: Fraction(a.f) for a in node.attribute}
        if set(attributes) != {"min", "max"}:
            raise NoMatchError
        low, high = attributes["min"], attributes["max"]
    else:
        if len(node.input) != 3 or not all(node.input):
            raise NoMatchError
        # A bound is a scalar that does not take part in broadcasting.
        axes = reader.most_axes
        low, high = reader.number(node.input[1]), reader.number(node.input[2])
        reader.most_axes = axes
    return _apply("clip", reader.polynomial(node.input[0]), low, high)


def _hard_sigmoid(reader: Reader, node: onnx.NodeProto) -> Polynomial:
    attributes = {a.name: Fraction(a.f) for a in node.attribute}
    a, b = (attributes.get(key, Fraction(float(np.float32(value)))) for key, value in (("alpha", 0.2), ("beta", 0.5)))
    line = _add(_multiply(reader.polynomial(node.input[0]), {(): a}), {(): b})
    return _apply("clip", line, Fraction(0), Fraction(1))


def _pair(combine: Callable[[Polynomial, Polynomial], Polynomial]) -> Callable[[Reader, onnx.NodeProto], Polynomial]:
    return lambda reader, node: combine(reader.polynomial(node.input[0]), reader.polynomial(node.input[1]))


def _divide(left: Polynomial, right: Polynomial) -> Polynomial:
    if not right:
        raise NoMatchError
    return _multiply(left, _reciprocal(right))


def _function(name: str) -> Callable[[Reader, onnx.NodeProto], Polynomial]:
    return lambda reader, node: _apply(name, reader.polynomial(node.input[0]))


_EXPANSIONS: dict[str, tuple[Callable[[Reader, onnx.NodeProto], Polynomial], frozenset[str]]] = {
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
