"""What a contract finds in a recording: topics, rates, and what ingest would make of it."""

from collections import Counter
from pathlib import Path

from saferule_ros.contract.check_result import ContractCheck, Problem, TopicFacts
from saferule_ros.contract.errors import ContractError
from saferule_ros.contract.tick_delay import TimedTranslation
from saferule_ros.contract.translation import ContractTranslation
from saferule_ros.dataset.naming import closest
from saferule_ros.recording.bag_files import find_bag, open_scan
from saferule_ros.recording.errors import BagError
from saferule_ros.recording.reader import BagReading
from saferule_ros.recording.scan import TopicInfo
from saferule_ros.recording.ticks import Ticks
from saferule_ros.units import NANOSECONDS

# Beyond this, stamps are of another clock than reception: more than any network or queue delays [s]. [ours]
_CLOCKS_APART = 60.0


def look_into(bag: Path, result: ContractCheck, known: dict[str, TopicInfo]) -> list[str]:
    """Topics and rates; returns what is damaged."""
    files = find_bag(bag)
    damage = list(files.problems)
    for path in files.files:
        with open_scan(path) as scan:
            for message in scan.messages():
                facts = result.topics.setdefault(message.topic, TopicFacts(first=message.log_time))
                facts.messages += 1
                facts.last = message.log_time
            damage += scan.damage
            known.update(scan.topics)
            for name in scan.topics:
                result.topics.setdefault(name, TopicFacts())
    contract = result.contract
    wanted = {f"source {name}": contract.sources[name].topic for name in contract.required}
    for where, topic in {**wanted, "action": contract.action.topic}.items():
        if topic not in known:
            result.problems.append(
                Problem(where, f"the bag has no topic {topic!r}", closest(topic, sorted(known), "topic"))
            )
        elif not result.topics[topic].messages:
            result.problems.append(Problem(where, f"the bag has no message on {topic!r}", "Record it, too"))
    return damage


def play(bag: Path, result: ContractCheck) -> None:
    """What ingest would make of it."""
    translation = TimedTranslation(result.contract)
    reading = BagReading(bag, translation)
    try:
        for episode in reading.episodes():
            result.observation_size = episode.observations.shape[1]
            result.episodes.append(episode.length)
    except (BagError, ContractError) as error:
        result.problems.append(Problem("bag", error.what, error.hint))
    if reading.lost:
        result.problems.append(Problem("bag", f"{reading.lost} messages of it are missing", "Ingest takes the others"))
    _judge_commands(translation, reading, result)
    result.ticks, result.delay = translation.ticks, translation.delay
    _judge_delay(result)
    for name, stream in translation.runner.streams.items():
        wrong = {what: count for what, count in stream.counts.items() if what not in ("received", "out_of_order")}
        for what, times in wrong.items():
            result.problems.append(
                Problem(f"source {name}", f"{times} of {stream.counts['received']} messages: {what}", _HINTS.get(
                    what.split(" ")[0], "Look at fields, joints and size"))
            )  # fmt: skip
    if not result.ticks.made:
        hint = _reasons(result.ticks, translation.runner.counts["over_already"])
        result.problems.append(Problem("tick", "not one observation can be made of this bag", hint))
        _compare_clocks(translation, result)


def _judge_commands(translation: ContractTranslation, reading: BagReading, result: ContractCheck) -> None:
    """A tick that no command answers ends the usable part of its episode."""
    unusable = translation.runner.counts["unusable_commands"]
    if unusable:
        what = f"{unusable} commands of the bag cannot be read"
        result.problems.append(Problem("action", what, "Look at fields, joints and the size of low and high"))
    faults = reading.faults
    if faults.lost:
        what = f"{faults.lost} ticks were answered by no command; {faults.unused} transitions after them are left out"
        hint = "Tick more slowly; or with history: {actions: 1}, an episode ends there and another begins"
        result.problems.append(Problem("action", what, hint))


def _judge_delay(result: ContractCheck) -> None:
    """What answers an observation that is made after the next tick came too late for it."""
    delay = result.delay
    if delay.beyond_period:
        what = (
            f"{delay.beyond_period} of {len(delay.delays)} observations are made later than one period of "
            f"{delay.period:.3f} s after their tick (median {delay.median:.3f} s, worst {delay.worst:.3f} s): what "
            "answers them comes after the next tick, which is lost"
        )
        hint = "Tick more slowly, take latest for what comes late, or set the clocks by one another"
        result.warnings.append(Problem("tick", what, hint))


def _compare_clocks(translation: ContractTranslation, result: ContractCheck) -> None:
    """Stamps of a simulation, or of a computer whose clock is wrong, lie far from the times of reception."""
    for name, stream in translation.runner.streams.items():
        received = result.topics[stream.source.topic].last
        apart = (stream.newest - received) / NANOSECONDS if stream.newest is not None else 0.0
        if abs(apart) > _CLOCKS_APART:
            what = f"its stamps are {apart:.0f} s away from the times at which it was received: of another clock"
            hint = "Tick at each message of a source with the same clock, or set time: received"
            result.problems.append(Problem(f"source {name}", what, hint))


_HINTS = {
    "late": "Came after the tick that it belongs to: record with the robot's own clock, or let ticks wait longer",
    "ahead": "Set the clocks by one another; where its stamps are of a clock of their own, say max_ahead: null",
    "non-finite": "Give clip, if infinity means the end of the range",
    "malformed": "Was it recorded with another version of the message?",
}


def _reasons(ticks: Ticks, over: int) -> str:
    told = [f"{reason} ({count} x)" for reason, count in Counter(ticks.reasons).most_common(5)]
    told += [f"not all sources were ever heard ({ticks.early} ticks)"] if ticks.early else []
    told += [f"terminated or truncated holds before an episode begins ({over} ticks)"] if over else []
    return "; ".join(told) or "Does it hold messages of the source that makes the ticks?"
