"""Which entries of a vector a text names: x[3], x[-1], x[0:180:10], or all of them, x."""

import re

_NUMBER = r"-?\d+"
#: What may stand behind a vector's name, as a part of a pattern of its own; empty: all of it.
SUBSCRIPT = rf"(?P<subscript>(?:\[(?:{_NUMBER}|(?:{_NUMBER})?:(?:{_NUMBER})?(?::(?:{_NUMBER})?)?)\])?)"


def split_subscript(found: re.Match[str]) -> int | slice | None:
    """The index or slice of a match of a pattern with SUBSCRIPT in it; None: all of the vector.

    Raises:
        ValueError: step 0. A settings model turns it into its own error.
    """
    inside = found["subscript"][1:-1]
    if not inside:
        return None
    if ":" not in inside:
        return int(inside)
    numbers = slice(*(int(number) if number else None for number in inside.split(":")))
    if numbers.step == 0:
        raise ValueError(f"{found.string!r} has step 0")
    return numbers
