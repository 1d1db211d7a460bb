"""What an expression comes to: over many rows at once, or for one row, where what it does not need is left out."""

import ast
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from saferule_ros.dataset.expression_syntax import (
    BINARY,
    COMPARISONS,
    FUNCTIONS,
    REDUCTIONS,
    ExpressionError,
    Value,
    names_in,
)


def evaluated(node: ast.expr, columns: Mapping[str, Value], single: bool) -> Any:
    """The value of a part.

    Args:
        node: the part.
        columns: by name.
        single: they have one row, and what it does not need is left out.
    """
    match node:
        case ast.Name():
            return columns[node.id]
        case ast.Constant():
            # Whole numbers too: integer powers could grow without bounds.
            return np.float64(node.value) if type(node.value) is int else np.asarray(node.value)
        case ast.BinOp():
            left, right = _aligned(evaluated(node.left, columns, single), evaluated(node.right, columns, single))
            return BINARY[type(node.op)](left, right)
        case ast.UnaryOp():
            value = evaluated(node.operand, columns, single)
            return np.logical_not(_row(value)) if isinstance(node.op, ast.Not) else _signed(node.op, value)
        case ast.BoolOp():
            return _joined_once(node, columns) if single else _joined(node, columns)
        case ast.Compare():
            return _compare(node, columns, single)
        case ast.IfExp():
            return _chosen_once(node, columns) if single else _chosen(node, columns)
        case ast.Subscript():
            return _entry(np.asarray(evaluated(node.value, columns, single)), node.slice)
        case ast.Call(func=ast.Name(id=name)):
            given = [np.asarray(evaluated(argument, columns, single)) for argument in node.args]
            # Of several arguments, a vector with one entry stands for that entry.
            return FUNCTIONS[name][1](*(map(_row, given) if len(given) > 1 else given))
    raise ExpressionError(f"{ast.unparse(node)!r} stands where a value is expected", "For example: min(scan) < 0.3")


def one_number(value: Any, text: str) -> Value:
    """One number a row: (N,), or () for the same in all.

    Raises:
        ExpressionError: there are several.
    """
    found = _row(value)
    if found.ndim > 1:
        raise ExpressionError(
            f"{text!r} gives {found.shape[1]} values, not one", "Take an entry, x[0], or any, all, min, max, sum, norm"
        )
    return found


def _truth(node: ast.expr, columns: Mapping[str, Value], single: bool) -> npt.NDArray[np.bool_]:
    """Whether a part of an expression is true, in each row (N,), or () for all."""
    value = _row(evaluated(node, columns, single))
    if value.ndim > 1:
        value = one_number(value, ast.unparse(node))
    return value if value.dtype == np.bool_ else np.logical_or(value, False)


def _joined(node: ast.BoolOp, columns: Mapping[str, Value]) -> npt.NDArray[np.bool_]:
    """`and`, `or`: each part in the rows that the parts before it leave open. (N,)"""
    both = isinstance(node.op, ast.And)
    found = np.full(rows_of(columns), both)
    for part in node.values:
        is_open = found == both
        found[is_open] = _truth(part, _within(is_open, part, columns), False)
    return found


def _joined_once(node: ast.BoolOp, columns: Mapping[str, Value]) -> bool:
    """The same for one row: the first part that decides is the last that is looked at."""
    both = isinstance(node.op, ast.And)
    return both if all(bool(_truth(part, columns, True)) == both for part in node.values) else not both


def _chosen(node: ast.IfExp, columns: Mapping[str, Value]) -> Value:
    """`a if condition else b`: each part in its own rows. (N,) or (N, K)"""
    holds = np.broadcast_to(_truth(node.test, columns, False), (rows_of(columns),))
    body, orelse = _aligned(_evaluate_where(holds, node.body, columns), _evaluate_where(~holds, node.orelse, columns))
    trailing = np.broadcast_shapes(body.shape[1:], orelse.shape[1:])
    found = np.empty((len(holds), *trailing), np.result_type(body, orelse))
    found[holds], found[~holds] = body, orelse
    return found


def _chosen_once(node: ast.IfExp, columns: Mapping[str, Value]) -> Value:
    """The same for one row: of the other part no more than its size is looked at, and only where it may be a vector."""
    needed, other = (node.body, node.orelse) if _truth(node.test, columns, True) else (node.orelse, node.body)
    value = _row(evaluated(needed, columns, True))
    if value.ndim > 1 or _is_number(other, columns):
        return value
    size = _evaluate_where(np.zeros(1, np.bool_), other, columns).shape[1:]
    return np.broadcast_to(value.reshape(-1, 1), (1, *size)) if size else value


def _is_number(node: ast.expr, columns: Mapping[str, Value]) -> bool:
    """Whether a part is surely no vector, as far as is seen without evaluating it."""
    match node:
        case ast.Name():
            return columns[node.id].ndim < 2 or columns[node.id].shape[1] == 1
        case ast.Constant() | ast.BoolOp():
            return True
        case ast.Subscript():
            return not isinstance(node.slice, ast.Slice)
        case ast.Call(func=ast.Name(id=name), args=[_]) if name in {*REDUCTIONS, "min", "max"}:
            return True
    parts = (part for part in ast.iter_child_nodes(node) if isinstance(part, ast.expr))
    return all(
        _is_number(part, columns) for part in parts
        if not isinstance(part, ast.Tuple | ast.List) and not (isinstance(node, ast.Call) and part is node.func)
    )  # fmt: skip


def _evaluate_where(rows: npt.NDArray[np.bool_], node: ast.expr, columns: Mapping[str, Value]) -> Value:
    """A part in some of the rows, (M,) or (M, K). In none of them, too: its type and size do not depend on the data."""
    value = _row(evaluated(node, _within(rows, node, columns), False))
    return np.broadcast_to(value, (int(rows.sum()), *value.shape[1:]))


def _within(rows: npt.NDArray[np.bool_], node: ast.expr, columns: Mapping[str, Value]) -> Mapping[str, Value]:
    """What a part reads, in some of the rows. Where it reads nothing, one column still tells how many they are."""
    if rows.all():
        return columns
    read = names_in(node) or list(columns)[:1]
    return {name: np.asarray(columns[name])[rows] for name in read}


def rows_of(columns: Mapping[str, Value]) -> int:
    """N; one where nothing is read."""
    return len(next(iter(columns.values()))) if columns else 1


def _signed(sign: ast.unaryop, value: Any) -> Any:
    return -np.asarray(value, np.float64) if isinstance(sign, ast.USub) else value


def _compare(node: ast.Compare, columns: Mapping[str, Value], single: bool) -> Value:
    left = evaluated(node.left, columns, single)
    found: Any = np.True_
    for operation, right_node in zip(node.ops, node.comparators, strict=True):
        if isinstance(operation, ast.In | ast.NotIn):
            assert isinstance(right_node, ast.Tuple | ast.List)  # checked when it was made
            constants: Any = [entry.value for entry in right_node.elts if isinstance(entry, ast.Constant)]
            within = np.isin(left, constants)
            found = np.logical_and(found, ~within if isinstance(operation, ast.NotIn) else within)
            continue
        right = evaluated(right_node, columns, single)
        one, other = _aligned(left, right)
        if (one.dtype.kind == "U") != (other.dtype.kind == "U"):
            raise ExpressionError(f"{ast.unparse(node)!r} compares a text with a number", "Put texts in quotes")
        found = np.logical_and(found, COMPARISONS[type(operation)](one, other))
        left = right
    return found


def _entry(value: Value, index: ast.expr) -> Value:
    """x[2] or x[2:5] of each row; x[0] of a single number is that number."""
    vector = value if value.ndim == 2 else value.reshape(-1, 1)
    chosen = ast.literal_eval(index) if not isinstance(index, ast.Slice) else _slice(index)
    if not is_within(chosen, vector.shape[1]):
        kind = "slice" if isinstance(chosen, slice) else "index"
        raise IndexError(f"{kind} {ast.unparse(index)} is out of range: {vector.shape[1]} entries")
    return vector[:, chosen]


def is_within(index: int | slice, size: int) -> bool:
    """Whether all that an index names is there, and something is. A slice of Python ends where its vector does; one
    that was to end later is a mistake about the vector.
    """
    if isinstance(index, int):
        return -size <= index < size
    bounds = (bound for bound in (index.start, index.stop) if bound is not None)
    return len(range(size)[index]) > 0 and all(-size <= bound <= size for bound in bounds)


def _slice(node: ast.Slice) -> slice:
    return slice(*(None if part is None else ast.literal_eval(part) for part in (node.lower, node.upper, node.step)))


def _row(value: Any) -> Value:
    """(N,) of a vector with one entry."""
    array = np.asarray(value)
    return array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array


def _aligned(left: Any, right: Any) -> tuple[Value, Value]:
    """Two operands, so that (N,) goes with (N, K) row by row."""
    one, other = np.asarray(left), np.asarray(right)
    if one.ndim == 1 and other.ndim == 2:
        one = one[:, None]
    elif one.ndim == 2 and other.ndim == 1:
        other = other[:, None]
    return one, other
