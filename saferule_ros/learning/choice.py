"""Which algorithms there are, by their settings: choosing one needs no torch."""

from pathlib import Path
from typing import Any, get_args

import yaml

from saferule_ros.errors import SettingsError
from saferule_ros.learning.settings import CommonSettings, LearnerSettings
from saferule_ros.settings import load_settings

DEFAULT = "bcq_lag"


def settings_classes() -> dict[str, type[CommonSettings]]:
    """Name of the algorithm to the class of its settings."""
    return {kind.model_fields["algorithm"].default: kind for kind in _members(LearnerSettings)}


def learner_settings(algorithm: str, file: Path | None) -> CommonSettings:
    """Settings of an algorithm: its defaults, then a YAML file.

    Args:
        algorithm: empty: the one that the file names, or else BCQ-Lag.

    Raises:
        SettingsError: an unknown algorithm, or see load_settings; a file for another algorithm is refused.
    """
    chosen = algorithm or _named_in(file) or DEFAULT
    kinds = settings_classes()
    if chosen not in kinds:
        raise SettingsError(f"unknown algorithm {chosen!r}", f"Known: {', '.join(sorted(kinds))}")
    return load_settings(kinds[chosen], file)


def _named_in(file: Path | None) -> str:
    """What a settings file says under `algorithm`; empty where it cannot be read, which `load_settings` reports."""
    if file is None:
        return ""
    try:
        content = yaml.safe_load(file.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return ""
    return str(content.get("algorithm", "")) if isinstance(content, dict) else ""


def _members(kind: Any) -> list[type[CommonSettings]]:
    """The classes of a union, however it is nested and annotated."""
    inside = [argument for argument in get_args(kind) if isinstance(argument, type) or get_args(argument)]
    return [member for argument in inside for member in _members(argument)] if inside else [kind]
