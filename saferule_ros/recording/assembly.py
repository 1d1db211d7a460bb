"""What the assembler hands out: an episode as far as it is clean, and everything that was wrong with it."""

from dataclasses import dataclass
from typing import Any

from saferule_ros.dataset.episode import Episode


@dataclass(frozen=True)
class Faults:
    """Counts of what went wrong on the way from the robot.

    Attributes:
        lost: ticks without a usable observation or command, between the first tick and the last one seen.
        refused: messages of a wrong size, or with non-finite values or a negative cost.
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


@dataclass(frozen=True)
class AssembledEpisode:
    """One finished episode.

    Attributes:
        episode_id: its name.
        episode: the clean part from its beginning; None if there is not one whole transition.
        faults: what was wrong.
        message: empty, or the same in words.
        messages: whatever was handed in with each of its messages, in the order of reception.
        end: stamp of its last observation [ns].
    """

    episode_id: str
    episode: Episode | None
    faults: Faults
    message: str
    messages: tuple[Any, ...]
    end: int

    @property
    def facts(self) -> dict[str, str]:
        """What is kept beside the messages when they are recorded, and checked when they are read again."""
        return {
            "episode_id": self.episode_id,
            "digest": self.episode.digest if self.episode else "",
            "length": str(self.episode.length if self.episode else 0),
            "message": self.message,
        }
