"""The store's audit log: one JSON line per event, numbered without gaps, each with a digest over all before it.

Who changes, removes or inserts a line breaks the chain from there on, and the end of the chain stands in places.json.
That shows tampering by someone who does not know of it; someone who may write to the store can forge all of it.

The latest event also stands in places.json, which changes atomically. A process that was killed between the
two leaves the log one line short; the next change of the store writes that line first.
"""

import hashlib
import json
import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pydantic
from pydantic import BaseModel, ConfigDict, Field

from saferule_ros.policy.durable import append_line, rename
from saferule_ros.policy.errors import AuditError, StoreError
from saferule_ros.policy.manifest import canonical_json
from saferule_ros.utf8 import as_utf8

log = logging.getLogger(__name__)

# Longest reason or requester that is kept. With it a line stays below TAIL, escaped or not.
MAX_TEXT = 1000
TAIL = 1 << 16


class AuditEvent(BaseModel):
    """One thing that was done to the store, or refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    number: int = Field(ge=1, description="counts events of this store from 1")
    time: str = Field(description="ISO 8601, UTC")
    event: str = Field(description="add, set_candidate, activate, rollback, or what a caller recorded")
    before: str | None = Field(default=None, alias="from", description="bundle id in the place before")
    after: str | None = Field(default=None, alias="to", description="bundle id that the event is about")
    reason: str = ""
    requester: str = ""
    chain: str = Field(default="", description="sha256 over the chain of the event before and all else of this one")

    @classmethod
    def now(
        cls, last: "AuditEvent | None", event: str, before: str | None, after: str | None, reason: str, requester: str
    ) -> "AuditEvent":
        """An event of this moment, after `last`."""
        unchained = cls.model_validate({
            "number": last.number + 1 if last else 1, "time": datetime.now(UTC).isoformat(timespec="microseconds"),
            "event": event, "from": before, "to": after,
            # Nobody who rolls back is refused for the spelling of a reason.
            "reason": as_utf8(reason[:MAX_TEXT]), "requester": as_utf8(requester[:MAX_TEXT]),
        })  # fmt: skip
        return unchained.model_copy(update={"chain": unchained.linked(last.chain if last else "")})

    def linked(self, chain: str) -> str:
        """The chain of this event after one whose chain is `chain`."""
        return hashlib.sha256(chain.encode() + canonical_json(self.as_json() | {"chain": ""})).hexdigest()

    def as_json(self) -> dict[str, Any]:
        """Field names as in the log: from, to."""
        return self.model_dump(mode="json", by_alias=True)


def complete(path: Path, latest: AuditEvent | None) -> None:
    """Makes the log end with `latest`; a torn last line is dropped.

    A log whose last line is no event is put aside as it is, and a new one begun: a damaged log must not keep
    anybody from rolling back.

    Raises:
        StoreError: the log cannot be written.
    """
    if latest is None:
        return
    try:
        size, number = _end(path)
    except (ValueError, KeyError, TypeError):
        aside = put_aside(path, latest.number)
        log.error("%s ends with something that is no event: it is kept as %s", path, aside)
        rename(path, aside)
        size, number = 0, 0
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}", "Make the store readable") from error
    if number < latest.number:
        append_line(path, json.dumps(latest.as_json(), sort_keys=True).encode("ascii") + b"\n", size)


def read_log(path: Path) -> bytes:
    """The log as it is now; empty where there is none."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def checked_events(path: Path, content: bytes, latest: AuditEvent | None) -> tuple[AuditEvent, ...]:
    """All events, oldest first, with `latest` where the log does not have it yet.

    Args:
        path: of the log.
        content: of it, read while `latest` was the store's last event: before its line was written, or after.
        latest: see places.json.

    Raises:
        StoreError: a line is no event.
        AuditError: the chain is broken; says at which line.
    """
    events = []
    for number, line in enumerate(content.split(b"\n")[:-1], start=1):
        try:
            events.append(AuditEvent.model_validate_json(line))
        except pydantic.ValidationError as error:
            raise StoreError(
                f"line {number} of {path} is no event: {line!r:.80}", "Move the file aside to begin a new log"
            ) from error
    if latest is not None and (not events or events[-1].number < latest.number):
        events.append(latest)
    check_chain(path, events, latest)
    return tuple(events)


def check_chain(path: Path, events: Sequence[AuditEvent], latest: AuditEvent | None) -> None:
    """Every event follows from the one before, the first of all from nothing, and the last is what the store did last.

    A log may begin with a later number only where it was begun anew with it, and the damaged one before it still lies
    aside: from there it is checked.

    Raises:
        AuditError: says at which line.
    """
    if events and events[0].number > 1 and not put_aside(path, events[0].number).exists():
        raise AuditError(
            f"{path} begins with event {events[0].number}: those before it are missing",
            "The log was cut or removed by hand; compare it with a backup",
        )
    last: AuditEvent | None = None
    for line, event in enumerate(events, start=1):
        known = last is not None or event.number == 1
        follows = last is None or event.number == last.number + 1
        if not follows or (known and event.chain != event.linked(last.chain if last else "")):
            raise AuditError(
                f"line {line} of {path}, event {event.number}, does not follow from the line before",
                "The log was changed by hand, or lines are missing; compare it with a backup",
            )
        last = event
    if last != latest:
        raise AuditError(
            f"{path} ends with event {last.number if last else 0}, which is not the store's last",
            "The log was changed by hand; compare it with a backup",
        )


def put_aside(path: Path, number: int) -> Path:
    """Where a damaged log is kept, after which a new one was begun with this event."""
    return path.with_name(f"{path.name}.damaged-{number}")


def _end(path: Path) -> tuple[int, int]:
    """Bytes up to the end of the last whole line, and that line's number (0: no line)."""
    if not path.exists():
        return 0, 0
    with path.open("rb") as file:
        start = max(0, file.seek(0, 2) - 2 * TAIL)
        file.seek(start)
        tail = file.read()
    end = tail.rfind(b"\n") + 1
    if end == 0 and start == 0:
        return 0, 0
    begin = tail.rfind(b"\n", 0, max(0, end - 1)) + 1
    return start + end, int(json.loads(tail[begin:end])["number"])
