"""Whether the fields that a contract names are in their message types, and how many numbers they give."""

import re
from collections.abc import Mapping

import numpy as np

from saferule_ros.contract.check_result import ContractCheck, Problem
from saferule_ros.contract.command import Command
from saferule_ros.contract.errors import ContractError
from saferule_ros.contract.field_types import fit
from saferule_ros.contract.model import Action, Source
from saferule_ros.contract.paths import FieldPath
from saferule_ros.contract.translation import types_of
from saferule_ros.dataset.naming import closest
from saferule_ros.recording.errors import BagError
from saferule_ros.recording.message_types import SCALAR, STRINGS, Types, known_definition, leaf_paths, parse_types
from saferule_ros.recording.scan import TopicInfo


def check_fields(
    where: str, source: Source | Action, known: Mapping[str, TopicInfo], result: ContractCheck
) -> int | None:
    """Whether type and fields exist; how many numbers they are, where the definition tells."""
    info = known.get(source.topic)
    if info is not None and info.type != source.type:
        result.problems.append(
            Problem(where, f"topic {source.topic!r} has type {info.type!r}, not {source.type!r}", "Correct the type")
        )
        return None
    try:
        text = info.definition if info is not None and info.definition else known_definition(source.type).text
        types = parse_types(source.type, text)
    except BagError as error:
        result.problems.append(Problem(where, error.what, error.hint))
        return None
    if source.joints:
        size: int | None = len(source.joints) * len(source.fields)
        _size_of(types, source.type, FieldPath.parse(source.joint_names), f"{where}, joint_names", result, texts=True)
        for text in source.fields:
            _size_of(types, source.type, FieldPath.parse(text), where, result)
    else:
        sizes = [_size_of(types, source.type, FieldPath.parse(text), where, result) for text in source.fields]
        size = None if None in sizes else sum(one or 0 for one in sizes)
    given = source.size if isinstance(source, Source) else None
    if given is not None and size is not None and given != size:
        result.problems.append(Problem(where, f"size is {given}, its fields have {size} numbers", "Correct size"))
    size = given or size
    if isinstance(source, Source):
        size = size or source.numbers
    for name in ("scale", "offset"):
        factors = getattr(source, name)
        if isinstance(source, Source) and size is not None and isinstance(factors, list) and len(factors) != size:
            what = f"{name} has {len(factors)} numbers for {size} values"
            result.problems.append(Problem(where, what, "Give as many"))
    return size


def check_range(known: Mapping[str, TopicInfo], result: ContractCheck) -> None:
    """Whether the types of the command's fields hold least and largest action."""
    about = result.contract.action
    command = Command(about)
    kinds = dict(leaf_paths(types_of(about.topic, about.type, known.get(about.topic)), about.type))
    leaves = {re.sub(r"\[\d*\]", "", name): (kind, name.endswith("]")) for name, kind in kinds.items()}
    for name, action in {"low": about.low, "high": about.high}.items():
        values = command.values(np.array(action, np.float64)).tolist()
        at = 0
        for text in about.fields:
            path = FieldPath.parse(text)
            kind, array = leaves.get(re.sub(r"\[\d+\]", "", path.base), ("", False))
            if not kind:  # a part with several numbers: it is read, but cannot be written
                result.problems.append(Problem("action", f"{text} is no number and no array", "Name its fields"))
                return
            count = len(command.entries(path, len(values) - at)) if array else 1
            for value in values[at : at + count]:
                try:
                    fit(value, kind, text)
                except ContractError as error:
                    result.problems.append(Problem("action", f"{error.what}, for {name}", error.hint))
            at += count


def _size_of(
    types: Types, type_name: str, path: FieldPath, where: str, result: ContractCheck, texts: bool = False
) -> int | None:
    """How many numbers a field is; None where only a message tells, or where it is not there."""
    leaves = {re.sub(r"\[\d*\]", "", name): kind for name, kind in leaf_paths(types, type_name)}
    plain = re.sub(r"\[\d+\]", "", path.base)
    inside = [name for name in leaves if name == plain or name.startswith(f"{plain}.")]
    if not inside or (inside != [plain] and path.index is not None):
        names = [name for name, kind in leaf_paths(types, type_name) if texts or kind not in STRINGS]
        result.problems.append(
            Problem(where, f"{type_name} has no field {path.text!r}", closest(plain, names, "field"))
        )
        return None
    if not texts and any(leaves[name] in STRINGS for name in inside):
        result.problems.append(Problem(where, f"{path.text} of {type_name} is a text", "Give a number or an array"))
        return None
    sizes = [_length(types, type_name, name) for name in inside]
    whole = None if None in sizes else sum(size or 0 for size in sizes)
    if isinstance(path.index, int):
        return 1
    if path.index is None or whole is not None:
        return whole if path.index is None else len(path.entries(whole or 0))
    # Of an array of any length: a slice with bounds that do not count from the end says it.
    index = path.index
    bounded = index.stop is not None and index.stop >= 0 and (index.start or 0) >= 0 and (index.step or 1) > 0
    return len(range(index.start or 0, index.stop, index.step or 1)) if bounded else None


def _length(types: Types, type_name: str, plain: str) -> int | None:
    """Numbers of one leaf: 1, that of a fixed array, or None for a sequence."""
    length: int | None = 1
    for step in plain.split("."):
        found = next(one for one in types[type_name] if one.name == step)
        type_name = found.type
        if found.type in types and found.length != SCALAR:
            continue  # one entry of it is named
        length = 1 if found.length == SCALAR else found.length or None
    return length
