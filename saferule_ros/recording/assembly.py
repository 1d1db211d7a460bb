"""What the assembler hands out: an episode as far as it is clean, and everything that was wrong with it."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from saferule_ros.dataset.episode import Episode


@dataclass(frozen=True)
class Faults:
    """Counts of what went wrong on the way from the robot.

    Attributes:
        lost: ticks without a usable observation or command, between the first tick and the last one seen.
        refused: messages of a wrong size, with non-finite values or a negative cost, or thousands of ticks late.
        conflicting: messages that contradict another one of the same tick, or their own tick counter.
        duplicated: messages that came twice, alike.
        out_of_order: observations that came after a later one (put in their place).
        unused: clean transitions that are left out because a tick before them is lost.
    """

    lost: int = 0
    refused: int = 0
    conflicting: int = 0
    duplicated: int = 0
    out_of_order: int = 0
    unused: int = 0

    def __add__(self, other: "Faults") -> "Faults":
        return Faults(*(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__))


@dataclass
class TopicCounts:
    """What became of one topic's messages of an episode.

    Attributes:
        received: all that came.
        dropped: ticks, up to the episode's last one, of which none came.
        late: observations that came after the command which answers them; commands that came after the observation
            which follows.
        out_of_order: that came after one of a later tick.
        duplicated: that came twice, alike.
    """

    received: int = 0
    dropped: int = 0
    late: int = 0
    out_of_order: int = 0
    duplicated: int = 0


@dataclass(frozen=True)
class AssembledEpisode:
    """One finished episode.

    Attributes:
        episode_id: its name.
        episode: the clean part from its beginning; None if there is not one whole transition.
        faults: what was wrong.
        message: empty, or the same in words.
        messages: whatever was handed in with each of its messages, in the order of reception; of a long one on disk.
        end: stamp of its last observation [ns].
        topics: counts of "observation" and "action".
        empty: its first observation is all of it, and nothing was lost or wrong: there is nothing to know about it.
    """

    episode_id: str
    episode: Episode | None
    faults: Faults
    message: str
    messages: Iterable[Any]
    end: int
    topics: Mapping[str, TopicCounts] = field(default_factory=dict)
    empty: bool = False

    @property
    def facts(self) -> dict[str, str]:
        """What is kept beside the messages when they are recorded, and checked when they are read again."""
        return {
            "episode_id": self.episode_id,
            "digest": self.episode.digest if self.episode else "",
            "length": str(self.episode.length if self.episode else 0),
            "return": repr(self.episode.episode_return if self.episode else 0.0),
            "cost": repr(self.episode.episode_cost if self.episode else 0.0),
            "policy_ids": " ".join(self.episode.policy_ids if self.episode else ()),
            "message": self.message,
            "topics": json.dumps({name: asdict(counts) for name, counts in self.topics.items()}, sort_keys=True),
        }
