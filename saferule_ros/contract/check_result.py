"""What a check of a contract found."""

from dataclasses import asdict, dataclass, field
from typing import Any

from saferule_ros.contract.model import Contract
from saferule_ros.contract.tick_delay import TickDelay
from saferule_ros.recording.ticks import Ticks
from saferule_ros.units import NANOSECONDS


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
