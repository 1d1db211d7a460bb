import pytest

from saferule_ros.contract.model import Contract
from saferule_ros.errors import SettingsError
from saferule_ros.settings import load_settings
from saferule_ros.unlearning.settings import SafeRuleSettings


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
    ],
)
def test_the_names_beside_a_misspelt_one_are_told_as_a_file_has_them(tmp_path, content, known):
    path = tmp_path / "contract.yaml"
    path.write_text(f"{content}\n")
    with pytest.raises(SettingsError) as caught:
        load_settings(Contract, path)
    assert known in caught.value.hint and "schema_" not in caught.value.hint


def test_missing_file_is_named(tmp_path):
    with pytest.raises(SettingsError, match=r"nowhere\.yaml"):
        load_settings(SafeRuleSettings, tmp_path / "nowhere.yaml")
