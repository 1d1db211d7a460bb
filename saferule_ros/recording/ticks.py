"""What became of a contract's ticks: which of them are observations, and which are not, and why."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Ticks:
    """Counts, of ingest as of the live bridge: the same code counts both. Our own two topics have no ticks.

    A recording begins before every source was heard, and ends while the last tick still waits for a message. Such
    ticks are counted apart: they lie outside of what was recorded, and nothing of it is lost with them.

    Attributes:
        made: ticks with an observation.
        early: before a source that they need was heard for the first time.
        unfinished: that still waited for a message when nothing more came.
        lost: that could not be made: a source was too old, missing or unusable, and the episode ended before them; or
            that came after a later one.
        reasons: of the lost ones: "source: why" -> how many.
    """

    made: int = 0
    early: int = 0
    unfinished: int = 0
    lost: int = 0
    reasons: dict[str, int] = field(default_factory=dict)

    def lose(self, why: str, count: int = 1) -> None:
        """Ticks could not be made. What stands behind the second colon of `why` differs from tick to tick."""
        self.lost += count
        reason = ":".join(why.split(":")[:2])
        self.reasons[reason] = self.reasons.get(reason, 0) + count

    def __add__(self, other: "Ticks") -> "Ticks":
        return Ticks(
            self.made + other.made, self.early + other.early, self.unfinished + other.unfinished,
            self.lost + other.lost, dict(Counter(self.reasons) + Counter(other.reasons)),
        )  # fmt: skip

    @property
    def values(self) -> dict[str, int]:
        """All counts by name, for people: "made", …, and each reason."""
        counts = {"made": self.made, "early": self.early, "unfinished": self.unfinished, "lost": self.lost}
        return counts | {f"lost, {reason}": count for reason, count in sorted(self.reasons.items())}

    def __str__(self) -> str:
        why = ", ".join(f"{reason} {count}" for reason, count in sorted(self.reasons.items()))
        return f"{self.lost} ticks could not be made" + (f" ({why})" if why else "")
