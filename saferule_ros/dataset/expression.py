"""Expressions over named columns: a small, safe language. Nothing of Python is run, only arithmetic on arrays.

    min(scan) < 0.3 and abs(odom[1]) > 0.1
    episode_cost > 25 and bag in ("tuesday", "wednesday")

Numbers, strings, names, + - * / // % **, comparisons (chained ones too), `and`, `or`, `not`, `in` a list of constants,
`a if condition else b`, an index or slice of a vector, and the functions below. Everything is evaluated for many rows
at once: a name stands for an array (N,), or (N, K) for a vector, of which `x[2]` is one entry of each row. What a row
does not need is not computed for it: `x / y > 2 if y > 0 else False` and `y > 0 and x / y > 2` divide by no zero.
"""

import ast
import operator
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from saferule_ros.dataset.naming import closest
from saferule_ros.errors import SaferuleError

# Far above what anybody writes; below what could exhaust the stack of the parser or of the evaluation.
MAX_LENGTH = 2000
MAX_NODES = 400
# A comparison with what is not a number is false, one with infinity as good as made up: where the value is acted on,
# 0 / 0, 1 / 0, sqrt(-1) and exp(1000) are errors.
_STRICT: Any = {"invalid": "raise", "divide": "raise", "over": "raise"}
_WRONG = (TypeError, ValueError, KeyError, IndexError, OverflowError, FloatingPointError, np.exceptions.AxisError)
_GUARD = "Do sizes and types fit? Keep what is no number out: x / y > 2 if y > 0 else False"

Value = npt.NDArray[Any]


class ExpressionError(SaferuleError):
    """An expression that is not of the language, or cannot be evaluated over these columns."""


def _of_vector(name: str, function: Callable[..., Any]) -> Callable[..., Value]:
    """A function that makes one number of each row's vector."""

    def reduce(*given: Value) -> Value:
        if len(given) != 1 or given[0].ndim != 2:
            raise ExpressionError(f"{name}() takes one vector", "Give the name of a vector, or a slice of one: x[2:5]")
        return function(given[0], axis=1)

    return reduce


def _least_or_largest(name: str, of_vector: Callable[..., Any], of_two: Callable[..., Any]) -> Callable[..., Value]:
    """Of one vector, or of two and more numbers."""

    def choose(*given: Value) -> Value:
        if len(given) == 1:
            return _of_vector(name, of_vector)(*given)
        found = given[0]
        for other in given[1:]:
            found = of_two(found, other)
        return found

    return choose


_REDUCTIONS: dict[str, Callable[..., Any]] = {
    "sum": np.sum, "mean": np.mean, "any": np.any, "all": np.all, "norm": np.linalg.norm,
}  # fmt: skip
_FUNCTIONS: dict[str, tuple[range, Callable[..., Value]]] = {
    **{name: (range(1, 2), function) for name, function in {
        "abs": np.abs, "sqrt": np.sqrt, "exp": np.exp, "log": np.log, "sin": np.sin, "cos": np.cos, "tan": np.tan,
        "floor": np.floor, "ceil": np.ceil, "sign": np.sign, "isfinite": np.isfinite,
    }.items()},
    **{name: (range(1, 2), _of_vector(name, function)) for name, function in _REDUCTIONS.items()},
    "min": (range(1, 9), _least_or_largest("min", np.min, np.minimum)),
    "max": (range(1, 9), _least_or_largest("max", np.max, np.maximum)),
    "atan2": (range(2, 3), np.arctan2),
    "clip": (range(3, 4), np.clip),
    "startswith": (range(2, 3), np.char.startswith),
}  # fmt: skip

_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.Pow: operator.pow,
}  # fmt: skip
_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge,
    ast.Eq: operator.eq, ast.NotEq: operator.ne,
}  # fmt: skip


class Expression:
    """One expression, checked when it is made.

    Args:
        text: see the module.

    Raises:
        ExpressionError: it is not of the language; which part, and what is.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._root = _parse(text)
        _check(self._root, text)

    @cached_property
    def names(self) -> frozenset[str]:
        """The columns that it reads."""
        return _names(self._root)

    def require(self, known: Sequence[str], kind: str = "column") -> None:
        """Raises ExpressionError if it reads a name that is not known; the closest ones are named."""
        for name in sorted(self.names):
            if name not in known:
                raise ExpressionError(f"{self.text!r} has an unknown {kind} {name!r}", closest(name, known, kind))

    def evaluate(self, columns: Mapping[str, Value], strict: bool = False) -> Value:
        """The value in each row, (N,). Sizes and types are those of all parts, needed or not.

        Args:
            columns: (N,) or (N, K) each, of numbers, truths or strings.
            strict: something on the way that is no number, or infinite, is an error: for those who act on the value.

        Raises:
            ExpressionError: a name that is not there, an index beyond a vector, types that do not fit, a number that
                no float can hold.
        """
        self.require(tuple(columns))
        try:
            with np.errstate(**({"all": "ignore"} | (_STRICT if strict else {}))):
                found = np.asarray(_evaluate(self._root, columns, False))
        except _WRONG as error:
            raise ExpressionError(f"{self.text!r:.200} cannot be evaluated: {error}", _GUARD) from error
        if found.ndim == 2 and found.shape[1] == 1:
            found = found[:, 0]
        if found.ndim > 1:
            raise ExpressionError(
                f"{self.text!r} gives {found.shape[1]} values, not one", "Take an entry, x[0], or min, max, sum, norm"
            )
        return np.broadcast_to(found, (_rows(columns),))

    def evaluate_truth(self, columns: Mapping[str, Value], hint: str, strict: bool = True) -> np.ndarray:
        """Like evaluate, of an expression that is true or false: (N,) bool.

        Args:
            columns: see evaluate.
            hint: what to do where it gives numbers.
            strict: see evaluate; a truth is usually acted on.

        Raises:
            ExpressionError: see evaluate; it gives numbers.
        """
        found = self.evaluate(columns, strict)
        if found.dtype != np.bool_:
            raise ExpressionError(f"{self.text!r} gives numbers, not true or false", hint)
        return found

    def holds(self, columns: Mapping[str, Value]) -> bool:
        """Whether it is true of one row. Quicker than `evaluate`, and strict: for those who act on it.

        What the row does not need is not looked at: whether sizes and types fit in there, `evaluate` says beforehand.

        Args:
            columns: all that it reads, (1,) or (1, K) each.

        Raises:
            ExpressionError: it cannot be evaluated, or something in it is not a number or infinite: sqrt(-1), 1 / 0.
        """
        try:
            with np.errstate(under="ignore", **_STRICT):
                return bool(_evaluate(self._root, columns, True))
        except _WRONG as error:
            raise ExpressionError(f"{self.text!r} cannot be evaluated: {error}", _GUARD) from error

    def number(self, columns: Mapping[str, Value]) -> float:
        """Its value for one row; as `holds`.

        Args:
            columns: see holds.

        Raises:
            ExpressionError: see holds; or it gives several numbers, or a text.
        """
        self.require(tuple(columns))
        try:
            with np.errstate(under="ignore", **_STRICT):
                return float(_one(_evaluate(self._root, columns, True), self.text).item())
        except _WRONG as error:
            raise ExpressionError(f"{self.text!r} cannot be evaluated: {error}", _GUARD) from error

    def __repr__(self) -> str:
        return f"Expression({self.text!r})"


def _parse(text: str) -> ast.expr:
    if not text.strip() or len(text) > MAX_LENGTH:
        raise ExpressionError(
            f"an expression has {len(text)} characters", f"Write 1 to {MAX_LENGTH}, e.g. episode_cost > 25"
        )
    try:
        return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        why = error.msg if isinstance(error, SyntaxError) else type(error).__name__
        raise ExpressionError(f"{text!r:.200} is no expression: {why}", "For example: min(scan) < 0.3") from error


def _check(root: ast.expr, text: str) -> None:
    nodes = list(ast.walk(root))
    if len(nodes) > MAX_NODES:
        raise ExpressionError(f"an expression has {len(nodes)} parts", f"At most {MAX_NODES} are allowed")
    functions = [node.func for node in nodes if isinstance(node, ast.Call)]
    for node in nodes:
        problem = _problem(node, functions)
        if problem:
            where = ast.get_source_segment(text.strip(), node) if isinstance(node, ast.expr) else None
            raise ExpressionError(f"{where or text!r} is not allowed: {problem}", "For example: min(scan) < 0.3")


def _problem(node: ast.AST, functions: list[ast.expr]) -> str:
    """Why this node is not of the language; empty if it is."""
    if isinstance(node, ast.Call):
        if not isinstance(node.func, ast.Name) or node.func.id not in _FUNCTIONS or node.keywords:
            return f"the functions are {', '.join(sorted(_FUNCTIONS))}, with arguments in their order"
        counts = _FUNCTIONS[node.func.id][0]
        if len(node.args) not in counts:
            return f"{node.func.id}() takes {counts.start} to {counts.stop - 1} arguments"
    elif isinstance(node, ast.Name):
        if node.id in _FUNCTIONS and not any(node is function for function in functions):
            return f"{node.id} is a function: {node.id}(…)"
    elif isinstance(node, ast.Constant):
        if not isinstance(node.value, bool | int | float | str):
            return "constants are numbers, strings, True and False"
    elif isinstance(node, ast.Subscript):
        if not _is_index(node.slice):
            return "an index is a whole number, or a slice of whole numbers"
    elif isinstance(node, ast.Compare):
        for operation, right in zip(node.ops, node.comparators, strict=True):
            if isinstance(operation, ast.In | ast.NotIn):
                if not isinstance(right, ast.Tuple | ast.List) or not all(
                    isinstance(entry, ast.Constant) for entry in right.elts
                ):
                    return 'after `in` stands a list of constants: ("a", "b")'
            elif type(operation) not in _COMPARISONS:
                return "comparisons are < <= > >= == != in"
    elif isinstance(node, ast.BinOp):
        if type(node.op) not in _BINARY:
            return "operators are + - * / // % **"
    elif isinstance(node, ast.UnaryOp):
        if isinstance(node.op, ast.Invert):
            return "write `not`"
    elif not isinstance(
        node,
        ast.BoolOp | ast.IfExp | ast.Slice | ast.Tuple | ast.List | ast.operator | ast.cmpop | ast.boolop | ast.unaryop
        | ast.expr_context,
    ):  # fmt: skip
        return f"{type(node).__name__} is not of the language"
    return ""


def _is_index(node: ast.expr) -> bool:
    if isinstance(node, ast.Slice):
        return all(part is None or _is_index(part) for part in (node.lower, node.upper, node.step))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        node = node.operand
    return isinstance(node, ast.Constant) and type(node.value) is int


def _evaluate(node: ast.expr, columns: Mapping[str, Value], single: bool) -> Any:
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
            left, right = _aligned(_evaluate(node.left, columns, single), _evaluate(node.right, columns, single))
            return _BINARY[type(node.op)](left, right)
        case ast.UnaryOp():
            value = _evaluate(node.operand, columns, single)
            return np.logical_not(_row(value)) if isinstance(node.op, ast.Not) else _signed(node.op, value)
        case ast.BoolOp():
            return _joined_once(node, columns) if single else _joined(node, columns)
        case ast.Compare():
            return _compare(node, columns, single)
        case ast.IfExp():
            return _chosen_once(node, columns) if single else _chosen(node, columns)
        case ast.Subscript():
            return _entry(np.asarray(_evaluate(node.value, columns, single)), node.slice)
        case ast.Call(func=ast.Name(id=name)):
            given = [np.asarray(_evaluate(argument, columns, single)) for argument in node.args]
            # Of several arguments, a vector with one entry stands for that entry.
            return _FUNCTIONS[name][1](*(map(_row, given) if len(given) > 1 else given))
    raise ExpressionError(f"{ast.unparse(node)!r} stands where a value is expected", "For example: min(scan) < 0.3")


def _one(value: Any, text: str) -> Value:
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
    value = _row(_evaluate(node, columns, single))
    if value.ndim > 1:
        value = _one(value, ast.unparse(node))
    return value if value.dtype == np.bool_ else np.logical_or(value, False)


def _joined(node: ast.BoolOp, columns: Mapping[str, Value]) -> npt.NDArray[np.bool_]:
    """`and`, `or`: each part in the rows that the parts before it leave open. (N,)"""
    both = isinstance(node.op, ast.And)
    found = np.full(_rows(columns), both)
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
    holds = np.broadcast_to(_truth(node.test, columns, False), (_rows(columns),))
    body, orelse = _aligned(_evaluate_where(holds, node.body, columns), _evaluate_where(~holds, node.orelse, columns))
    trailing = np.broadcast_shapes(body.shape[1:], orelse.shape[1:])
    found = np.empty((len(holds), *trailing), np.result_type(body, orelse))
    found[holds], found[~holds] = body, orelse
    return found


def _chosen_once(node: ast.IfExp, columns: Mapping[str, Value]) -> Value:
    """The same for one row: of the other part no more than its size is looked at, and only where it may be a vector."""
    needed, other = (node.body, node.orelse) if _truth(node.test, columns, True) else (node.orelse, node.body)
    value = _row(_evaluate(needed, columns, True))
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
        case ast.Call(func=ast.Name(id=name), args=[_]) if name in {*_REDUCTIONS, "min", "max"}:
            return True
    parts = (part for part in ast.iter_child_nodes(node) if isinstance(part, ast.expr))
    return all(
        _is_number(part, columns) for part in parts
        if not isinstance(part, ast.Tuple | ast.List) and not (isinstance(node, ast.Call) and part is node.func)
    )  # fmt: skip


def _evaluate_where(rows: npt.NDArray[np.bool_], node: ast.expr, columns: Mapping[str, Value]) -> Value:
    """A part in some of the rows, (M,) or (M, K). In none of them, too: its type and size do not depend on the data."""
    value = _row(_evaluate(node, _within(rows, node, columns), False))
    return np.broadcast_to(value, (int(rows.sum()), *value.shape[1:]))


def _within(rows: npt.NDArray[np.bool_], node: ast.expr, columns: Mapping[str, Value]) -> Mapping[str, Value]:
    """What a part reads, in some of the rows. Where it reads nothing, one column still tells how many they are."""
    if rows.all():
        return columns
    read = _names(node) or list(columns)[:1]
    return {name: np.asarray(columns[name])[rows] for name in read}


def _names(root: ast.expr) -> frozenset[str]:
    """The columns that a part reads."""
    calls = {id(node.func) for node in ast.walk(root) if isinstance(node, ast.Call)}
    return frozenset(node.id for node in ast.walk(root) if isinstance(node, ast.Name) and id(node) not in calls)


def _rows(columns: Mapping[str, Value]) -> int:
    """N; one where nothing is read."""
    return len(next(iter(columns.values()))) if columns else 1


def _signed(sign: ast.unaryop, value: Any) -> Any:
    return -np.asarray(value, np.float64) if isinstance(sign, ast.USub) else value


def _compare(node: ast.Compare, columns: Mapping[str, Value], single: bool) -> Value:
    left = _evaluate(node.left, columns, single)
    found: Any = np.True_
    for operation, right_node in zip(node.ops, node.comparators, strict=True):
        if isinstance(operation, ast.In | ast.NotIn):
            assert isinstance(right_node, ast.Tuple | ast.List)  # checked when it was made
            constants: Any = [entry.value for entry in right_node.elts if isinstance(entry, ast.Constant)]
            within = np.isin(left, constants)
            found = np.logical_and(found, ~within if isinstance(operation, ast.NotIn) else within)
            continue
        right = _evaluate(right_node, columns, single)
        one, other = _aligned(left, right)
        if (one.dtype.kind == "U") != (other.dtype.kind == "U"):
            raise ExpressionError(f"{ast.unparse(node)!r} compares a text with a number", "Put texts in quotes")
        found = np.logical_and(found, _COMPARISONS[type(operation)](one, other))
        left = right
    return found


def _entry(value: Value, index: ast.expr) -> Value:
    """x[2] or x[2:5] of each row; x[0] of a single number is that number."""
    vector = value if value.ndim == 2 else value.reshape(-1, 1)
    chosen = ast.literal_eval(index) if not isinstance(index, ast.Slice) else _slice(index)
    if isinstance(chosen, int) and not -vector.shape[1] <= chosen < vector.shape[1]:
        raise IndexError(f"index {chosen} is out of range: {vector.shape[1]} entries")
    return vector[:, chosen]


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
