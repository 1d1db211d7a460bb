"""Reward, cost and ends of a tick: where they cannot be told, the tick is lost, and says why."""

import pytest
from contract_samples import MS, START, TYPES, floats, twist, write_bag

from saferule_ros.contract.model import Contract
from saferule_ros.contract.translation import ContractTranslation
from saferule_ros.recording.messages import RawMessage
from saferule_ros.recording.reader import read_bag_content


def pair(**words) -> Contract:
    """A robot that observes two numbers."""
    return Contract.model_validate({
        "name": "pair", "tick": {"source": "pair"},
        "sources": {"pair": {"topic": "/target", "type": TYPES["/target"], "fields": ["data[0:2]"]}},
        "action": {"topic": "/cmd_vel", "type": TYPES["/cmd_vel"], "fields": ["linear.x"], "low": [-1.0],
                   "high": [1.0], "stop": [0.0]},
        **words,
    })  # fmt: skip


def recorded(*pairs: tuple[float, float]) -> list[RawMessage]:
    found = []
    for k, values in enumerate(pairs):
        found.append(RawMessage("/target", floats(values), START + k * 100 * MS))
        found.append(RawMessage("/cmd_vel", twist(0.1, 0.0), START + k * 100 * MS + 10 * MS))
    return found


@pytest.mark.parametrize(
    ("words", "spoilt"),
    [
        ({"cost": "1 if pair[0] / pair[1] > 2 else 0"}, (0.0, 0.0)),
        ({"cost": "1 if pair[0] / pair[1] > 2 else 0"}, (1.0, 0.0)),
        ({"cost": "0 if sqrt(pair[0]) < 3 else 1"}, (-1.0, 1.0)),
        ({"reward": "1 if exp(pair[0]) > 2 else 0"}, (1000.0, 1.0)),
        ({"episode": {"terminated": "pair[0] / pair[1] > 9"}}, (0.0, 0.0)),
        ({"episode": {"truncated": "log(pair[1]) > 9"}}, (0.0, 0.0)),
    ],
)
def test_a_comparison_with_what_is_no_number_loses_the_tick_and_is_told(tmp_path, words, spoilt):
    bag = write_bag(tmp_path / "bag", recorded((1, 1), (1, 1), (1, 1), spoilt, (1, 1), (1, 1)))
    read = read_bag_content(bag, ContractTranslation(pair(**words)))
    (name,) = words.get("episode", words)
    assert [episode.length for episode in read.episodes] == [2, 1] and not read.complete
    assert read.ticks.reasons == {f"{name}: it cannot be computed": 1}


def test_a_condition_keeps_out_what_is_no_number(tmp_path):
    bag = write_bag(tmp_path / "bag", recorded((1, 1), (5, 1), (0, 0), (5, 1)))
    cost = "1 if pair[1] > 0 and pair[0] / pair[1] > 2 else 0"
    read = read_bag_content(bag, ContractTranslation(pair(cost=cost)))
    assert read.complete and [list(episode.costs) for episode in read.episodes] == [[1.0, 0.0, 1.0]]
