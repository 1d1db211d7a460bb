"""Settings files: YAML, validated against a model that knows every field's range and meaning."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from saferule_ros.errors import SettingsError

Settings = TypeVar("Settings", bound=BaseModel)

#: Characters of a wrong value that are shown.
LONGEST_SHOWN = 200

#: In the context of a model's validation: folder of the file that is read.
FOLDER = "folder"


def load_settings(model: type[Settings], path: Path | None) -> Settings:
    """Reads a YAML file into a settings model; without a file, the model's defaults.

    Raises:
        SettingsError: unreadable, not YAML, or a field that is unknown or out of range; it is named with its value.
    """
    return load_settings_with(model, path, {})


# Errors that the names of settings help with; where both are found, a misspelt one tells where to look.
_OF_NAMES = ("extra_forbidden", "missing")


def load_settings_with(model: type[Settings], path: Path | None, given: Mapping[str, Any]) -> Settings:
    """The same, with some fields given by other means, which a file may not give as well; raises as load_settings."""
    content = {} if path is None else _read(path)
    file = "settings" if path is None else f"settings file {str(path)!r}"
    if isinstance(content, dict):
        twice = sorted(given.keys() & content.keys())
        if twice:
            raise SettingsError(f"{file}: {twice[0]} is given on the command line already", "Leave it out of the file")
        content = {**content, **given}
    try:
        # Files that it names lie beside it, wherever the program was started.
        return model.model_validate(content, context={FOLDER: path.parent if path is not None else Path()})
    except ValidationError as error:
        found = error.errors()
        wrong = "; ".join(_told(_located(model, item)[0], item) for item in found)
        named = sorted((one for one in found if one["type"] in _OF_NAMES), key=lambda one: _OF_NAMES.index(one["type"]))
        known = f"Known settings: {', '.join(_located(model, named[0])[1])}" if named else "Correct what is named there"
        raise SettingsError(f"{file}: {wrong}", known) from error


def _told(place: str, error: Mapping[str, Any]) -> str:
    message = error["msg"].removeprefix("Value error, ")
    if not place and error["type"] == "value_error":
        return str(message)  # of settings that do not fit each other: the message names them
    return f"{place or 'file'} = {_short(error['input'])}: {message}"


def _short(value: Any) -> str:
    """A value as it is shown: whole files are no help."""
    text = repr(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"


def _located(model: type[BaseModel], error: Mapping[str, Any]) -> tuple[str, list[str]]:
    """Where an error is, as a file has it, and the names of the settings beside it.

    Where a setting may be of several kinds, pydantic names the kind in the location too, which no file does.
    """
    path: list[int | str] = []
    models, beside, any_name = [model], [model], False
    location = error["loc"]
    for place, step in enumerate(location, 1):
        is_key = any_name and isinstance(step, str)  # even where it is called like a field
        fields = [f for m in models for name, f in m.model_fields.items() if step in (name, f.alias) and not is_key]
        is_unknown = place == len(location) and error["type"] == "extra_forbidden"
        if isinstance(step, str) and not (fields or is_key or is_unknown):
            continue
        path.append(step)
        beside, any_name = models or beside, any_name and not is_key
        if fields:
            field = fields[0]
            models, any_name = _models_in(field.annotation), _has_names_of_its_own(field.annotation)
    return ".".join(map(str, path)), [f.alias or name for m in beside for name, f in m.model_fields.items()]


def _has_names_of_its_own(annotation: Any) -> bool:
    """Whether it is a mapping: its keys are no fields, and a file's all the same."""
    return get_origin(annotation) is dict or any(map(_has_names_of_its_own, get_args(annotation)))


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models_in(part)]


def name_of(asked: Mapping[str, Any]) -> str:
    """A name for what depends on these settings and on nothing else: 16 hex digits."""
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]


def _read(path: Path) -> Any:
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsError(f"settings file {str(path)!r} cannot be read: {error}", "Give a YAML file") from error
    return {} if content is None else content
