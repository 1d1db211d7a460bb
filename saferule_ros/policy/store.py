"""The policy store: verified bundles on disk, and the places active, previous and candidate.

    <root>/bundles/<bundle id>/   policy.onnx, golden.npz, manifest.json, signature.json: never changed once there
    <root>/places.json            which bundle is active, previous, candidate; and the latest event
    <root>/audit.jsonl            every event
    <root>/held/                  what running jobs need, see holds
    <root>/staging/               half-written things, emptied by the next add()
    <root>/lock                   held during every change, see file_locks

places.json is replaced atomically and is the only thing that a change of places writes: a process killed at
any instant leaves the old places or the new ones. The log is completed from it afterwards.
"""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

from saferule_ros.policy import archive, durable, holds
from saferule_ros.policy.audit import AuditEvent, complete, read_log
from saferule_ros.policy.bundle_files import verify_bundle
from saferule_ros.policy.errors import CorruptBundleError, NoPolicyError, StoreError
from saferule_ros.policy.invariants import check_version
from saferule_ros.policy.manifest import canonical_json
from saferule_ros.policy.places import FORMAT, Arrival, Places, locked
from saferule_ros.policy.reader import StoreEntry, StoreReader, VerifiedBundle
from saferule_ros.signing import OWN, PrivateKey, TrustedKeys

__all__ = ["PolicyStore", "StoreEntry", "VerifiedBundle"]

# A change takes some milliseconds. Whoever holds the lock longer than this [s] hangs (stopped, dead disk).
LOCK_TIMEOUT = 10.0

# How many bundles without a place prune() leaves: the newest may be wanted again, and a job that has just added one
# has not named it the candidate yet.
KEPT = 5

log = logging.getLogger(__name__)


class PolicyStore(StoreReader):
    """A store in a folder. Safe for several threads and processes at once, on several machines too where the folder is
    shared over NFS with locking.

    Every method raises StoreMissingError where there is no store, and StoreError where it cannot be read or
    written. A change that raises has changed no place; only where the disk fails at the very last sync may it
    have been made all the same: `places()` tells.

    Args:
        root: its folder. Nothing is read or made until a method is called.
        lock_timeout: how long a change waits for one in another process [s].
        keys: folder of keys, see StoreReader.
    """

    def __init__(self, root: Path | str, lock_timeout: float = LOCK_TIMEOUT, keys: Path | None = None) -> None:
        super().__init__(root, keys)
        self.lock_timeout = lock_timeout

    def signer(self) -> PrivateKey:
        """The key that bundles are signed with here: this robot's own, made when it is first asked for."""
        return self.keys.own()

    def next_version(self) -> int:
        """Version counter of a bundle that is made now."""
        return self.places().newest_version + 1

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

    def add(self, folder: Path | str, *, reason: str = "", requester: str = "", called: str = "") -> str:
        """Copies a bundle folder into the store, verified. Adding it again repairs a damaged copy.

        Args:
            reason, requester: for the audit log.
            called: what the folder is called for people; without: its path.

        Returns:
            The bundle id.

        Raises:
            KeyFileError: the trusted keys cannot be read.
            CorruptBundleError: the folder is not what its manifest says. Nothing was added.
        """
        source = Path(folder)
        with self._changing() as places:
            trusted = self.keys.trusted()
            places = self._of_today(places, trusted)  # before there is one more
            manifest, _, key_id = verify_bundle(source, trusted, called)
            bundle_id = manifest.bundle_id
            self._clear_staging()
            fresh, target = self.staging / bundle_id, self.bundles / bundle_id
            durable.make_folder(fresh)
            for file in sorted(source.iterdir()):
                durable.write_file(fresh / file.name, file.read_bytes())
            if verify_bundle(fresh, trusted).manifest != manifest:
                raise StoreError(f"bundle {source} changed while it was added", "Add it again")
            if target.exists() and not self._intact(bundle_id):
                durable.rename(target, self.staging / f"{bundle_id}.damaged")
            if not target.exists():
                durable.rename_folder(fresh, target)
            self._clear_staging()
            after = places if self._was_here(bundle_id) else places.with_arrival(key_id, manifest.version)
            self._commit(after, "add", None, bundle_id, reason, requester)
        return bundle_id

    def import_archive(self, path: Path | str, *, reason: str = "", requester: str = "") -> str:
        """Adds a bundle that export_archive wrote, here or on another machine; returns its id. For errors see add()."""
        with archive.unpacked(Path(path)) as folder:
            why = reason or f"from {Path(path).name}"
            return self.add(folder, reason=why, requester=requester, called=str(path))

    def export_archive(self, bundle_id: str, path: Path | str) -> None:
        """Writes a verified bundle as one file, whole or not at all. For errors see get()."""
        archive.pack(self.get(bundle_id).path, Path(path))

    @contextlib.contextmanager
    def holding(self, bundle_id: str) -> Iterator[VerifiedBundle]:
        """While this is entered, prune() leaves the bundle: for a job that needs it. Ends with the process at latest.

        For errors see get().
        """
        with self.reserving(bundle_id):
            yield self.get(bundle_id)

    @contextlib.contextmanager
    def reserving(self, bundle_id: str) -> Iterator[None]:
        """The same for one that is still to be judged: nothing of it is read here.

        Raises:
            UnknownPolicyError: no such bundle; names those that there are.
        """
        with locked(self.root / "lock", self.lock_timeout):
            self.path(bundle_id)
            hold = holds.take(self.root / "held", bundle_id)
        try:
            yield
        finally:
            hold.release()

    def prune(self, keep: int = KEPT, *, requester: str = "") -> tuple[str, ...]:
        """Removes bundles that are not needed, and returns their ids, oldest first.

        Never removed are: active, previous and candidate; what was previous before a trial that is under way; what a
        running job holds; the newest `keep` of the others; and damaged ones, which are evidence.
        """
        with self._changing() as places:
            needed = places.in_use | holds.held(self.root / "held")
            others = [entry.bundle_id for entry in self.list() if entry.manifest and entry.bundle_id not in needed]
            removed = tuple(others[: max(0, len(others) - keep)])
            self._clear_staging()
            for bundle_id in removed:
                say = (places, "prune", bundle_id, None, f"not among the newest {keep}", requester)
                try:  # the log first: no bundle goes without a trace
                    places = self._commit(*say)
                except StoreError:  # no room even for that: there is some when the bundle is gone
                    self._discard(bundle_id)
                    places = self._commit(*say)
                else:
                    self._discard(bundle_id)
        return removed

    def set_candidate(self, bundle_id: str, *, reason: str = "", requester: str = "") -> None:
        """Puts a verified bundle into the place candidate: what a swap without an id takes."""
        with self._changing() as places:
            self.get(bundle_id)
            after = places.model_copy(update={"candidate": bundle_id})
            self._commit(after, "set_candidate", places.candidate, bundle_id, reason, requester)

    def activate(
        self, bundle_id: str, *, trial: bool = False, acting: str | None = None, reason: str = "", requester: str = ""
    ) -> None:
        """Makes a verified bundle the active one; the active one becomes previous. Durable on return.

        Activating what is active changes nothing. Whether a bundle may serve is otherwise the gate's to say, not
        this method's.

        Args:
            trial: it has to prove good: until prove_good(), revert() undoes this, also after a restart.
            acting: what acts in the server that asks, and becomes previous; None: what is active here.

        Raises:
            VersionCounterError: it is older than what was active.
        """
        with self._changing() as places:
            manifest, _, key_id = self.verified(bundle_id)
            check_version(manifest, key_id, places)
            if acting is not None:
                self.path(acting)
            order = places.order_of(key_id, manifest.version)
            after = places.activated(bundle_id, order, trial, acting)
            if after != places:
                self._commit(after, "activate", places.active, bundle_id, reason, requester)

    def prove_good(self, bundle_id: str, *, reason: str = "", requester: str = "") -> None:
        """Ends the trial of the active bundle: it stays. Does nothing where that bundle is on no trial (any more)."""
        with self._changing() as places:
            if places.trial and places.active == bundle_id:
                manifest, _, key_id = self.verified(bundle_id)
                order = places.order_of(key_id, manifest.version)
                self._commit(places.proved_good(order), "prove_good", bundle_id, bundle_id, reason, requester)

    def prove_bad(self, bundle_id: str, *, reason: str = "", requester: str = "") -> None:
        """Ends the trial of the active bundle: the places are as before it. Does nothing where that bundle is on no
        trial (any more)."""
        with self._changing() as places:
            if places.trial and places.active == bundle_id:
                self._revert(places, reason, requester)

    def revert(self, *, reason: str = "", requester: str = "") -> str:
        """The same for whichever bundle is on trial. Returns the id that is active now.

        Raises:
            NoPolicyError: nothing is on trial, or there was nothing active before.
        """
        with self._changing() as places:
            return self._revert(places, reason, requester)

    def _revert(self, places: Places, reason: str, requester: str) -> str:
        if not places.trial or places.previous is None:
            raise NoPolicyError(f"store {self.root} has no policy on trial", "Roll back instead")
        self.get(places.previous)
        self._commit(places.reverted(), "revert", places.active, places.previous, reason, requester)
        return places.previous

    def rollback(self, *, reason: str = "", requester: str = "") -> str:
        """Swaps active and previous, and returns the id that is active now. Twice brings back the first, unless that
        was on trial: then this ends it.

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

    def _of_today(self, places: Places, trusted: TrustedKeys) -> Places:
        """With arrivals, where these were not noted yet: of this robot all that it counted, of others what is here."""
        if places.format == FORMAT:
            return places
        newest: dict[str, int] = {}
        for bundle_id in self._ids():
            with contextlib.suppress(CorruptBundleError):
                manifest, _, key_id = self._verify(bundle_id)
                newest[key_id] = max(newest.get(key_id, 0), manifest.version)
        if OWN in trusted.by_name:
            newest[trusted.by_name[OWN].id] = places.newest_version
        arrivals = (Arrival(key_id=key_id, version=version, order=version) for key_id, version in newest.items())
        return places.model_copy(
            update={"format": FORMAT, "arrivals": tuple(sorted(arrivals, key=lambda one: one.order))}
        )

    def _was_here(self, bundle_id: str) -> bool:
        """Whether it was added before, and maybe pruned, by the log."""
        return f'"{bundle_id}"'.encode() in read_log(self.audit_path)

    def _commit(
        self, places: Places, event: str, before: str | None, after: str | None, reason: str, requester: str
    ) -> Places:
        latest = AuditEvent.now(places.latest, event, before, after, reason, requester)
        changed = places.model_copy(update={"latest": latest})
        self._write(changed)
        try:
            complete(self.audit_path, latest)
        except StoreError as error:  # the change itself is durable, and its line waits in places.json
            log.warning("%s (the audit line will be written with the store's next change)", error)
        return changed

    def _write(self, places: Places) -> None:
        data = canonical_json(places.model_dump(mode="json", by_alias=True))
        Places.model_validate_json(data)  # raises, before anything is replaced, where what follows could not be read
        durable.replace_file(self.places_path, data, self.staging / "places.json")

    @contextlib.contextmanager
    def _changing(self) -> Iterator[Places]:
        """Holds the lock, with the log completed, and gives the places."""
        self.places()  # a missing store is reported as such, before a lock file is made in some other folder
        with locked(self.root / "lock", self.lock_timeout):
            places = self.places()
            complete(self.audit_path, places.latest)
            yield places

    def _discard(self, bundle_id: str) -> None:
        durable.rename(self.bundles / bundle_id, self.staging / f"{bundle_id}.pruned")
        durable.sync_folder(self.bundles)
        self._clear_staging()

    def _clear_staging(self) -> None:
        for entry in self.staging.iterdir():
            durable.remove(entry)
