"""Actions to the robot's command and back: bounds, rate limit, and where the numbers stand in the message."""

import importlib
import re
from typing import Any

import numpy as np
import numpy.typing as npt

from saferule_ros.contract.errors import ContractError
from saferule_ros.contract.field_types import FieldType, fit
from saferule_ros.contract.model import Action
from saferule_ros.contract.paths import FieldPath
from saferule_ros.units import NANOSECONDS


class Command:
    """The action sink of a contract.

    Args:
        about: the contract's words.
    """

    def __init__(self, about: Action) -> None:
        self.about = about
        self._low, self._high = np.array(about.low), np.array(about.high)
        self._scale = np.broadcast_to(np.asarray(about.scale, np.float64), self._low.shape)
        self._offset = np.broadcast_to(np.asarray(about.offset, np.float64), self._low.shape)

    @property
    def first(self) -> npt.NDArray[np.float64]:
        """What counts as the last command where there was none (A,)."""
        return np.array(self.about.first, np.float64)

    def stop(self, last: npt.NDArray[np.float64] | None) -> npt.NDArray[np.float64] | None:
        """What is sent where there is no command (A,); None: nothing, as there is no command to hold.

        Args:
            last: what was sent before (A,); None: nothing yet.
        """
        return last if self.about.stop == "hold" else self.first

    def held(
        self, action: npt.NDArray[np.floating], last: npt.NDArray[np.float64], since: int
    ) -> npt.NDArray[np.float64]:
        """The action within reach of the last one, and within the bounds whatever the last one was.

        Args:
            action: (A,), finite, in the policy's units.
            last: what was sent before (A,).
            since: how long ago that was [ns]; a clock that was set back says less than 0, which counts as 0.
        """
        wanted = np.asarray(action, np.float64)
        if self.about.max_rate is not None:
            reach = np.array(self.about.max_rate) * (max(since, 0) / NANOSECONDS)
            wanted = np.clip(wanted, last - reach, last + reach)
        return np.clip(wanted, self._low, self._high)

    def values(self, action: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """The numbers in the message (A,)."""
        return self._scale * action + self._offset

    def action(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """The action (A,) that a message with these numbers is."""
        return (values - self._offset) / self._scale

    def fill(self, message: Any, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Writes numbers and constants into an empty message of the contract's type.

        Args:
            message: of the contract's type, as ROS generates it.
            values: see `values`, (A,).

        Returns:
            The numbers as they stand in it now (A,): in fields of integers they are rounded.

        Raises:
            ContractError: a field holds no numbers, or not this one; it has fewer entries.
            AttributeError, IndexError, TypeError, ValueError, AssertionError: it has no such field.
        """
        if self.about.joints:
            _assign(message, self.about.joint_names, list(self.about.joints))
        for path, constant in self.about.constants.items():
            _assign(message, path, constant)
        written: list[float] = []
        for text in self.about.fields:
            field = FieldPath.parse(text)
            owner, name = _owner(message, field.base)
            kind = FieldType.of(owner, name)
            if not kind.array:
                written.append(fit(values[len(written)], kind.element, text))
                setattr(owner, name, kind.stored(written[-1]))
                continue
            entries = self.entries(field, len(values) - len(written))
            current = np.asarray(getattr(owner, name)).tolist()
            empty = kind.stored(fit(0.0, kind.element, text))
            current += [empty] * (max(entries, default=-1) + 1 - len(current))
            for entry in entries:
                written.append(fit(values[len(written)], kind.element, text))
                current[entry] = kind.stored(written[-1])
            kind.check_length(len(current), text)
            setattr(owner, name, current)
        return np.array(written, np.float64)

    def entries(self, field: FieldPath, left: int) -> list[int]:
        """Which entries of an array are written: one, a slice with an end, or as many as numbers are left.

        Args:
            field: the array's path.
            left: how many of the action's numbers no field before has taken.
        """
        if self.about.joints:
            return list(range(len(self.about.joints)))
        if isinstance(field.index, int):
            return [field.index]
        if field.index is None or field.index.stop is None:
            return list(range(left))
        return list(range(*field.index.indices(field.index.stop)))


def _owner(message: Any, path: str) -> tuple[Any, str]:
    """The structure that a path's last step is in. Entries of arrays of structures are made as far as needed."""
    *steps, last = path.split(".")
    for step in steps:
        name, _, index = step.rstrip("]").partition("[")
        inside = getattr(message, name)
        if index:
            made = list(inside)
            while len(made) <= int(index):
                made.append(_entry_type(message, name)())
            setattr(message, name, made)
            inside = getattr(message, name)[int(index)]
        message = inside
    return message, last


def _entry_type(message: Any, name: str) -> Any:
    """The class of the entries of an array of messages, as ROS generates it: by the field's type and its package."""
    found = re.match(r"(?:sequence<)?(\w+)/(\w+)", message.get_fields_and_field_types()[name])
    if found is None:
        raise AttributeError(f"{name} is no array of messages")
    return getattr(importlib.import_module(f"{found[1]}.msg"), found[2])


def _assign(message: Any, path: str, value: Any) -> None:
    """Writes a constant. One that is no whole number is not rounded into a field of integers: it is a mistake."""
    owner, name = _owner(message, path)
    kind = FieldType.of(owner, name)
    if kind.numeric:
        given = value if isinstance(value, list) else [value]
        found = [kind.stored(fit(one if isinstance(one, int) else float(one), kind.element, path)) for one in given]
        if kind.whole and any(float(one) % 1 for one in given):
            raise ContractError(f"the constant of {path} is {value}, {kind.text} holds whole numbers", "Correct it")
        if isinstance(value, list) != kind.array:
            raise ContractError(f"the constant of {path} is {value}, the field is {kind.text}", "Correct it")
        if kind.array:
            kind.check_length(len(found), path)
        value = found if kind.array else found[0]
    setattr(owner, name, value)
