"""The policy store: verified bundles on disk, and the places active, previous and candidate.

    <root>/bundles/<bundle id>/   policy.onnx, golden.npz, manifest.json: never changed once there
    <root>/places.json            which bundle is active, previous, candidate; and the latest event
    <root>/audit.jsonl            every event
    <root>/staging/               half-written things, emptied by the next add()
    <root>/lock                   held (flock) during every change

places.json is replaced atomically and is the only thing that a change of places writes: a process killed at
any instant leaves the old places or the new ones. The log is completed from it afterwards.
"""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

from saferule_ros.policy import durable
from saferule_ros.policy.audit import AuditEvent, complete
from saferule_ros.policy.errors import StoreError
from saferule_ros.policy.manifest import canonical_json, verify_bundle
from saferule_ros.policy.places import Places, locked
from saferule_ros.policy.reader import StoreEntry, StoreReader, VerifiedBundle

__all__ = ["PolicyStore", "StoreEntry", "VerifiedBundle"]

# A change takes some milliseconds. Whoever holds the lock longer than this [s] hangs (stopped, dead disk).
LOCK_TIMEOUT = 10.0

log = logging.getLogger(__name__)


class PolicyStore(StoreReader):
    """A store in a folder. Safe for several threads and processes at once.

    Every method raises StoreMissingError where there is no store, and StoreError where it cannot be read or
    written. A change that raises has changed no place; only where the disk fails at the very last sync may it
    have been made all the same: `places()` tells.

    Args:
        root: its folder. Nothing is read or made until a method is called.
        lock_timeout: how long a change waits for one in another process [s].
    """

    def __init__(self, root: Path | str, lock_timeout: float = LOCK_TIMEOUT) -> None:
        super().__init__(root)
        self.lock_timeout = lock_timeout

    def create(self) -> "PolicyStore":
        """Makes an empty store where there is none, or completes one whose making was cut short."""
        missing = [folder for folder in (self.root, *self.root.parents) if not folder.exists()]
        for folder in (*reversed(missing), self.bundles, self.staging):
            durable.make_folder(folder)
        with locked(self.root / "lock", self.lock_timeout):
            if not self.places_path.exists():
                if self._ids():
                    raise self._broken(f"{self.places_path} is missing, although there are bundles")
                self._write(Places())
        return self

    def add(self, folder: Path | str, *, reason: str = "", requester: str = "") -> str:
        """Copies a bundle folder into the store, verified. Adding it again repairs a damaged copy.

        Returns:
            The bundle id.

        Raises:
            CorruptBundleError: the folder is not what its manifest says. Nothing was added.
        """
        source = Path(folder)
        with self._changing() as places:
            bundle_id = verify_bundle(source).bundle_id
            self._clear_staging()
            fresh, target = self.staging / bundle_id, self.bundles / bundle_id
            durable.make_folder(fresh)
            for file in sorted(source.iterdir()):
                durable.write_file(fresh / file.name, file.read_bytes())
            if verify_bundle(fresh).bundle_id != bundle_id:
                raise StoreError(f"bundle {source} changed while it was added", "Add it again")
            if target.exists() and not self._intact(bundle_id):
                durable.rename(target, self.staging / f"{bundle_id}.damaged")
            if not target.exists():
                durable.rename_folder(fresh, target)
            self._clear_staging()
            self._commit(places, "add", None, bundle_id, reason, requester)
        return bundle_id

    def set_candidate(self, bundle_id: str, *, reason: str = "", requester: str = "") -> None:
        """Puts a verified bundle into the place candidate: what a swap without an id takes."""
        with self._changing() as places:
            self.get(bundle_id)
            after = places.model_copy(update={"candidate": bundle_id})
            self._commit(after, "set_candidate", places.candidate, bundle_id, reason, requester)

    def activate(self, bundle_id: str, *, reason: str = "", requester: str = "") -> None:
        """Makes a verified bundle the active one; the active one becomes previous. Durable on return.

        Activating what is active changes nothing. Whether a bundle may serve is the gate's to say, not this
        method's.
        """
        with self._changing() as places:
            self.get(bundle_id)
            after = places.activated(bundle_id)
            if after != places:
                self._commit(after, "activate", places.active, bundle_id, reason, requester)

    def rollback(self, *, reason: str = "", requester: str = "") -> str:
        """Swaps active and previous, and returns the id that is active now. Twice brings back the first.

        Works with a damaged active bundle; the previous one is verified.

        Raises:
            NoPolicyError: there is no previous.
        """
        with self._changing() as places:
            if places.previous is None:
                raise self._empty("previous")
            self.get(places.previous)
            after = places.rolled_back()
            self._commit(after, "rollback", places.active, places.previous, reason, requester)
            return places.previous

    def record(self, event: str, bundle_id: str | None = None, *, reason: str = "", requester: str = "") -> None:
        """Writes an event that changed no place, such as a refused swap, to the audit log."""
        with self._changing() as places:
            self._commit(places, event, places.active, bundle_id, reason, requester)

    def _commit(
        self, places: Places, event: str, before: str | None, after: str | None, reason: str, requester: str
    ) -> None:
        number = places.latest.number + 1 if places.latest else 1
        latest = AuditEvent.now(number, event, before, after, reason, requester)
        self._write(places.model_copy(update={"latest": latest}))
        try:
            complete(self.audit_path, latest)
        except StoreError as error:  # the change itself is durable, and its line waits in places.json
            log.warning("%s (the audit line will be written with the store's next change)", error)

    def _write(self, places: Places) -> None:
        data = canonical_json(places.model_dump(mode="json", by_alias=True))
        durable.replace_file(self.places_path, data, self.staging / "places.json")

    @contextlib.contextmanager
    def _changing(self) -> Iterator[Places]:
        """Holds the lock, with the log completed, and gives the places."""
        self.places()  # a missing store is reported as such, before a lock file is made in some other folder
        with locked(self.root / "lock", self.lock_timeout):
            places = self.places()
            complete(self.audit_path, places.latest)
            yield places

    def _clear_staging(self) -> None:
        for entry in self.staging.iterdir():
            durable.remove(entry)
