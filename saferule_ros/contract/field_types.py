"""What a field of a message can hold: numbers become what its type takes, or are refused. None ever wraps round.

Generated messages do not look at what they are given: 200 in an int8 goes out as -56, full ahead as full reverse.
"""

import math
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from saferule_ros.contract.errors import ContractError

_WIDTHS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
# Least and largest number by the type's name: as generated messages call it, and as .msg files do.
_INTEGERS = {
    **{name: (int(np.iinfo(name).min), int(np.iinfo(name).max)) for name in _WIDTHS},
    **dict.fromkeys(("octet", "byte", "char"), (0, 255)),
    **dict.fromkeys(("boolean", "bool"), (0, 1)),
}
_LARGEST = {
    **dict.fromkeys(("float", "float32"), float(np.finfo(np.float32).max)),
    **dict.fromkeys(("double", "float64"), float(np.finfo(np.float64).max)),
}
_TYPE = re.compile(
    r"sequence<(?P<of>[\w/]+)(?:, *(?P<most>\d+))?>|(?P<array_of>[\w/]+)\[(?P<exactly>\d+)\]|(?P<single>[\w/]+)"
)
_ADVICE = "Correct scale, offset, low and high, or give the command another field"


@dataclass(frozen=True)
class FieldType:
    """The type of one field of a generated message.

    Attributes:
        text: as the message has it: int16, sequence<int16, 5>, double[36], geometry_msgs/Point.
        element: the type of the field, or of its entries.
        array: whether it has entries.
        least, most: how many entries it may have; most is None where there is no limit.
    """

    text: str
    element: str
    array: bool = False
    least: int = 0
    most: int | None = None

    @classmethod
    def of(cls, message: Any, name: str) -> "FieldType":
        """That of a field.

        Raises:
            AttributeError: the message has no such field.
        """
        types = message.get_fields_and_field_types()
        if name not in types:
            raise AttributeError(f"{type(message).__name__} has no field {name!r}; it has {', '.join(types)}")
        return _parsed(types[name])

    @property
    def whole(self) -> bool:
        """Whether it holds integers, truth values among them."""
        return self.element in _INTEGERS

    @property
    def numeric(self) -> bool:
        """Whether it holds numbers."""
        return self.whole or self.element in _LARGEST

    def stored(self, number: float) -> Any:
        """What the message takes for a number that fits: see `fit`."""
        return bytes([int(number)]) if self.element == "octet" else number

    def check_length(self, entries: int, where: str) -> None:
        """Raises ContractError unless it can have so many entries."""
        if entries < self.least or (self.most is not None and entries > self.most):
            asked = f"exactly {self.most}" if self.least else f"at most {self.most}"
            raise ContractError(
                f"{where} gets {entries} entries, {self.text} has {asked}", "Name entries that are there: data[0:3]"
            )


@lru_cache(maxsize=256)
def _parsed(text: str) -> FieldType:
    found = _TYPE.fullmatch(text)
    if found is None or found["single"]:  # texts can have a length: string<10>
        return FieldType(text, text, array=text.startswith("sequence<"))
    if found["of"]:
        return FieldType(text, found["of"], True, most=int(found["most"]) if found["most"] else None)
    return FieldType(text, found["array_of"], True, int(found["exactly"]), int(found["exactly"]))


def fit(value: float, kind: str, where: str) -> float:
    """The number that a type makes of `value`: int for integers (to the nearest), bool, or float.

    Args:
        value: to be sent.
        kind: name of the type, as in a generated message (boolean, double) or in a .msg file (bool, float64).
        where: the field's path, for an error.

    Raises:
        ContractError: it is no type of numbers, or does not hold this one.
    """
    if kind in _LARGEST:
        if not math.isfinite(value) or abs(value) > _LARGEST[kind]:
            raise ContractError(f"{where} would get {value:g}, which {kind} does not hold", _ADVICE)
        return float(value)
    if kind not in _INTEGERS:
        raise ContractError(
            f"{where} is of type {kind}, which is no number", "Name a field that holds numbers: linear.x"
        )
    low, high = _INTEGERS[kind]
    if not math.isfinite(value) or not low <= round(value) <= high:
        raise ContractError(f"{where} would get {value:.17g}, {kind} holds {low} to {high}", _ADVICE)
    return bool(round(value)) if kind in ("boolean", "bool") else round(value)
