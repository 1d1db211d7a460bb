"""Message definitions as bags carry them: the .msg text of a type and of every type inside it."""

import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from saferule_ros.dataset.naming import closest
from saferule_ros.recording.errors import BagError

# This line and "MSG: package/Type" stand before each nested definition (MCAP's schema encoding "ros2msg").
SEPARATOR = "=" * 80
_INTEGERS = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
_PRIMITIVES = frozenset([*_INTEGERS, "bool", "byte", "char", "float32", "float64", "string", "wstring"])
_FIELD = re.compile(
    r"(?P<type>[A-Za-z][\w/]*)(?P<bound><=\d+)?(?P<array>\[[^\]]*\])?\s+(?P<name>[A-Za-z]\w*)(?P<rest>.*)"
)


@dataclass(frozen=True)
class MessageDefinition:
    """What a bag says of a message type.

    Attributes:
        type: "package/msg/Name".
        text: .msg text, followed by those of all types inside it.
        type_hash: "RIHS01_…" (REP-2016); empty where the distribution has none (Humble).
    """

    type: str
    text: str
    type_hash: str


def installed_definition(type_name: str, prefixes: Iterable[Path] | None = None) -> MessageDefinition:
    """Reads the definition of an installed message type.

    Args:
        type_name: "package/msg/Name".
        prefixes: install prefixes to look in; by default those of AMENT_PREFIX_PATH.

    Raises:
        BagError: the type, or one inside it, is not installed.
    """
    where = _prefixes_of_environment() if prefixes is None else list(prefixes)
    root = _find(type_name, where).read_text()
    texts = {type_name: root}
    waiting = _nested_types(root, type_name)
    while waiting:
        nested = waiting.pop(0)
        if nested not in texts:
            texts[nested] = _find(nested, where).read_text()
            waiting += _nested_types(texts[nested], nested)
    parts = [root.rstrip("\n")]
    for nested in list(texts)[1:]:
        parts += [SEPARATOR, f"MSG: {_short(nested)}", texts[nested].rstrip("\n")]
    return MessageDefinition(type_name, "\n".join(parts) + "\n", _type_hash(type_name, where))


def field_list(text: str) -> tuple[str, ...]:
    """The fields of the first definition in `text`, "type name" each: no comments, constants, defaults."""
    root = text.split(SEPARATOR)[0]
    found = (_FIELD.fullmatch(line.split("#")[0].strip()) for line in root.splitlines())
    return tuple(
        f"{field['type']}{field['bound'] or ''}{field['array'] or ''} {field['name']}"
        for field in found
        if field and not field["rest"].strip().startswith("=")
    )


def _prefixes_of_environment() -> list[Path]:
    return [Path(prefix) for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if prefix]


def _find(type_name: str, prefixes: list[Path], suffix: str = ".msg") -> Path:
    package, _, name = type_name.split("/")
    for prefix in prefixes:
        path = prefix / "share" / package / "msg" / f"{name}{suffix}"
        if path.is_file():
            return path
    folders = [prefix / "share" / package / "msg" for prefix in prefixes]
    known = sorted({path.stem for folder in folders for path in folder.glob(f"*{suffix}")})
    raise BagError(
        f"the definition of {type_name!r} is not installed under {[str(prefix) for prefix in prefixes]}",
        closest(name, known, "message") if known
        else "Source the workspace's install/setup.bash, which sets AMENT_PREFIX_PATH",
    )  # fmt: skip


def _nested_types(text: str, owner: str) -> list[str]:
    types = []
    for field in field_list(text):
        name = re.split(r"[<\[ ]", field)[0]
        if name in _PRIMITIVES:
            continue
        package = name.split("/")[0] if "/" in name else owner.split("/")[0]
        types.append(f"{package}/msg/{name.split('/')[-1]}")
    return types


def _short(type_name: str) -> str:
    package, _, name = type_name.split("/")
    return f"{package}/{name}"


def _type_hash(type_name: str, prefixes: list[Path]) -> str:
    try:
        description = json.loads(_find(type_name, prefixes, ".json").read_text())
    except BagError:
        return ""
    hashes = {entry["type_name"]: entry["hash_string"] for entry in description.get("type_hashes", [])}
    return hashes.get(type_name, "")
