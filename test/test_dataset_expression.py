"""The expression language computes what it says, and nothing of Python can be reached through it."""

import re

import numpy as np
import pytest

from saferule_ros.dataset.expression import Expression, ExpressionError
from saferule_ros.dataset.expression_syntax import MAX_NODES

COLUMNS = {
    "scan": np.array([[1.0, 0.2, 3.0], [4.0, 5.0, 6.0]]),
    "odom": np.array([[1.0, 2.0], [-3.0, 4.0]]),
    "speed": np.array([0.5, 2.0]),
    "one": np.array([[1.0], [2.0]]),
    "bag": np.array(["monday", "tuesday"]),
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("min(scan) < 0.3 and odom[1] > 0", [True, False]),
        ("-speed * 2 + norm(odom)", [5**0.5 - 1, 1.0]),
        ("sum(scan[1:]) if bag == 'monday' else 7", [3.2, 7.0]),
        ("0 < odom[0] <= 1", [True, False]),
        ("not (bag in ('monday', 'friday'))", [False, True]),
        ("bag not in ['monday']", [False, True]),
        ("startswith(bag, 'tue')", [False, True]),
        ("max(scan[0], one, speed)", [1.0, 4.0]),
        ("clip(odom[-1], 0, 3)", [2.0, 3.0]),
        ("one", [1.0, 2.0]),
        ("max(scan * one)", [3.0, 12.0]),
        ("7 // 2 % 2 ** 2", [3.0, 3.0]),
        ("any(scan > 5.5) or all(scan < 4)", [True, True]),
        ("True", [True, True]),
        ("abs(odom[0]) - mean(scan)", [1 - 1.4, 3 - 5.0]),
        ("9 ** 9 ** 9 ** 9", [np.inf, np.inf]),  # in floats: no number of a billion digits
    ],
)
def test_it_computes_every_row(text, expected):
    assert Expression(text).evaluate(COLUMNS) == pytest.approx(expected)


def test_its_names_are_the_columns_that_it_reads():
    assert Expression("min(scan) < 0.3 and bag == 'speed'").names == {"scan", "bag"}


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')", "speed.__class__", "(1).real", "[x for x in (1, 2)]", "lambda: 1",
        "f'{bag}'",
        "open('x')", "min(scan, key=abs)", "min.__doc__", "speed := 3", "scan[speed]", "scan[(1, 2)]", "~speed",
        "speed @ speed", "{1: 2}", "(yield)", "await speed", "1j", "b'x'", "None", "*scan", "speed is 1", "min", "",
        "speed <", "x" * 3000, "(" * 500 + "1" + ")" * 500, "bag in speed", "()", "exp()",
        "+".join(["1"] * (MAX_NODES + 1)),
    ],
)  # fmt: skip
def test_what_is_not_of_the_language_is_refused_when_it_is_made(text):
    with pytest.raises(ExpressionError):
        Expression(text).evaluate(COLUMNS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("spead > 1", "unknown column 'spead'. Did you mean 'speed'"),
        ("scan", "gives 3 values, not one"),
        ("scan[3] > 0", "index 3 is out of range: 3 entries"),
        ("all(scan[2:4] > 0)", "slice 2:4 is out of range: 3 entries"),
        ("all(scan[3:] > 0)", "slice 3: is out of range: 3 entries"),
        ("sum(scan[-4:]) > 0", "slice -4: is out of range: 3 entries"),
        ("all(scan[2:1] > 0)", "slice 2:1 is out of range: 3 entries"),
        ("bag > 3", "compares a text with a number"),
        ("min(speed)", "takes one vector"),
        ("scan + odom", "cannot be evaluated"),
        ("bag * 1000000000", "cannot be evaluated"),
        (f"speed > 1{'0' * 400}", "cannot be evaluated: int too large"),
    ],
)
def test_what_does_not_fit_the_columns_is_told(text, message):
    with pytest.raises(ExpressionError, match=re.escape(message)):
        Expression(text).evaluate(COLUMNS)


def test_a_number_that_no_float_can_hold_is_no_truth_of_a_single_row_either():
    with pytest.raises(ExpressionError, match="cannot be evaluated: int too large"):
        Expression(f"speed > 1{'0' * 400}").holds({"speed": np.array([1.0])})


RATIO = {
    "x": np.array([1.0, 0.0, 5.0]),
    "y": np.array([1.0, 0.0, 0.0]),
    "v": np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]),
}


@pytest.mark.parametrize(
    "text", ["x / y > 2", "y / y < 3", "1 / y > 0", "sqrt(x - 1) < 3", "exp(1000 * x) > 1", "log(y) < 0", "x % y == 0"]
)
def test_a_comparison_with_what_is_no_number_is_an_error_where_it_is_acted_on(text):
    with pytest.raises(ExpressionError, match="encountered in") as error:
        Expression(text).evaluate_truth(RATIO, "")
    assert "x / y > 2 if y > 0 else False" in error.value.hint
    assert Expression(text).evaluate_truth(RATIO, "", strict=False).dtype == np.bool_, (
        "to try an expression on any numbers"
    )
    wrong = []
    for row in range(3):
        try:
            Expression(text).holds({name: column[row : row + 1] for name, column in RATIO.items()})
        except ExpressionError:
            wrong.append(row)
    assert wrong, "row by row, too"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x / y > 0.5 if y > 0 else False", [True, False, False]),
        ("y > 0 and x / y > 0.5", [True, False, False]),
        ("y == 0 or x / y > 2", [False, True, True]),
        ("not (y == 0 or x / y > 2)", [True, False, False]),
        ("norm(v / y if y > 0 else 2 * v) > 7", [False, True, True]),
        ("(1 / y if y > 0 else 1 / x if x > 0 else 7) == 1", [True, False, False]),
        ("True and (x > 0 or False)", [True, False, True]),
        ("1 / x > 0 if False else True", [True, True, True]),
    ],
)
def test_what_a_row_does_not_need_is_not_computed_for_it(text, expected):
    expression = Expression(text)
    assert expression.evaluate_truth(RATIO, "").tolist() == expected
    rows = [{name: column[row : row + 1] for name, column in RATIO.items()} for row in range(3)]
    assert [expression.holds(row) for row in rows] == expected


@pytest.mark.parametrize("rows", [1, 2, 3, 4])  # as many rows as the vector has entries, too
@pytest.mark.parametrize("truths", ["all", "none", "mixed"])
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_number_beside_a_vector_is_each_entry_of_its_row(rows, truths, mirrored):
    vectors = np.arange(3.0 * rows).reshape(rows, 3) - 4.0
    numbers = -10.0 - np.arange(rows)
    asked = {"all": np.ones(rows), "none": np.zeros(rows), "mixed": np.arange(rows) % 2.0}[truths]
    columns = {"v": vectors, "f": numbers, "asked": asked}
    choice = "f if asked == 0 else v" if mirrored else "v if asked else f"
    parts = zip(vectors, numbers, asked, strict=True)
    expected = [vector.sum() if ask else 3 * number for vector, number, ask in parts]
    assert Expression(f"sum({choice})").evaluate(columns, strict=True).tolist() == expected
    largest = [vector.max() if ask else 0.0 for vector, ask in zip(vectors, asked, strict=True)]
    constant = "0 if asked == 0 else v" if mirrored else "v if asked else 0"
    assert Expression(f"max({constant})").evaluate(columns, strict=True).tolist() == largest
    singles = [{name: column[row : row + 1] for name, column in columns.items()} for row in range(rows)]
    assert [Expression(f"sum({choice}) > -13").holds(one) for one in singles] == [one > -13 for one in expected]


def test_what_no_row_needs_must_still_be_of_the_language_and_of_the_right_size():
    for text in ("v[2] > 0 if x > 100 else True", "x > 100 and v[2] > 0"):
        with pytest.raises(ExpressionError, match="index 2 is out of range"):
            Expression(text).evaluate(RATIO)
    with pytest.raises(ExpressionError, match="'v > 1' gives 2 values, not one"):
        Expression("v > 1 and x > 0").evaluate(RATIO)


class Watched(dict):
    """Columns that say which of them were read."""

    def __init__(self, columns):
        super().__init__(columns)
        self.read = []

    def __getitem__(self, name):
        self.read.append(name)
        return super().__getitem__(name)


@pytest.mark.parametrize(
    ("text", "truth", "read"),
    [
        ("x > 2 and min(v) > 0", False, ["x"]),
        ("x > 0 or v[9] > 0", True, ["x"]),
        ("x > 0 and (y > 0 or min(v) > 0)", True, ["x", "y", "v"]),
        ("min(v) > 9 if x > 2 else y == 0", True, ["x", "y"]),
        ("True if x > 0 else v[9] > 0", True, ["x"]),
        ("not (x > 2 and y > 0)", True, ["x"]),
    ],
)
def test_of_a_single_row_nothing_is_looked_at_that_it_does_not_need(text, truth, read):
    expression = Expression(text)
    columns = Watched({"x": np.array([1.0]), "y": np.array([0.0]), "v": np.array([[1.0, 2.0]])})
    assert expression.holds(columns) == truth and columns.read == read
    assert expression.number(columns) == truth
    if "v[9]" in text:
        with pytest.raises(ExpressionError, match="out of range"):
            expression.evaluate(columns)
    else:
        assert expression.evaluate(columns).tolist() == [truth]


@pytest.mark.parametrize("text", ["x if x > 1 else 7", "v[0] + x > 2 and y < 1", "-x if y else norm(v)", "one", "True"])
def test_the_number_of_a_single_row_is_that_of_many(text):
    columns = RATIO | {"one": np.array([[3.0], [4.0], [5.0]])}
    singles = [{name: column[row : row + 1] for name, column in columns.items()} for row in range(3)]
    assert [Expression(text).number(one) for one in singles] == Expression(text).evaluate(columns).tolist()


def test_no_number_of_a_single_row_is_told():
    columns = {"x": np.array([1.0]), "v": np.array([[1.0, 2.0]]), "bag": np.array(["monday"])}
    wrong = {"v": "gives 2 values", "bag": "could not convert", "0 / (x - 1)": "invalid value", "z": "unknown column"}
    for text, message in wrong.items():
        with pytest.raises(ExpressionError, match=message):
            Expression(text).number(columns)


def test_a_part_is_evaluated_with_the_columns_that_it_reads():
    class Untouchable:
        def __array__(self, *_args, **_more):
            raise AssertionError("copied")

    columns = RATIO | {"never_read": Untouchable()}
    assert Expression("x / y > 0.5 if y > 0 else False").evaluate(columns).tolist() == [True, False, False]
