"""Expressions over named columns: a small, safe language. Nothing of Python is run, only arithmetic on arrays.

    min(scan) < 0.3 and abs(odom[1]) > 0.1
    episode_cost > 25 and bag in ("tuesday", "wednesday")

Numbers, strings, names, + - * / // % **, comparisons (chained ones too), `and`, `or`, `not`, `in` a list of constants,
`a if condition else b`, an index or slice of a vector, and the functions below. Everything is evaluated for many rows
at once: a name stands for an array (N,), or (N, K) for a vector, of which `x[2]` is one entry of each row. What a row
does not need is not computed for it: `x / y > 2 if y > 0 else False` and `y > 0 and x / y > 2` divide by no zero.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from saferule_ros.dataset.expression_evaluation import evaluated, one_number, rows_of
from saferule_ros.dataset.expression_syntax import ExpressionError, Value, names_in, parsed
from saferule_ros.dataset.naming import closest

# A comparison with what is not a number is false, one with infinity as good as made up: where the value is acted on,
# 0 / 0, 1 / 0, sqrt(-1) and exp(1000) are errors.
_STRICT: Any = {"invalid": "raise", "divide": "raise", "over": "raise"}
_WRONG = (TypeError, ValueError, KeyError, IndexError, OverflowError, FloatingPointError, np.exceptions.AxisError)
_GUARD = "Do sizes and types fit? Keep what is no number out: x / y > 2 if y > 0 else False"


class Expression:
    """One expression, checked when it is made.

    Args:
        text: see the module.

    Raises:
        ExpressionError: it is not of the language; which part, and what is.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._root = parsed(text)

    @cached_property
    def names(self) -> frozenset[str]:
        """The columns that it reads."""
        return names_in(self._root)

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
                found = np.asarray(evaluated(self._root, columns, False))
        except _WRONG as error:
            raise ExpressionError(f"{self.text!r:.200} cannot be evaluated: {error}", _GUARD) from error
        if found.ndim == 2 and found.shape[1] == 1:
            found = found[:, 0]
        if found.ndim > 1:
            raise ExpressionError(
                f"{self.text!r} gives {found.shape[1]} values, not one", "Take an entry, x[0], or min, max, sum, norm"
            )
        return np.broadcast_to(found, (rows_of(columns),))

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
                return bool(evaluated(self._root, columns, True))
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
                return float(one_number(evaluated(self._root, columns, True), self.text).item())
        except _WRONG as error:
            raise ExpressionError(f"{self.text!r} cannot be evaluated: {error}", _GUARD) from error

    def __repr__(self) -> str:
        return f"Expression({self.text!r})"
