"""Settings of a patch and of the offline check, which learning can have as well.

Those of a patch are read twice: before a job starts, so that a mistake costs nothing, and by the job itself.
"""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from saferule_ros.errors import SettingsError
from saferule_ros.evaluation.settings import JudgeSettings, SelectionSettings
from saferule_ros.patching.judge_mode import JudgeMode
from saferule_ros.settings import load_settings
from saferule_ros.unlearning.settings import (
    CostSuppressionSettings,
    SafeRuleDiceSettings,
    SafeRuleLagSettings,
    SafeRuleSettings,
)

# By names, as the learners' classes need torch, and whoever asks for a patch may have none.
SETTINGS_OF: dict[str, type[CostSuppressionSettings]] = {
    "bcq_lag": SafeRuleLagSettings, "bear_lag": SafeRuleLagSettings, "cpq": SafeRuleSettings,
    "copti_dice": SafeRuleDiceSettings,
}  # fmt: skip
# Of learning, steps from one policy that is judged to the next: ten in the 4,000 steps of `saferule train`.
EVERY = 400


class JudgingSettings(BaseModel):
    """Of the judging, as a YAML file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    judge: JudgeSettings = Field(default_factory=lambda: JudgeSettings.model_validate({}))
    rule: SelectionSettings = Field(default_factory=lambda: SelectionSettings.model_validate({}))


def judging_settings(mode: JudgeMode, path: Path | None) -> JudgingSettings:
    """Those of a file; without one, the defaults.

    Raises:
        SettingsError: a file that cannot be read or is wrong, or one without a check that it could be for.
    """
    if path is not None and mode is JudgeMode.NONE:
        raise SettingsError(
            f"settings of the offline check are given ({path}), and it is not asked for",
            f"Set judge to {JudgeMode.ADVISE} or {JudgeMode.REQUIRE}, or leave the settings out",
        )
    return load_settings(JudgingSettings, path)


def unlearning_settings(algorithm: str, path: Path | None) -> CostSuppressionSettings:
    """Those of Safe-RULE on a learner of that algorithm; without a file, the defaults.

    Raises:
        SettingsError: a file that cannot be read or is wrong, or an algorithm that nobody knows.
    """
    if algorithm not in SETTINGS_OF:
        raise SettingsError(f"unknown algorithm {algorithm!r}", f"Known: {', '.join(SETTINGS_OF)}")
    return load_settings(SETTINGS_OF[algorithm], path)
