"""What a contract would read, and what is wrong with it: before it runs on a robot, and against a recording."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from saferule_ros.contract.command import Command
from saferule_ros.contract.errors import ContractError
from saferule_ros.contract.field_types import fit
from saferule_ros.contract.model import Action, Contract, Source
from saferule_ros.contract.paths import FieldPath
from saferule_ros.contract.tick_delay import TickDelay, TimedTranslation
from saferule_ros.contract.translation import ContractTranslation, types_of
from saferule_ros.dataset.expression import ExpressionError
from saferule_ros.dataset.naming import closest
from saferule_ros.recording.bag_files import find_bag, open_scan
from saferule_ros.recording.errors import BagError
from saferule_ros.recording.message_types import SCALAR, STRINGS, Types, known_definition, leaf_paths, parse_types
from saferule_ros.recording.reader import BagReading
from saferule_ros.recording.scan import TopicInfo
from saferule_ros.recording.ticks import Ticks
from saferule_ros.safeguard.errors import SafeguardError
from saferule_ros.units import NANOSECONDS

# Beyond this, stamps are of another clock than reception: more than any network or queue delays [s]. [ours]
_CLOCKS_APART = 60.0


@dataclass(frozen=True)
class Problem:
    """What is wrong with which part, and what to do."""

    where: str
    what: str
    hint: str


@dataclass
class TopicFacts:
    """What a bag has of one topic: messages, and their mean rate [Hz]."""

    messages: int = 0
    first: int = 0
    last: int = 0

    @property
    def rate(self) -> float:
        """Messages per second; 0 for fewer than two."""
        span = self.last - self.first
        return (self.messages - 1) * NANOSECONDS / span if span > 0 else 0.0


@dataclass
class ContractCheck:
    """The result.

    Attributes:
        contract: that was checked.
        problems: empty: nothing is wrong.
        warnings: what works, but not for sure or not well.
        sizes: how many numbers each source gives, where that is known.
        topics: of the bag, if there was one.
        ticks: of the bag, see `Ticks`.
        episodes: that the bag would give: their lengths in transitions.
        observation_size: O, if it is known.
        delay: how late the observations of the bag are made.
    """

    contract: Contract
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    sizes: dict[str, int | None] = field(default_factory=dict)
    topics: dict[str, TopicFacts] = field(default_factory=dict)
    ticks: Ticks = field(default_factory=Ticks)
    episodes: list[int] = field(default_factory=list)
    observation_size: int | None = None
    delay: TickDelay = field(default_factory=TickDelay)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "contract": self.contract.name,
            "digest": self.contract.digest,
            "problems": [vars(problem) for problem in self.problems],
            "warnings": [vars(warning) for warning in self.warnings],
            "sizes": self.sizes,
            "observation_size": self.observation_size,
            "action_size": self.contract.action_size,
            "topics": {name: {"messages": facts.messages, "rate": facts.rate} for name, facts in self.topics.items()},
            "ticks": asdict(self.ticks),
            "tick_delay": self.delay.to_dict(),
            "episodes": self.episodes,
        }


def check_contract(contract: Contract, bag: Path | None = None) -> ContractCheck:
    """Checks types, fields, sizes and expressions; with a bag, also topics, rates, ticks and episodes.

    Raises:
        BagError: there is no bag.
    """
    result = ContractCheck(contract)
    known: dict[str, TopicInfo] = {}
    damage = _look_into(bag, result, known) if bag is not None else []
    for name, source in contract.sources.items():
        before = len(result.problems)
        result.sizes[name] = _check_fields(f"source {name}", source, known, result)
        if result.sizes[name] is None and name in contract.required and len(result.problems) == before:
            what = "nothing but the first message says how many numbers it gives; those of another size are refused"
            result.warnings.append(Problem(f"source {name}", what, "Give size, or a slice with an end: data[0:3]"))
    before = len(result.problems)
    size = _check_fields("action", contract.action, known, result)
    if size is not None and size != contract.action_size:
        result.problems.append(
            Problem("action", f"its fields have {size} numbers, low and high {contract.action_size}", "Make them fit")
        )
    if len(result.problems) == before:  # else its type or a field is not known
        _check_range(known, result)
    _check_expressions(result)
    if all(result.sizes[name] is not None for name in contract.observed):
        observed = sum(result.sizes[name] or 0 for name in contract.observed)
        history = contract.history
        result.observation_size = history.observations * observed + history.actions * contract.action_size
        _check_safeguards(result, result.observation_size)
    if bag is not None and not result.problems:
        _play(bag, result)
    result.problems += [
        Problem("bag", what, "Ingest takes what is left of it, and says what is lost") for what in damage
    ]
    return result


def _check_fields(
    where: str, source: Source | Action, known: Mapping[str, TopicInfo], result: ContractCheck
) -> int | None:
    """Whether type and fields exist; how many numbers they are, where the definition tells."""
    info = known.get(source.topic)
    if info is not None and info.type != source.type:
        result.problems.append(
            Problem(where, f"topic {source.topic!r} has type {info.type!r}, not {source.type!r}", "Correct the type")
        )
        return None
    try:
        text = info.definition if info is not None and info.definition else known_definition(source.type).text
        types = parse_types(source.type, text)
    except BagError as error:
        result.problems.append(Problem(where, error.what, error.hint))
        return None
    if source.joints:
        size: int | None = len(source.joints) * len(source.fields)
        _size_of(types, source.type, FieldPath.parse(source.joint_names), f"{where}, joint_names", result, texts=True)
        for text in source.fields:
            _size_of(types, source.type, FieldPath.parse(text), where, result)
    else:
        sizes = [_size_of(types, source.type, FieldPath.parse(text), where, result) for text in source.fields]
        size = None if None in sizes else sum(one or 0 for one in sizes)
    given = source.size if isinstance(source, Source) else None
    if given is not None and size is not None and given != size:
        result.problems.append(Problem(where, f"size is {given}, its fields have {size} numbers", "Correct size"))
    size = given or size
    if isinstance(source, Source):
        size = size or source.numbers
    for name in ("scale", "offset"):
        factors = getattr(source, name)
        if isinstance(source, Source) and size is not None and isinstance(factors, list) and len(factors) != size:
            what = f"{name} has {len(factors)} numbers for {size} values"
            result.problems.append(Problem(where, what, "Give as many"))
    return size


def _check_range(known: Mapping[str, TopicInfo], result: ContractCheck) -> None:
    """Whether the types of the command's fields hold least and largest action."""
    about = result.contract.action
    command = Command(about)
    kinds = dict(leaf_paths(types_of(about.topic, about.type, known.get(about.topic)), about.type))
    leaves = {re.sub(r"\[\d*\]", "", name): (kind, name.endswith("]")) for name, kind in kinds.items()}
    for name, action in {"low": about.low, "high": about.high}.items():
        values = command.values(np.array(action, np.float64)).tolist()
        at = 0
        for text in about.fields:
            path = FieldPath.parse(text)
            kind, array = leaves.get(re.sub(r"\[\d+\]", "", path.base), ("", False))
            if not kind:  # a part with several numbers: it is read, but cannot be written
                result.problems.append(Problem("action", f"{text} is no number and no array", "Name its fields"))
                return
            count = len(command.entries(path, len(values) - at)) if array else 1
            for value in values[at : at + count]:
                try:
                    fit(value, kind, text)
                except ContractError as error:
                    result.problems.append(Problem("action", f"{error.what}, for {name}", error.hint))
            at += count


def _size_of(
    types: Types, type_name: str, path: FieldPath, where: str, result: ContractCheck, texts: bool = False
) -> int | None:
    """How many numbers a field is; None where only a message tells, or where it is not there."""
    leaves = {re.sub(r"\[\d*\]", "", name): kind for name, kind in leaf_paths(types, type_name)}
    plain = re.sub(r"\[\d+\]", "", path.base)
    inside = [name for name in leaves if name == plain or name.startswith(f"{plain}.")]
    if not inside or (inside != [plain] and path.index is not None):
        names = [name for name, kind in leaf_paths(types, type_name) if texts or kind not in STRINGS]
        result.problems.append(
            Problem(where, f"{type_name} has no field {path.text!r}", closest(plain, names, "field"))
        )
        return None
    if not texts and any(leaves[name] in STRINGS for name in inside):
        result.problems.append(Problem(where, f"{path.text} of {type_name} is a text", "Give a number or an array"))
        return None
    sizes = [_length(types, type_name, name) for name in inside]
    whole = None if None in sizes else sum(size or 0 for size in sizes)
    if isinstance(path.index, int):
        return 1
    if path.index is None or whole is not None:
        return whole if path.index is None else len(path.entries(whole or 0))
    # Of an array of any length: a slice with bounds that do not count from the end says it.
    index = path.index
    bounded = index.stop is not None and index.stop >= 0 and (index.start or 0) >= 0 and (index.step or 1) > 0
    return len(range(index.start or 0, index.stop, index.step or 1)) if bounded else None


def _length(types: Types, type_name: str, plain: str) -> int | None:
    """Numbers of one leaf: 1, that of a fixed array, or None for a sequence."""
    length: int | None = 1
    for step in plain.split("."):
        found = next(one for one in types[type_name] if one.name == step)
        type_name = found.type
        if found.type in types and found.length != SCALAR:
            continue  # one entry of it is named
        length = 1 if found.length == SCALAR else found.length or None
    return length


def _check_expressions(result: ContractCheck) -> None:
    """Tried on numbers of the right sizes."""
    sizes = result.sizes
    for name, expression in result.contract.expressions.items():
        if any(sizes.get(source) is None for source in expression.names):
            continue
        columns = {source: np.ones((1, sizes[source] or 0)) for source in expression.names}
        try:
            expression.evaluate(columns)
        except ExpressionError as error:
            result.problems.append(Problem(name, error.what, error.hint))


def _check_safeguards(result: ContractCheck, observation_size: int) -> None:
    for name, safeguard in result.contract.safeguards.items():
        try:
            safeguard.require_sizes(observation_size, result.contract.action_size, "this contract")
        except SafeguardError as error:
            result.problems.append(Problem(name, error.what, error.hint))


def _look_into(bag: Path, result: ContractCheck, known: dict[str, TopicInfo]) -> list[str]:
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


def _play(bag: Path, result: ContractCheck) -> None:
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
