"""Of what expressions consist: functions, operators, and what is refused when an expression is made."""

import ast
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from saferule_ros.errors import SaferuleError

# Far above what anybody writes; below what could exhaust the stack of the parser or of the evaluation.
MAX_LENGTH = 2000
MAX_NODES = 400

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


# What makes one number of a vector, by name.
REDUCTIONS: dict[str, Callable[..., Any]] = {
    "sum": np.sum, "mean": np.mean, "any": np.any, "all": np.all, "norm": np.linalg.norm,
}  # fmt: skip
# How many arguments each function takes, and what it does.
FUNCTIONS: dict[str, tuple[range, Callable[..., Value]]] = {
    **{name: (range(1, 2), function) for name, function in {
        "abs": np.abs, "sqrt": np.sqrt, "exp": np.exp, "log": np.log, "sin": np.sin, "cos": np.cos, "tan": np.tan,
        "floor": np.floor, "ceil": np.ceil, "sign": np.sign, "isfinite": np.isfinite,
    }.items()},
    **{name: (range(1, 2), _of_vector(name, function)) for name, function in REDUCTIONS.items()},
    "min": (range(1, 9), _least_or_largest("min", np.min, np.minimum)),
    "max": (range(1, 9), _least_or_largest("max", np.max, np.maximum)),
    "atan2": (range(2, 3), np.arctan2),
    "clip": (range(3, 4), np.clip),
    "startswith": (range(2, 3), np.char.startswith),
}  # fmt: skip

BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.Pow: operator.pow,
}  # fmt: skip
COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge,
    ast.Eq: operator.eq, ast.NotEq: operator.ne,
}  # fmt: skip


def parsed(text: str) -> ast.expr:
    """The expression as a tree, all of it of the language.

    Raises:
        ExpressionError: it is not; which part, and what is.
    """
    if not text.strip() or len(text) > MAX_LENGTH:
        raise ExpressionError(
            f"an expression has {len(text)} characters", f"Write 1 to {MAX_LENGTH}, e.g. episode_cost > 25"
        )
    try:
        root = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        why = error.msg if isinstance(error, SyntaxError) else type(error).__name__
        raise ExpressionError(f"{text!r:.200} is no expression: {why}", "For example: min(scan) < 0.3") from error
    _check(root, text)
    return root


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
        if not isinstance(node.func, ast.Name) or node.func.id not in FUNCTIONS or node.keywords:
            return f"the functions are {', '.join(sorted(FUNCTIONS))}, with arguments in their order"
        counts = FUNCTIONS[node.func.id][0]
        if len(node.args) not in counts:
            return f"{node.func.id}() takes {counts.start} to {counts.stop - 1} arguments"
    elif isinstance(node, ast.Name):
        if node.id in FUNCTIONS and not any(node is function for function in functions):
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
            elif type(operation) not in COMPARISONS:
                return "comparisons are < <= > >= == != in"
    elif isinstance(node, ast.BinOp):
        if type(node.op) not in BINARY:
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


def names_in(root: ast.expr) -> frozenset[str]:
    """The columns that a part reads."""
    calls = {id(node.func) for node in ast.walk(root) if isinstance(node, ast.Call)}
    return frozenset(node.id for node in ast.walk(root) if isinstance(node, ast.Name) and id(node) not in calls)
