"""The attacks by name, and their settings from a file."""

from pathlib import Path

from saferule_ros.attacks.attack import Attack, AttackSettings, Means
from saferule_ros.attacks.baffle import Baffle
from saferule_ros.attacks.errors import AttackError
from saferule_ros.attacks.injected import Injected
from saferule_ros.attacks.max_cost import MaxCost
from saferule_ros.attacks.trigger import Trigger
from saferule_ros.dataset.naming import unknown_names
from saferule_ros.settings import load_settings

ATTACKS: dict[str, type[Attack]] = {attack.NAME: attack for attack in (Injected, MaxCost, Trigger, Baffle)}


def make_attack(name: str, settings: AttackSettings, seed: int, means: Means) -> Attack:
    """The attack of that name, ready to poison.

    Raises:
        AttackError: there is none of that name.
    """
    return _attack(name)(settings, seed, means)


def attack_settings(name: str, file: Path | None = None, ratio: float | None = None) -> AttackSettings:
    """Settings of an attack: its defaults, then a YAML file, then the ratio.

    Raises:
        AttackError: no attack of that name, or a ratio that is none.
        SettingsError: see load_settings.
    """
    model = _attack(name).SETTINGS
    if ratio is not None and not 0.0 < ratio < 1.0:
        raise AttackError(
            f"ratio {ratio:g} is out of range",
            "It is the share of all transitions that is poisoned, between 0 and 1: for 15 % give 0.15",
        )
    settings = load_settings(model, file)
    return settings if ratio is None else settings.model_copy(update={"ratio": ratio})


def _attack(name: str) -> type[Attack]:
    if name not in ATTACKS:
        error = unknown_names("attack", [name], tuple(ATTACKS))
        raise AttackError(error.what, error.hint)
    return ATTACKS[name]
