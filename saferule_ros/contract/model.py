"""A contract file: YAML, every field with range and meaning. Two ready ones are in config/contracts/."""

import hashlib
import json
from collections.abc import Sequence
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    model_validator,
)

from saferule_ros.contract.paths import FieldPath
from saferule_ros.dataset.expression import Expression, ExpressionError
from saferule_ros.errors import SaferuleError
from saferule_ros.safeguard.model import Safeguard, load_safeguard
from saferule_ros.settings import FOLDER, load_settings

CONTRACT_SCHEMA = "saferule_ros/contract/1"
# What gives a reward or cost.
BY_EXPRESSION, BY_SAFEGUARD = "by expression", "by safeguard"


def _path(text: str) -> str:
    FieldPath.parse(text)
    return text


def _expression(text: str) -> str:
    try:
        Expression(text)
    except ExpressionError as error:
        raise ValueError(str(error)) from error
    return text


def _safeguard(given: Any, info: ValidationInfo) -> Any:
    """The content of a file that is named; its path counts from the folder of the contract."""
    if not isinstance(given, str):
        return given
    try:
        return load_safeguard((info.context or {}).get(FOLDER, Path()) / given)
    except SaferuleError as error:  # to be told with the contract's name, and the place in it
        raise ValueError(str(error)) from error


def _kind(given: Any) -> str:
    """Of a reward or cost: an error is told of the kind that was given, and not of the other one too."""
    return BY_SAFEGUARD if isinstance(given, (dict, Guarded)) else BY_EXPRESSION


_NAME = r"^[A-Za-z_][A-Za-z0-9_]*$"
TopicName = Annotated[str, Field(pattern=r"^/[A-Za-z0-9_/]*[A-Za-z0-9_]$")]
TypeName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*/msg/[A-Za-z0-9]+$")]
PathText = Annotated[str, AfterValidator(_path)]
ExpressionText = Annotated[str, AfterValidator(_expression)]
Seconds = Annotated[float, Field(ge=0, le=3600)]
Numbers = list[float]
Rates = list[Annotated[float, Field(gt=0, allow_inf_nan=False)]]


class Align(StrEnum):
    """Which of a source's messages a tick takes."""

    LATEST = "latest"  # the newest that is not after the tick
    MAX_SINCE = "max_since"  # number by number the largest since the tick before; where none came since, the newest
    INTERPOLATE = "interpolate"  # between the two around the tick, number by number
    EXACT = "exact"  # the one of the tick's own time, within a tolerance


class Clock(StrEnum):
    """Which time a message counts for."""

    STAMP = "stamp"  # header.stamp: when it was measured
    RECEIVED = "received"  # when it came


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Source(_Part):
    """One topic and what is read from it."""

    topic: TopicName = Field(description="full name of the topic")
    type: TypeName = Field(description="package/msg/Name")
    fields: list[PathText] = Field([], description="what is read, in this order: pose.x, ranges[0:180:10], position")
    joints: list[str] = Field([], description="entries of the fields that are taken, by the names in the message")
    joint_names: PathText = Field("name", description="where the message has these names")
    size: int | None = Field(
        None, ge=1, le=1_000_000, description="how many numbers; else scale or offset, or the first message, say it"
    )
    unit: str = Field("", description="for people")
    align: Align = Field(Align.LATEST, description="which message a tick takes")
    max_age: Seconds | None = Field(0.5, description="oldest that is used; interpolate: widest gap; null: any")
    tolerance: Seconds = Field(0.0, description="exact: how far from the tick it may be [s]")
    wait: Seconds = Field(0.5, description="exact, interpolate: how long a tick waits for the message [s]")
    max_ahead: Seconds | None = Field(
        1.0, description="a stamp further ahead of the time of reception is refused [s]; null: of a clock of its own"
    )
    time: Clock | None = Field(None, description="which time counts; else the stamp where the type has a header")
    clip: tuple[float, float] | None = Field(None, description="raw values are held within: inf of a laser, too")
    scale: float | Numbers = Field(1.0, description="the vector has scale x raw + offset; one number, or one for each")
    offset: float | Numbers = Field(0.0, description="see scale")
    observe: bool = Field(True, description="part of the observation; false: only for expressions and episodes")
    reliable: bool = Field(False, description="subscribe reliably; sensors are usually published as best effort")
    latched: bool = Field(
        False,
        description="published once, or when it changes, and kept by its publisher (durability transient_local): a "
        "bridge that starts later gets the newest, too. Implies reliable. A publisher that keeps nothing (volatile) is "
        "not heard at all. Say max_age, too: null where it holds until it changes",
    )

    @model_validator(mode="before")
    @classmethod
    def _latched_is_reliable(cls, given: Any) -> Any:
        if not isinstance(given, dict) or given.get("latched") is not True:
            return given
        if given.get("reliable") is False:
            raise ValueError("latched is true and reliable false: what is kept for late readers is sent reliably")
        if "max_age" not in given:
            raise ValueError("latched is true: say how old it may be with max_age [s], or null where it holds for good")
        return {**given, "reliable": True}

    @model_validator(mode="after")
    def _factors_fit(self) -> Self:
        if self.numbers is not None:
            for name in ("scale", "offset"):
                check_factors(getattr(self, name), self.numbers, name)
        return self

    @property
    def numbers(self) -> int | None:
        """How many numbers it gives, where these words say so: its size, or a number of scale or offset for each."""
        return self.size or next((len(one) for one in (self.scale, self.offset) if isinstance(one, list)), None)


class Tick(_Part):
    """When there is an observation: at each message of a source, or at a fixed rate."""

    source: str | None = Field(None, description="name of the source whose messages make the ticks")
    rate: float | None = Field(None, gt=0, le=1000, description="ticks per second, at whole multiples of it [Hz]")

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.source is None) == (self.rate is None):
            raise ValueError("give either source or rate")
        return self


class History(_Part):
    """What the policy sees beside the newest observation."""

    observations: int = Field(1, ge=1, le=64, description="the newest k, newest first; an episode begins with copies")
    actions: int = Field(0, ge=0, le=64, description="the last m commands, newest first; at first `stop` (hold: zeros)")


class Guarded(_Part):
    """A reward or cost that a safeguard gives, by the observation of a tick and the command that led to it."""

    safeguard: Annotated[Safeguard, BeforeValidator(_safeguard)] = Field(description="file, from the contract's folder")


Signal = Annotated[
    Annotated[ExpressionText, Tag(BY_EXPRESSION)] | Annotated[Guarded, Tag(BY_SAFEGUARD)], Discriminator(_kind)
]


class EpisodeRules(_Part):
    """Where an episode ends. A tick that cannot be made ends one too: nothing ever reaches across a hole."""

    gap: Seconds | None = Field(
        None,
        description="a longer time between two ticks separates episodes [s]; null: where a source makes the ticks, "
        "over 1 s and over five times the usual distance (median of up to five before)",
    )
    max_steps: int | None = Field(
        None, ge=1, le=10_000_000, description="truncated after so many steps; the robot goes on, unstopped"
    )
    begin_on: list[str] = Field([], description="sources: the first tick not before a message of one begins an episode")
    end_on: list[str] = Field([], description="sources: the first tick not before a message of one is the last")
    terminated: ExpressionText | None = Field(None, description="true: the state is absorbing")
    truncated: ExpressionText | None = Field(None, description="true: the episode is cut")
    service: bool = Field(True, description="robot_bridge/new_episode begins one, and says so on a topic of that name")


class Action(_Part):
    """Where commands go: and, in a bag, where they are read from."""

    topic: TopicName = Field(description="full name of the topic")
    type: TypeName = Field(description="package/msg/Name")
    fields: list[PathText] = Field(min_length=1, description="where the action's numbers stand, in this order")
    joints: list[str] = Field([], description="names of the entries; written into joint_names")
    joint_names: PathText = Field("joint_names", description="where the message has these names")
    low: Numbers = Field(min_length=1, description="least action, in the policy's units; commands are held to it")
    high: Numbers = Field(min_length=1, description="largest action")
    max_rate: Rates | None = Field(None, description="largest change per second, > 0; commands are held to it")
    stop: Literal["hold"] | Numbers = Field(
        description="what is sent where there is no command, at the end and in silence, at once, whatever max_rate "
        "says; hold: the last command again, for a robot that takes positions"
    )
    timeout: Seconds = Field(0.5, gt=0, description="so long without a command, stop is sent [s]")
    scale: float | Numbers = Field(1.0, description="the message has scale x action + offset")
    offset: float | Numbers = Field(0.0, description="see scale")
    constants: dict[PathText, Any] = Field({}, description="other fields of the message")
    unit: str = Field("", description="for people")

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        size = len(self.low)
        for name in ("high", "stop", "max_rate"):
            given = getattr(self, name)
            if isinstance(given, list) and len(given) != size:
                raise ValueError(f"low has {size} numbers, {name} {len(given)}")
        for low, stop, high in zip(self.low, self.first, self.high, strict=True):
            if not low <= stop <= high or low >= high:
                raise ValueError(f"low {low}, stop {stop}, high {high} are not in this order")
            if not low <= 0.0 <= high:
                raise ValueError(f"0, policy_server's last resort, is not in {low}..{high}: shift it with offset")
        for name in ("scale", "offset"):
            check_factors(getattr(self, name), size, name)
        if 0.0 in (self.scale if isinstance(self.scale, list) else [self.scale]):
            raise ValueError("scale is 0: commands in a bag could not be read back")
        return self

    @property
    def first(self) -> list[float]:
        """The command (A,) that counts as the last one where there was none: `stop`, or zeros where that is to hold."""
        return [0.0] * len(self.low) if self.stop == "hold" else self.stop


class Contract(_Part):
    """All of it. Reward and cost are expressions over the sources by their names (raw values, in their units), or of a
    safeguard: then the cost is the machine's, a reward is minus that [ours].
    """

    schema_: str = Field(CONTRACT_SCHEMA, alias="schema", pattern=f"^{CONTRACT_SCHEMA}$", description="of this file")
    name: str = Field(pattern=_NAME, max_length=60, description="first part of the episodes' names")
    description: str = Field("", description="for people")
    tick: Tick
    sources: dict[Annotated[str, Field(pattern=_NAME)], Source] = Field(min_length=1)
    history: History = Field(default_factory=lambda: History.model_validate({}))
    reward: Signal = Field("0", description="of the transition that led here")
    cost: Signal = Field("0", description="of the transition that led here, >= 0")
    episode: EpisodeRules = Field(default_factory=lambda: EpisodeRules.model_validate({}))
    action: Action

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        named = [("tick.source", [self.tick.source] if self.tick.source else []),
                 ("episode.begin_on", self.episode.begin_on), ("episode.end_on", self.episode.end_on)]  # fmt: skip
        for where, names in named:
            for name in names:
                if name not in self.sources:
                    raise ValueError(f"{where} names the unknown source {name!r}; there are {', '.join(self.sources)}")
        if not self.observed:
            raise ValueError("no source is part of the observation")
        for name in self.observed:
            if not self.sources[name].fields:
                raise ValueError(f"source {name} is part of the observation and has no fields; or say observe: false")
        for where, expression in self.expressions.items():
            try:
                expression.require(list(self.sources), "source")
            except ExpressionError as error:
                raise ValueError(f"{where}: {error}") from error
        for where, safeguard in self.safeguards.items():
            if safeguard.action_size != self.action_size:
                raise ValueError(
                    f"{where}: safeguard {safeguard.name!r} is for actions of {safeguard.action_size} numbers, "
                    f"this robot's have {self.action_size}"
                )
        return self

    @cached_property
    def safeguards(self) -> dict[str, Safeguard]:
        """Those that give reward or cost."""
        given = {"reward": self.reward, "cost": self.cost}
        return {name: one.safeguard for name, one in given.items() if isinstance(one, Guarded)}

    @cached_property
    def expressions(self) -> dict[str, Expression]:
        """Parsed: reward and cost where they are such, and terminated and truncated where they are given."""
        texts = {"reward": self.reward, "cost": self.cost, "terminated": self.episode.terminated,
                 "truncated": self.episode.truncated}  # fmt: skip
        return {name: Expression(text) for name, text in texts.items() if isinstance(text, str)}

    @cached_property
    def observed(self) -> tuple[str, ...]:
        """Sources that the observation is made of, in the file's order."""
        return tuple(name for name, source in self.sources.items() if source.observe)

    @cached_property
    def required(self) -> tuple[str, ...]:
        """Sources without which there is no tick: those observed, and those in expressions."""
        used = {name for expression in self.expressions.values() for name in expression.names}
        return tuple(name for name in self.sources if name in used or name in self.observed)

    @cached_property
    def digest(self) -> str:
        """SHA-256, hex, of all that it says."""
        content = self.model_dump(mode="json", by_alias=True)
        return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    @property
    def action_size(self) -> int:
        """A."""
        return len(self.action.low)


def load_contract(path: Path) -> Contract:
    """Reads a contract file.

    Raises:
        SettingsError: unreadable, or a field that is unknown, missing or out of range; it is named with its value.
    """
    return load_settings(Contract, path)


def check_factors(given: float | Sequence[float], size: int, name: str) -> None:
    """Raises ValueError unless there is one number, or one for each of `size`."""
    if isinstance(given, list) and len(given) != size:
        raise ValueError(f"{name} has {len(given)} numbers for {size} values")
