"""The last ticks before something went wrong, as a log that decides again: one JSON line per tick.

    line 1    the limits
    others    what was known of a tick, and what was decided

`replay` puts every tick through the failsafe decision once more and compares.
"""

import json
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from saferule_ros.policy import durable
from saferule_ros.policy.errors import PolicyError
from saferule_ros.policy.failsafe import Decision, Limits, Reaction, Reason, Tick, decide, tick_from_record, tick_record
from saferule_ros.policy.spec import PolicySpec

# 5 s at 200 Hz. Some hundred bytes each while they are kept, a kilobyte each when they are written.
TICKS = 1000


class FlightError(PolicyError):
    """A file is no flight log."""


class Entry(NamedTuple):
    """One tick."""

    limits: Limits
    policy_id: str
    tick: Tick
    decision: Decision


class FlightRecorder:
    """Keeps the newest ticks. `note` is called in every tick and only keeps references."""

    def __init__(self, ticks: int = TICKS) -> None:
        self._entries: deque[Entry] = deque(maxlen=ticks)

    def note(self, limits: Limits, policy_id: str, tick: Tick, decision: Decision) -> None:
        """Takes down one tick."""
        self._entries.append(Entry(limits, policy_id, tick, decision))

    def copy(self) -> list[Entry]:
        """What is kept now, oldest first."""
        return list(self._entries)


def write(entries: list[Entry], path: Path) -> None:
    """Writes a log, durably; none where there were no ticks. Only those held against the newest limits are in it.

    Raises:
        StoreError: it cannot be written.
    """
    if not entries:
        return
    limits = entries[-1].limits
    lines: list[dict[str, Any]] = [_limits_record(limits)]
    lines += [_entry_record(entry) for entry in entries if entry.limits is limits or entry.limits == limits]
    durable.make_folder(path.parent)
    data = "".join(f"{json.dumps(line, allow_nan=False)}\n" for line in lines).encode()
    durable.replace_file(path, data, path.with_suffix(".part"))


@dataclass(frozen=True)
class Replayed:
    """What a replay gave."""

    ticks: int
    reasons: dict[str, int]  # how often each reason was decided
    differing: tuple[int, ...]  # lines whose decision came out different


def replay(path: Path) -> Replayed:
    """Decides every tick of a log again.

    Raises:
        FlightError: it is no flight log.
    """
    reasons: dict[str, int] = {}
    differing = []
    number = 0
    try:
        with path.open(encoding="utf-8") as file:
            limits = _limits_from(json.loads(next(file)))
            for number, line in enumerate(file, start=2):
                record = json.loads(line)
                decision = decide(limits, tick_from_record(record["tick"]))
                found = decision.action.tolist()
                if (str(decision.reason), found) != (record["reason"], record["action"]):
                    differing.append(number)
                reasons[str(decision.reason)] = reasons.get(str(decision.reason), 0) + 1
    except (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError,
            StopIteration) as error:  # fmt: skip
        raise FlightError(
            f"{path}, line {max(1, number)}, is no flight log: {error!r}", "Give a file of flights/"
        ) from error
    return Replayed(sum(reasons.values()), reasons, tuple(differing))


def _limits_record(limits: Limits) -> dict[str, Any]:
    return {
        "spec": limits.spec.model_dump(mode="json"),
        "stale_after_s": limits.stale_after_s,
        "deadline_s": limits.deadline_s,
        "future_tolerance_s": limits.future_tolerance_s,
        "reaction": str(limits.reaction),
        "reactions": {str(reason): str(reaction) for reason, reaction in limits.reactions.items()},
        "damping": limits.damping,
        "largest_rate": limits.largest_rate,
    }


def _limits_from(record: dict[str, Any]) -> Limits:
    reactions = {Reason(reason): Reaction(reaction) for reason, reaction in record["reactions"].items()}
    fields = {"spec": PolicySpec(**record["spec"]), "reaction": Reaction(record["reaction"]), "reactions": reactions}
    return Limits(**{**record, **fields})


def _entry_record(entry: Entry) -> dict[str, Any]:
    return {
        "policy_id": entry.policy_id,
        "reason": str(entry.decision.reason),
        "detail": entry.decision.detail,
        "action": entry.decision.action.tolist(),
        "tick": tick_record(entry.tick),
    }
