"""Settings files: YAML, validated against a model that knows every field's range and meaning."""

from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from saferule_ros.errors import SettingsError

Settings = TypeVar("Settings", bound=BaseModel)


def load_settings(model: type[Settings], path: Path | None) -> Settings:
    """Reads a YAML file into a settings model; without a file, the model's defaults.

    Raises:
        SettingsError: unreadable, not YAML, or a field that is unknown or out of range; it is named with its value.
    """
    if path is None:
        return model()
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsError(f"settings file {str(path)!r} cannot be read: {error}", "Give a YAML file") from error
    try:
        return model.model_validate({} if content is None else content)
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(map(str, item['loc'])) or 'file'} = {item['input']!r}: {item['msg']}" for item in error.errors()
        )
        known = ", ".join(model.model_fields)
        raise SettingsError(f"settings file {str(path)!r}: {wrong}", f"Known settings: {known}") from error
