"""The fields of a message type and of every type inside it, read from the definition that a bag or ROS has of it."""

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from saferule_ros.recording.definitions import SEPARATOR, MessageDefinition, field_list, installed_definition
from saferule_ros.recording.errors import BagError

STRINGS = frozenset(["string", "wstring"])
#: Numbers on the wire by their names in .msg files; a `byte` is an octet, a `char` an unsigned one.
NUMBERS: Mapping[str, np.dtype] = {
    **{name: np.dtype(name) for name in
       ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64", "bool")},
    "byte": np.dtype("uint8"),
    "char": np.dtype("uint8"),
}  # fmt: skip
SCALAR, SEQUENCE = -1, 0  # lengths of what is no fixed array

_ARRAY = re.compile(r"(?P<type>[\w/]+)(?P<bound><=\d+)?(?:\[(?P<size>[^\]]*)\])? (?P<name>\w+)")


class Field(NamedTuple):
    """One field: `length` is SCALAR, SEQUENCE (of any length, bounded or not), or that of a fixed array."""

    name: str
    type: str
    length: int


#: Fields of every type by its full name, "package/msg/Name".
Types = Mapping[str, tuple[Field, ...]]


@lru_cache(maxsize=256)
def parse_types(type_name: str, text: str) -> Types:
    """The type's own fields and those of all types inside it.

    Args:
        type_name: full name of the type.
        text: as in an MCAP schema "ros2msg": its .msg text, then "MSG: package/Name" and text of each type inside.

    Raises:
        BagError: a type inside is not defined in the text.
    """
    types: dict[str, tuple[Field, ...]] = {}
    for number, part in enumerate(re.split(rf"^{SEPARATOR}$", text, flags=re.MULTILINE)):
        name, body = type_name, part
        if number:
            head, _, body = part.lstrip().partition("\n")
            name = full_type_name(head.removeprefix("MSG:").strip(), type_name)
        types[name] = tuple(_field(line, name) for line in field_list(body))
    for name, fields in types.items():
        for field in fields:
            if field.type not in NUMBERS and field.type not in STRINGS and field.type not in types:
                raise BagError(
                    f"the definition of {type_name!r} lacks {field.type!r}, which is in {name!r}",
                    "The bag is damaged, or its recorder left the definition out",
                )
    return types


def full_type_name(name: str, owner: str) -> str:
    """package/msg/Name of a type as it is named inside of `owner`."""
    parts = name.split("/")
    package = parts[0] if len(parts) > 1 else owner.split("/")[0]
    return f"{package}/msg/{parts[-1]}"


def known_definition(type_name: str) -> MessageDefinition:
    """The definition of an installed type, or of one that every ROS 2 has.

    Raises:
        BagError: neither.
    """
    try:
        return installed_definition(type_name)
    except BagError as error:
        from rosbags.typesys import Stores, TypesysError, get_typestore  # slow to import

        store = get_typestore(Stores.LATEST)
        try:
            text, _ = store.generate_msgdef(type_name, ros_version=2)
        except (TypesysError, KeyError):
            raise error from None
        return MessageDefinition(type_name, text, store.hash_rihs01(type_name))


def leaf_paths(types: Types, type_name: str, prefix: str = "") -> Iterator[tuple[str, str]]:
    """(path, type) of every number or text in a message: of an array of messages the first, [0]; of numbers all, []."""
    for field in types[type_name]:
        path = f"{prefix}{field.name}"
        if field.type in NUMBERS or field.type in STRINGS:
            yield path + ("" if field.length == SCALAR else "[]"), field.type
        else:
            inside = "" if field.length == SCALAR else "[0]"
            yield from leaf_paths(types, field.type, f"{path}{inside}.")


def _field(line: str, owner: str) -> Field:
    found = _ARRAY.fullmatch(line)
    assert found is not None, line  # field_list wrote it
    kind, size = found["type"], found["size"]
    if kind not in NUMBERS and kind not in STRINGS:
        kind = full_type_name(kind, owner)
    length = SCALAR if size is None else int(size) if size.isdecimal() else SEQUENCE
    return Field(found["name"], kind, length)
