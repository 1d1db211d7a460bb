"""The places that a bundle can have in the store, and the lock that every change of them holds."""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from saferule_ros.file_locks import try_lock_of
from saferule_ros.policy.audit import AuditEvent
from saferule_ros.policy.errors import StoreBusyError, StoreError
from saferule_ros.policy.manifest import ID_PATTERN

Place = Literal["active", "previous", "candidate"]
PLACES: tuple[Place, ...] = ("active", "previous", "candidate")

# Of places.json as it is written now; older ones are read.
FORMAT: Literal[2] = 2

# How often a lock that somebody else holds is tried again [s]: a change takes some milliseconds.
LOCK_POLL = 0.002


class Arrival(BaseModel):
    """What a version counter of one maker counts as here."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key_id: str = Field(description="that signed the bundle")
    version: int = Field(ge=0, description="counter of whoever has that key")
    order: int = Field(ge=0, description="counter of this store; never less than version")


class Places(BaseModel):
    """Content of places.json.

    Each maker (key) counts its own bundles, and counters of two makers say nothing of each other. So this store counts,
    too: what is newer than all that it had of a maker is newer than all that it had. What it had once, or something
    older of the same maker, stays as old as it was, also if it was pruned and comes again. [ours]
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1, 2] = Field(default=FORMAT, description="1: of before arrivals were noted")
    active: str | None = Field(default=None, pattern=ID_PATTERN)
    previous: str | None = Field(default=None, pattern=ID_PATTERN)
    candidate: str | None = Field(default=None, pattern=ID_PATTERN)
    trial: bool = Field(default=False, description="active has not proved good yet, see SwapLife")
    before_trial: str | None = Field(default=None, pattern=ID_PATTERN, description="previous before the trial began")
    newest_version: int = Field(default=0, ge=0, description="largest order of any bundle that was added")
    version_floor: int = Field(default=0, ge=0, description="largest one of any bundle that was active and good")
    arrivals: tuple[Arrival, ...] = Field(
        default=(), description="the newest of each maker, and others not too old yet"
    )
    latest: AuditEvent | None = None

    @property
    def in_service(self) -> frozenset[str]:
        """Bundles in the places active and previous."""
        return frozenset(filter(None, (self.active, self.previous)))

    def order_of(self, key_id: str, version: int) -> int:
        """What a maker's version counter counts as here; one from before what is known counts as it is."""
        known = (one.order for one in self.arrivals if one.key_id == key_id and one.version <= version)
        return max(known, default=version)

    def with_arrival(self, key_id: str, version: int) -> "Places":
        """With a bundle that was added."""
        if any(one.key_id == key_id and one.version >= version for one in self.arrivals):
            return self
        order = max(self.newest_version + 1, version)
        # Forgotten is what is too old to serve: with its own number, which is not larger, it is as well.
        newest = {one.key_id: one for one in self.arrivals}
        kept = (one for one in self.arrivals if one.order >= self.version_floor or one == newest[one.key_id])
        arrivals = (*kept, Arrival(key_id=key_id, version=version, order=order))
        return self.model_copy(update={"newest_version": order, "arrivals": arrivals})

    @property
    def in_use(self) -> frozenset[str]:
        """Bundles that have a place, or will have one again if the trial fails."""
        return frozenset(filter(None, (self.active, self.previous, self.candidate, self.before_trial)))

    def get(self, place: Place) -> str | None:
        """Bundle id in a place."""
        return {"active": self.active, "previous": self.previous, "candidate": self.candidate}[place]

    def of(self, bundle_id: str) -> Place | None:
        """The (first) place that a bundle has."""
        return next((place for place in PLACES if self.get(place) == bundle_id), None)

    def activated(self, bundle_id: str, order: int, trial: bool, acting: str | None = None) -> "Places":
        """With `bundle_id` active and what was active previous; it is no candidate any more.

        What is active on trial does not become previous: a way back always leads to a policy that proved good.

        Args:
            order: what its version counter counts as here.
            trial: whether it has to prove good first: then it does not count as active yet for the counter.
            acting: what acts, where a server knows: that becomes previous, whatever somebody else has made active here
                meanwhile.
        """
        candidate = None if self.candidate == bundle_id else self.candidate
        if self.active == bundle_id and acting in (None, bundle_id):
            return self.model_copy(update={"candidate": candidate})
        good = self.reverted() if self.trial else self
        previous = acting or good.active
        earlier = (one for one in (good.active, good.previous) if one not in (previous, bundle_id))
        floor = self.version_floor if trial else max(self.version_floor, order)
        return good.model_copy(update={
            "active": bundle_id, "previous": previous, "candidate": candidate, "trial": trial,
            "before_trial": next(earlier, None) if trial else None, "version_floor": floor,
        })  # fmt: skip

    def proved_good(self, order: int) -> "Places":
        """With the trial of the active bundle passed; for `order` see activated()."""
        floor = max(self.version_floor, order)
        return self.model_copy(update={"trial": False, "before_trial": None, "version_floor": floor})

    def reverted(self) -> "Places":
        """With the trial failed: the places are as before it. The bundle that failed has no place any more."""
        return self.model_copy(update={
            "active": self.previous, "previous": self.before_trial, "trial": False, "before_trial": None,
        })  # fmt: skip

    def rolled_back(self) -> "Places":
        """With active and previous swapped; where active is on trial, as before that."""
        if self.trial:
            return self.reverted()
        return self.model_copy(update={"active": self.previous, "previous": self.active})


@contextlib.contextmanager
def locked(path: Path, timeout: float) -> Iterator[None]:
    """Holds an exclusive lock against other threads, processes and machines (see file_locks). The kernel frees it when
    its holder dies.

    Raises:
        StoreBusyError: somebody else held it for `timeout` seconds.
        StoreError: the file cannot be opened, or not be locked by anybody.
    """
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise StoreError(f"{path} cannot be opened: {error.strerror}", "Make the store writable") from error
    try:
        _acquire(handle, path, timeout)
        yield
    finally:
        os.close(handle)


def _acquire(handle: int, path: Path, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while not try_lock_of(handle, str(path), StoreError):
        if time.monotonic() > deadline:
            raise StoreBusyError(
                f"another process has held {path} for {timeout:g} s",
                f"Find it with `fuser {path}` on each machine that shares the folder; end it if it hangs",
            )
        time.sleep(LOCK_POLL)
