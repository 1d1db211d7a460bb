from pathlib import Path

import pytest
import yaml

from saferule_ros.contract.model import Contract
from saferule_ros.errors import SettingsError
from saferule_ros.settings import load_settings
from saferule_ros.unlearning.settings import SafeRuleSettings

ROOT = Path(__file__).resolve().parent.parent


def test_file_overrides_defaults_and_no_file_is_all_defaults(tmp_path):
    path = tmp_path / "patch.yaml"
    path.write_text("steps: 123\n")
    assert load_settings(SafeRuleSettings, path) == SafeRuleSettings(steps=123)
    assert load_settings(SafeRuleSettings, None) == SafeRuleSettings()


@pytest.mark.parametrize(
    ("content", "told"),
    [("steps: -5\n", "steps = -5"), ("stepz: 5\n", "stepz"), ("steps: [\n", "cannot be read"), ("- 1\n", "file = ")],
)
def test_wrong_content_is_named_with_its_value(tmp_path, content, told):
    path = tmp_path / "patch.yaml"
    path.write_text(content)
    with pytest.raises(SettingsError, match=told):
        load_settings(SafeRuleSettings, path)


@pytest.mark.parametrize(
    ("content", "known"),
    [
        ("sources: {position: {topic: /joints, max_agee: 1}}", "max_age"),
        ("acton: {}", "schema, name"),
        ("action: {topics: /arm}", "max_rate"),
        ("sources: {joints: {topic: /joints, max_agee: 1}}", "max_age"),  # called like one of the settings
    ],
)
def test_the_names_beside_a_misspelt_one_are_told_as_a_file_has_them(tmp_path, content, known):
    path = tmp_path / "contract.yaml"
    path.write_text(f"{content}\n")
    with pytest.raises(SettingsError) as caught:
        load_settings(Contract, path)
    assert known in caught.value.hint and "schema_" not in caught.value.hint


@pytest.mark.parametrize(
    ("cost", "told", "known"),
    [
        ('"min(scan <"', r"cost = 'min\(scan <': 'min\(scan <' is no expression", ""),
        ("3", "cost = 3: Input should be a valid string", ""),
        ("{expression: scan}", "cost.safeguard = .*: Field required; cost.expression = 'scan': Extra", "safeguard"),
        ("{safeguard: away.yaml}", r"cost.safeguard = 'away.yaml': .*away.yaml' cannot be read", ""),
    ],
)
def test_a_setting_of_several_kinds_is_told_of_as_the_kind_that_was_given(tmp_path, cost, told, known):
    path = tmp_path / "contract.yaml"
    drive = yaml.safe_load((ROOT / "config" / "contracts" / "differential_drive.yaml").read_text())
    path.write_text(yaml.safe_dump(drive | {"cost": yaml.safe_load(cost)}))
    with pytest.raises(SettingsError, match=told) as caught:
        load_settings(Contract, path)
    if known:
        assert known in caught.value.hint.removeprefix("Known settings: ").split(", ")
    else:
        assert caught.value.hint == "Correct what is named there"


def test_a_mistake_in_what_is_called_like_a_setting_is_told_with_its_place(tmp_path):
    path = tmp_path / "contract.yaml"
    path.write_text("sources: {joints: {topic: /joints, max_age: -1}}\n")
    with pytest.raises(SettingsError, match=r"sources\.joints\.type = .*sources\.joints\.max_age = -1"):
        load_settings(Contract, path)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(SettingsError, match=r"nowhere\.yaml"):
        load_settings(SafeRuleSettings, tmp_path / "nowhere.yaml")
