"""The algorithms by name."""

from typing import Any

import torch
from pydantic import TypeAdapter

from saferule_ros.learning.bcq_lag import BcqLag
from saferule_ros.learning.bear_lag import BearLag
from saferule_ros.learning.copti_dice import CoptiDice
from saferule_ros.learning.cpq import Cpq
from saferule_ros.learning.devices import check_device
from saferule_ros.learning.learner import Learner
from saferule_ros.learning.replay import Units
from saferule_ros.learning.settings import CommonSettings, LearnerSettings, TaskLimits

ALGORITHMS: dict[str, type[Learner]] = {learner.NAME: learner for learner in (BcqLag, BearLag, Cpq, CoptiDice)}


def make_learner(
    units: Units, limits: TaskLimits, settings: CommonSettings, seed: int, device: torch.device | str = "cpu"
) -> Learner:
    """An untrained learner of the algorithm that the settings are for. Raises DeviceError: no such device here."""
    check_device(device)
    return ALGORITHMS[settings.algorithm](units, limits, settings, seed, device)  # type: ignore[attr-defined]


def settings_from(values: dict[str, Any]) -> CommonSettings:
    """Validated settings of the algorithm named in `values["algorithm"]`.

    Raises:
        pydantic.ValidationError: an unknown algorithm, or a field that is unknown or out of range.
    """
    return TypeAdapter(LearnerSettings).validate_python(values)
