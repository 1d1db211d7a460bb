"""How many numbers a source gives: what fixes it, and that a message with another number of them is lost alone."""

import numpy as np
import pytest
import yaml
from cli_process import saferule
from contract_samples import DRIVE, MS, START, TYPES, drive_stream, floats, twist, write_bag

from saferule_ros.contract.check import check_contract
from saferule_ros.contract.decoding import Sample
from saferule_ros.contract.errors import ContractError
from saferule_ros.contract.model import Contract, load_contract
from saferule_ros.contract.runner import ContractRunner
from saferule_ros.contract.translation import ContractTranslation
from saferule_ros.errors import SettingsError
from saferule_ros.recording.messages import RawMessage
from saferule_ros.recording.reader import read_bag_content
from saferule_ros.recording.scan import TopicInfo


def content(cost: str = "0", **pose) -> dict:
    """A robot that observes an array of any length."""
    return {
        "schema": "saferule_ros/contract/1", "name": "open", "tick": {"source": "pose"}, "cost": cost,
        "sources": {"pose": {"topic": "/target", "type": TYPES["/target"], "fields": ["data"], **pose}},
        "action": {"topic": "/cmd_vel", "type": TYPES["/cmd_vel"], "fields": ["linear.x"], "low": [-1.0],
                   "high": [1.0], "stop": [0.0]},
    }  # fmt: skip


def recorded(*sizes: int) -> list[RawMessage]:
    """One message of each of these sizes, 100 ms apart, and a command after each."""
    found = []
    for k, size in enumerate(sizes):
        found.append(RawMessage("/target", floats(range(1, size + 1)), START + k * 100 * MS))
        found.append(RawMessage("/cmd_vel", twist(0.1, 0.0), START + k * 100 * MS + 10 * MS))
    return found


@pytest.mark.parametrize("factors", [{"scale": [1.0, 2.0, 3.0]}, {"offset": [0.0, 0.0, 0.0]}, {"size": 3}])
@pytest.mark.parametrize("first", [0, 1, 2, 4])
def test_a_list_of_factors_says_the_size_and_a_message_of_another_is_lost_alone(tmp_path, factors, first):
    bag = write_bag(tmp_path / "bag", recorded(first, *[3] * 8))
    read = read_bag_content(bag, ContractTranslation(Contract.model_validate(content(**factors))))
    assert [episode.length for episode in read.episodes] == [7]
    assert read.ticks.reasons == {"pose: wrong size": 1} and read.ticks.made == 8 and not read.complete
    assert read.episodes[0].observations.shape[1] == 3


def test_a_single_number_is_not_repeated_for_a_list_of_factors():
    runner = ContractRunner(Contract.model_validate(content(scale=[1.0, 2.0, 3.0])))
    runner.advance(START)
    assert runner.sample("pose", Sample(START, np.array([5.0]))) == []
    assert runner.problem == "pose: wrong size: 1 numbers, expected 3"
    (made,) = runner.sample("pose", Sample(START + MS, np.array([5.0, 5.0, 5.0])))
    assert list(made.data) == [5.0, 10.0, 15.0]


@pytest.mark.parametrize(
    ("pose", "what"),
    [
        ({"size": 2, "scale": [1.0, 1.0, 1.0]}, "scale has 3 numbers for 2 values"),
        ({"scale": [1.0, 1.0], "offset": [0.0]}, "offset has 1 numbers for 2 values"),
    ],
)
def test_factors_that_do_not_fit_each_other_or_the_size_are_refused(tmp_path, pose, what):
    (tmp_path / "contract.yaml").write_text(yaml.safe_dump(content(**pose)))
    with pytest.raises(SettingsError, match=what):
        load_contract(tmp_path / "contract.yaml")


def test_check_warns_where_nothing_but_the_first_message_says_the_size(tmp_path):
    (tmp_path / "contract.yaml").write_text(yaml.safe_dump(content()))
    shown = saferule("contract", "check", tmp_path / "contract.yaml", workspace=tmp_path / "robot")
    assert shown.returncode == 0, "it works"
    assert "warning: source pose: nothing but the first message says how many numbers it gives" in shown.stderr
    assert "Give size" in shown.stderr and "nothing is wrong" in shown.stderr
    for fixed in ({"size": 3}, {"scale": [1.0, 1.0, 1.0]}, {"fields": ["data[0:3]"]}):
        made = check_contract(Contract.model_validate(content(**fixed)))
        assert not made.warnings and made.observation_size == 3
    (open_size,) = check_contract(Contract.model_validate(content())).to_dict()["warnings"]
    assert open_size["where"] == "source pose"


def test_a_tick_that_cannot_be_judged_at_all_is_not_in_the_way_of_the_next():
    guard = yaml.safe_load((DRIVE.parent.parent / "safeguards" / DRIVE.name).read_text())
    guard["observation_size"] = 35
    translation = ContractTranslation(
        Contract.model_validate(yaml.safe_load(DRIVE.read_text()) | {"cost": {"safeguard": guard}})
    )
    errors = 0
    for message in drive_stream(seconds=1.0):
        try:
            list(translation.take([message], {topic: TopicInfo(kind) for topic, kind in TYPES.items()}))
        except ContractError as error:
            errors += 1
            assert "is for observations of 35 numbers" in str(error)
    assert errors == 8, "of ten ticks one was early and one began the episode: each of the others told it once"
