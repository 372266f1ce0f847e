"""Results that agree with the request: ``"= leg_a + leg_b"`` in a result of the catalogue is worked out from
the arguments and from what stands before it. A small language of its own: Python's expressions without
attributes, loops or definitions, and the functions of ``truths``, so that a catalogue's file can run nothing else.
"""

from __future__ import annotations

import ast
import functools
import operator
import random
from collections.abc import Callable, Mapping
from typing import Any

from callama.common.errors import CallamaError
from callama.synth.truths import FUNCTIONS, RANDOM

_OPERATORS: Mapping[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.Pow: operator.pow, ast.Eq: operator.eq,
    ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge,
}  # fmt: skip


def work_out(formula: str, known: Mapping[str, Any], rng: random.Random) -> Any:
    """The value of a formula (without its ``=``).

    Args:
        formula: e.g. ``"round(wall.width * wall.height / (coverage or 10), 1)"``; a parameter that was not given
            is None.
        known: arguments by path, and results.
        rng: for ``whole``, ``pick`` and the like.

    Raises:
        CallamaError: the formula is broken or cannot be worked out with these values.
    """
    try:
        return _value(_parsed(formula), known, rng)
    except (SyntaxError, ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise CallamaError(f"the formula {formula!r} cannot be worked out: {error}") from None


def names_in(formula: str) -> set[str]:
    """The parameters and results that a formula uses.

    Raises:
        CallamaError: it is no formula.
    """
    try:
        return set(_names(_parsed(formula)))
    except SyntaxError as error:
        raise CallamaError(f"{formula!r} is no formula: {error.msg}") from None


@functools.cache
def _parsed(formula: str) -> ast.expr:
    return ast.parse(formula.strip(), mode="eval").body


def _path(node: ast.expr) -> str:
    """``wall.width`` is the path of a value, not an attribute."""
    if isinstance(node, ast.Attribute):
        return f"{_path(node.value)}.{node.attr}"
    if isinstance(node, ast.Name):
        return node.id
    raise ValueError("only names may stand before a dot")


def _names(node: ast.expr) -> list[str]:
    if isinstance(node, ast.Name | ast.Attribute):
        return [_path(node)]
    skipped = node.func if isinstance(node, ast.Call) else None
    inner = [child for child in ast.iter_child_nodes(node) if child is not skipped and isinstance(child, ast.expr)]
    return [name for child in inner for name in _names(child)]


def _value(node: ast.expr | None, known: Mapping[str, Any], rng: random.Random) -> Any:
    def of(inner: ast.expr | None) -> Any:
        return _value(inner, known, rng)

    match node:
        case ast.Constant():
            return node.value
        case ast.Name() | ast.Attribute():
            return known.get(_path(node))
        case ast.BinOp() if type(node.op) in _OPERATORS:
            return _OPERATORS[type(node.op)](of(node.left), of(node.right))
        case ast.Compare(ops=[op], comparators=[right]) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](of(node.left), of(right))
        case ast.UnaryOp(op=ast.USub()):
            return -of(node.operand)
        case ast.IfExp():
            return of(node.body) if of(node.test) else of(node.orelse)
        case ast.BoolOp(op=ast.Or(), values=[first, second]):
            return of(first) or of(second)
        case ast.BoolOp(op=ast.And(), values=[first, second]):
            return of(first) and of(second)
        case ast.Subscript():
            return of(node.value)[of(node.slice)]
        case ast.List():
            return [of(item) for item in node.elts]
        case ast.Dict():
            return dict(zip(map(of, node.keys), map(of, node.values), strict=True))
        case ast.Call(func=ast.Name(id=name), keywords=[]) if name in FUNCTIONS:
            return FUNCTIONS[name](*map(of, node.args))
        case ast.Call(func=ast.Name(id=name), keywords=[]) if name in RANDOM:
            return RANDOM[name](rng, *map(of, node.args))
    raise ValueError(f"{ast.unparse(node) if node else 'nothing'!r} cannot stand in a formula")
