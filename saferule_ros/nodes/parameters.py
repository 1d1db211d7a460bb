"""ROS parameters as one frozen dataclass per node: each with type, description, unit and range.

    @dataclass(frozen=True)
    class Parameters:
        deadline: float = parameter(0.02, "time allowed for one action", unit="s", low=1e-4, high=10.0)

    settings = load(node, Parameters)

`load` declares every field with a ParameterDescriptor, so `ros2 param describe` shows unit and range and ROS
itself refuses a value outside them. Fields without `changeable=True` are read-only after the start.
"""

from __future__ import annotations

import array
import dataclasses
import difflib
import math
import typing
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter

from saferule_ros.errors import SettingsError

T = TypeVar("T")

# Names that rclpy reads itself; they may stand in a parameter file without being declared by a node.
_RCLPY_NAMES = ("use_sim_time", "start_type_description_service", "qos_overrides.")


@dataclasses.dataclass(frozen=True)
class _About:
    description: str
    unit: str
    low: float | None
    high: float | None
    choices: tuple[str, ...]
    required: bool
    changeable: bool


def parameter(
    default: Any,
    description: str,
    *,
    unit: str = "",
    low: float | None = None,
    high: float | None = None,
    choices: Sequence[str] = (),
    required: bool = False,
    changeable: bool = False,
) -> Any:
    """A dataclass field that is a ROS parameter.

    Args:
        default: bool, int, float, str, or a tuple of floats; the field's annotation must agree.
        description: what it means, one line, without unit and range (they are added).
        unit: SI unit or "steps", "episodes"...
        low, high: inclusive range of a number, or of each entry of a tuple; give both or none.
        choices: allowed strings.
        required: an empty string is refused (there is no sensible default, e.g. a folder).
        changeable: may be set while the node runs (see `on_change`); otherwise read-only.
    """
    about = _About(description, unit, low, high, tuple(choices), required, changeable)
    return dataclasses.field(default=default, metadata={"about": about})


def load(node: Node, kind: type[T]) -> T:
    """Declares every field of dataclass `kind` on `node` and returns the values, validated.

    Raises:
        SettingsError: a value has the wrong type or is out of range, or the node was given a parameter that
            it does not have (ROS itself would ignore a misspelt name in silence).
    """
    types = typing.get_type_hints(kind)
    given = _overrides(node)
    _refuse_unknown_names(node, given, list(types))
    values: dict[str, Any] = {}
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        about: _About = field.metadata["about"]
        default = list(field.default) if isinstance(field.default, tuple) else field.default
        # rclpy takes the type from the default, and would take an empty list for a byte array.
        declared = Parameter.Type.DOUBLE_ARRAY if default == [] else default
        what = f"Parameter {field.name} of {node.get_name()} is {given.get(field.name)!r}"
        try:
            found = node.declare_parameter(field.name, declared, _descriptor(about, types[field.name])).value
        except InvalidParameterTypeException as error:
            raise SettingsError(what, f"Give a {_type_name(types[field.name])}") from error
        except InvalidParameterValueException as error:
            raise SettingsError(what, _allowed(about)) from error
        value = tuple(found or ()) if isinstance(field.default, tuple) else found
        _check(node.get_name(), field.name, value, about)
        values[field.name] = value
    return kind(**values)


def on_change(node: Node, settings: T, apply: Callable[[T], None]) -> None:
    """Calls `apply` with new settings whenever a changeable parameter was set; refuses bad values.

    Call after `load`. ROS itself refuses read-only and out-of-range values before.
    """
    current = settings
    fields = {f.name: f.metadata["about"] for f in dataclasses.fields(settings)}  # type: ignore[arg-type]

    def check(changes: list[Parameter]) -> SetParametersResult:
        for change in changes:
            if change.name in fields:
                try:
                    _check(node.get_name(), change.name, change.value, fields[change.name])
                except SettingsError as error:
                    return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def accept(changes: list[Parameter]) -> None:
        nonlocal current
        new = {
            c.name: tuple(c.value) if isinstance(getattr(current, c.name), tuple) else c.value
            for c in changes
            if c.name in fields
        }
        if new:
            current = dataclasses.replace(current, **new)  # type: ignore[type-var]
            apply(current)

    node.add_on_set_parameters_callback(check)
    node.add_post_set_parameters_callback(accept)


def _overrides(node: Node) -> dict[str, Any]:
    # Not a public attribute, but the same one from Humble to Kilted, and the only way to see misspelt names.
    return {name: given.value for name, given in getattr(node, "_parameter_overrides", {}).items()}


def _refuse_unknown_names(node: Node, given: Iterable[str], known: list[str]) -> None:
    for name in given:
        if name in known or name.startswith(_RCLPY_NAMES) or node.has_parameter(name):
            continue
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"Did you mean {close[0]}?" if close else f"It has: {', '.join(sorted(known))}"
        raise SettingsError(f"{node.get_name()} has no parameter {name!r}", hint)


def _descriptor(about: _About, kind: Any) -> ParameterDescriptor:
    text = about.description + (f" [{about.unit}]" if about.unit else "")
    descriptor = ParameterDescriptor(
        description=text, additional_constraints=_allowed(about), read_only=not about.changeable
    )
    if about.low is not None and about.high is not None:
        if kind is float:
            descriptor.floating_point_range = [FloatingPointRange(from_value=about.low, to_value=about.high)]
        elif kind is int:
            descriptor.integer_range = [IntegerRange(from_value=int(about.low), to_value=int(about.high), step=1)]
    return descriptor


def _check(node_name: str, name: str, value: Any, about: _About) -> None:
    numbers = value if isinstance(value, (tuple, list, array.array)) else (value,)
    for number in numbers:
        if isinstance(number, float) and not math.isfinite(number):
            raise SettingsError(f"Parameter {name} of {node_name} is {value!r}", _allowed(about))
        if about.low is not None and about.high is not None and not about.low <= number <= about.high:
            raise SettingsError(f"Parameter {name} of {node_name} is {value!r}", _allowed(about))
    if about.choices and value not in about.choices:
        raise SettingsError(f"Parameter {name} of {node_name} is {value!r}", _allowed(about))
    if about.required and not value:
        raise SettingsError(f"Parameter {name} of {node_name} is not set", f"It is: {about.description}")


def _allowed(about: _About) -> str:
    unit = f" {about.unit}" if about.unit else ""
    if about.choices:
        return "Allowed: " + ", ".join(repr(str(choice)) for choice in about.choices)
    if about.low is not None:
        return f"Allowed: {about.low:g} to {about.high:g}{unit}"
    return "Required" if about.required else f"Give: {about.description}"


def _type_name(kind: Any) -> str:
    names = {
        bool: "true or false",
        int: "whole number",
        float: "number with a decimal point (1.0, not 1)",
        str: "text",
    }
    return names.get(kind, "list of numbers with a decimal point ([0.0, 1.0])")
