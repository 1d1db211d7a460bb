"""Reading a policy store: which bundle has which place, and whether it is intact."""

import difflib
import re
from pathlib import Path
from typing import NamedTuple

import pydantic

from saferule_ros.policy.audit import AuditEvent, checked_events, read_log
from saferule_ros.policy.bundle_files import Verified, read_manifest, verify_bundle
from saferule_ros.policy.errors import (
    BundleError,
    CorruptBundleError,
    NoPolicyError,
    StoreError,
    StoreMissingError,
    UnknownPolicyError,
)
from saferule_ros.policy.invariants import check_id
from saferule_ros.policy.manifest import ID_PATTERN, Manifest
from saferule_ros.policy.places import FORMAT, Place, Places
from saferule_ros.policy.spec import PolicySpec
from saferule_ros.signing import KeyFolder


class VerifiedBundle(NamedTuple):
    """A bundle whose manifest a trusted key signed, and whose files have the digests that it says."""

    path: Path
    manifest: Manifest


class StoreEntry(NamedTuple):
    """One bundle as list() shows it. `manifest` is None where `problem` says why."""

    bundle_id: str
    place: Place | None
    manifest: Manifest | None
    problem: str
    signed: str = ""  # by whom: "signed by NAME (KEY ID)"


class StoreReader:
    """All that can be asked of a store without changing it. Nothing is read until a method is called.

    Every method raises StoreMissingError where there is no store, and StoreError where it cannot be read.

    Args:
        root: folder of the store.
        keys: folder of the keys that are trusted, see signing; None: `keys` beside the store, as in a workspace.
    """

    def __init__(self, root: Path | str, keys: Path | None = None) -> None:
        self.root = Path(root)
        self.keys = KeyFolder(keys if keys is not None else self.root.absolute().parent / "keys")
        self.bundles, self.staging = self.root / "bundles", self.root / "staging"
        self.places_path, self.audit_path = self.root / "places.json", self.root / "audit.jsonl"

    def get(self, bundle_id: str) -> VerifiedBundle:
        """A bundle, its signature and digests checked now.

        Raises:
            KeyFileError: the trusted keys cannot be read.
            UnknownPolicyError: no such bundle; names those that there are.
            CorruptBundleError: says which file, both digests and what can be done.
        """
        return VerifiedBundle(self.path(bundle_id), self.verified(bundle_id).manifest)

    def verified(self, bundle_id: str) -> Verified:
        """Its manifest and who signed it, all checked now. For errors see get()."""
        self.path(bundle_id)
        try:
            return self._verify(bundle_id)
        except CorruptBundleError as error:
            intact = [other for other in self._ids() if other != bundle_id and self._intact(other)]
            instead = f"go back to an intact one: {', '.join(intact)}" if intact else "bundle a new one"
            raise CorruptBundleError(
                f"policy {bundle_id} is damaged: {error.what}",
                f"Add an intact copy of it to the store again (that repairs it), or {instead}",
            ) from error

    def active(self) -> VerifiedBundle:
        """The bundle to serve, its digests checked now. For its errors see get().

        Raises:
            NoPolicyError: none was activated yet.
        """
        return self.get(self.require("active"))

    def require(self, place: Place) -> str:
        """The bundle id in a place.

        Raises:
            NoPolicyError: the place is empty.
        """
        bundle_id = self.place(place)
        if bundle_id is None:
            raise self._empty(place)
        return bundle_id

    def contract_of(self, bundle_id: str | None) -> PolicySpec | None:
        """What a bundle was made for; None where there is none, or its manifest cannot be trusted."""
        if bundle_id is None:
            return None
        try:
            return read_manifest(self.path(bundle_id), self.keys.trusted()).manifest.spec
        except (BundleError, UnknownPolicyError):
            return None

    def path(self, bundle_id: str) -> Path:
        """Folder of a bundle, unverified: for the gate, which verifies step by step.

        Raises:
            UnknownPolicyError: no such bundle; names those that there are.
        """
        self.places()
        known = self._ids()
        if bundle_id not in known:
            close = difflib.get_close_matches(bundle_id, known, n=3, cutoff=0.5) or known[:3]
            among = f" (of {len(known)})" if len(close) < len(known) else ""
            raise UnknownPolicyError(
                f"store {self.root} has no policy {bundle_id!r:.100}",
                f"Known ones: {', '.join(close)}{among}" if close else "The store is empty: add a bundle first",
            )
        return self.bundles / bundle_id

    def place(self, name: Place) -> str | None:
        """The bundle id in a place; None if the place is empty."""
        return self.places().get(name)

    def places(self) -> Places:
        """All places, read at one instant."""
        try:
            return Places.model_validate_json(self.places_path.read_bytes())
        except (FileNotFoundError, NotADirectoryError) as error:
            raise StoreMissingError(
                f"there is no policy store in {self.root}",
                "It is made with the first policy: saferule train. Or name the workspace whose folder store/ has one",
            ) from error
        except OSError as error:
            raise StoreError(f"{self.places_path}: {error.strerror}", "Make the store readable") from error
        except pydantic.ValidationError as error:
            written = [found["input"] for found in error.errors() if found["loc"] == ("format",)]
            if written and isinstance(written[0], int) and written[0] > FORMAT:
                raise StoreError(
                    f"{self.places_path} has format {written[0]}, this version reads up to {FORMAT}",
                    "A newer saferule_ros changed the store: use that one on every machine that shares it",
                ) from error
            raise self._broken(f"{self.places_path} is not what a store writes") from error

    def list(self) -> tuple[StoreEntry, ...]:
        """All bundles, oldest first, each verified now; damaged ones last, with what is wrong."""
        places, intact, damaged = self.places(), [], []
        for bundle_id in self._ids():
            try:
                manifest, signed, _ = self._verify(bundle_id)
            except CorruptBundleError as error:
                damaged.append(StoreEntry(bundle_id, places.of(bundle_id), None, error.what))
            else:
                entry = StoreEntry(bundle_id, places.of(bundle_id), manifest, "", signed)
                intact.append((manifest.created_at, bundle_id, entry))
        return (*(entry for _, _, entry in sorted(intact)), *damaged)

    def audit(self) -> tuple[AuditEvent, ...]:
        """All events, oldest first.

        Raises:
            AuditError: the log was changed, or lines of it are missing.
        """
        while True:  # a change of the store in between leaves a log that ends with another event than these places
            latest, log = self.places().latest, read_log(self.audit_path)
            if self.places().latest == latest:
                return checked_events(self.audit_path, log, latest)

    def _ids(self) -> tuple[str, ...]:
        try:
            names = sorted(entry.name for entry in self.bundles.iterdir())
        except OSError as error:
            raise self._broken(f"{self.bundles} cannot be listed: {error.strerror}") from error
        return tuple(name for name in names if re.match(ID_PATTERN, name))

    def _verify(self, bundle_id: str) -> Verified:
        verified = verify_bundle(self.bundles / bundle_id, self.keys.trusted())
        check_id(verified.manifest, bundle_id)
        return verified

    def _intact(self, bundle_id: str) -> bool:
        try:
            self._verify(bundle_id)
        except CorruptBundleError:
            return False
        return True

    def _broken(self, what: str) -> StoreError:
        return StoreError(
            what,
            f"Restore it from a backup; the last lines of {self.audit_path} say which bundle had which place",
        )

    def _empty(self, place: Place) -> NoPolicyError:
        hint = {
            "active": "Activate a bundle first",
            "previous": "A rollback is possible after the first swap",
            "candidate": "Name a policy id, or run a patch, which makes a candidate",
        }[place]
        return NoPolicyError(f"store {self.root} has no {place} policy", hint)
