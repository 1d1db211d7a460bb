"""Where episodes of a contract begin and end: live one message at a time, and from a bag."""

from contract_samples import MS, START, TYPES, boolean, contract, drive_stream, write_bag

from saferule_ros.contract.check import check_contract
from saferule_ros.contract.translation import ContractTranslation
from saferule_ros.recording.messages import ObservationMessage, RawMessage
from saferule_ros.recording.reader import read_bag_content
from saferule_ros.recording.scan import TopicInfo

TOPICS = {topic: TopicInfo(kind) for topic, kind in TYPES.items()}


def played(translation: ContractTranslation, messages: list[RawMessage]) -> list[ObservationMessage]:
    """The observations that messages give, one after the other as they come on a robot."""
    made = [one for message in messages for one in translation.take([message], TOPICS)]
    return [one for one in [*made, *translation.finish()] if isinstance(one, ObservationMessage)]


def pressed(*until: float, seconds: float = 6.0) -> list[RawMessage]:
    """The drive, its bumper pressed from the beginning, and then at each of these times [s] the other way round."""
    others = [message for message in drive_stream(seconds=seconds) if message.topic != "/bumper"]
    times = [0, *(round(time * 1000) for time in until)]
    bumper = [RawMessage("/bumper", boolean(k % 2 == 0), START + time * MS) for k, time in enumerate(times)]
    return sorted([*bumper, *others], key=lambda message: message.log_time)


def test_a_robot_that_stands_at_an_end_begins_no_episode_until_it_is_over(tmp_path):
    messages = pressed(3.05)
    translation = ContractTranslation(contract())
    parked = played(translation, [one for one in messages if one.log_time < START + 3000 * MS])
    assert parked == [] and translation.runner.counts["over_already"] == 29
    assert "terminated" in translation.runner.resting and not translation.runner.problem
    translation = ContractTranslation(contract())
    found = played(translation, messages)
    assert (found[0].stamp, found[0].step) == (START + 3100 * MS, 0)
    assert len({one.episode_id for one in found}) == 1 and not any(one.terminated for one in found)
    assert translation.ticks.lost == 0 and not translation.runner.resting
    content = read_bag_content(write_bag(tmp_path / "bag", messages), ContractTranslation(contract()))
    assert content.complete and not content.incomplete
    assert [episode.length for episode in content.episodes] == [len(found) - 1]


def test_after_an_end_that_lasts_the_next_episode_begins_when_it_is_over():
    found = played(ContractTranslation(contract()), pressed(0.01, 2.05, 4.05))
    ends = [one for one in found if one.terminated or one.truncated]
    begins = [one.stamp for one in found if one.step == 0]
    assert [(one.stamp, one.terminated) for one in ends] == [(START + 2100 * MS, True)]
    assert begins[1:] == [START + 4100 * MS]


def test_an_end_on_a_topic_before_an_episode_begins_none():
    made = contract()
    made = made.model_copy(update={"episode": made.episode.model_copy(update={"end_on": ["bumper"]})})
    found = played(ContractTranslation(made), pressed(0.01))
    assert found[0].step == 0 and not found[0].truncated
    assert found[1].episode_id == found[0].episode_id


def test_a_check_says_that_a_recording_holds_nothing_but_an_end(tmp_path):
    (problem,) = check_contract(contract(), write_bag(tmp_path / "bag", pressed(seconds=2.0))).problems
    assert "not one observation" in problem.what
    assert "terminated or truncated holds before an episode begins (19 ticks)" in problem.hint
