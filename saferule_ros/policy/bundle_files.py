"""Reads a bundle's folder: nothing is parsed before its size and signature hold, and a file is read once."""

import stat
from pathlib import Path
from typing import NamedTuple

from saferule_ros.policy.invariants import (
    FileKind,
    check_digest,
    check_manifest,
    check_names,
    check_signature,
    check_sizes,
    key_of,
)
from saferule_ros.policy.manifest import MANIFEST, SIGNATURE, SIZE_CAPS, Manifest
from saferule_ros.policy.refusals import BundleFilesError, SizeCapError
from saferule_ros.signing import TrustedKeys


class Verified(NamedTuple):
    """A manifest that a trusted key signed, and who did."""

    manifest: Manifest
    signed: str  # "signed by NAME (KEY ID)"
    key_id: str


def file_kinds(folder: Path) -> dict[str, FileKind]:
    """What lies in a bundle's folder, by the folder alone: nothing is opened.

    Raises:
        BundleFilesError: there is no such folder.
    """
    try:
        found = {entry.name: entry.lstat() for entry in folder.iterdir()}
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BundleFilesError(f"there is no bundle folder {folder}", hint="Correct the path") from error
    return {name: FileKind(stat.S_ISREG(status.st_mode), status.st_size) for name, status in found.items()}


def read_manifest(folder: Path, trusted: TrustedKeys, called: str = "") -> Verified:
    """Reads manifest and signature, and checks all that they alone tell.

    Args:
        called: what the folder is called for people; without: its path.

    Raises:
        DamagedBundleError: the kind that names the broken invariant.
    """
    found, where = file_kinds(folder), called or str(folder)
    check_names(found, where)
    check_sizes(found, where)
    data = read_capped(folder, MANIFEST)
    signature = read_capped(folder, SIGNATURE)
    finding = check_signature(data, signature, trusted, where)
    return Verified(check_manifest(data, where), finding.value, key_of(signature))


def verify_bundle(folder: Path, trusted: TrustedKeys, called: str = "") -> Verified:
    """Checks names, sizes, signature, manifest and the digest of every file of a bundle. For `called` see above.

    Raises:
        DamagedBundleError: the kind that names the broken invariant; says which file, what it is and should be.
    """
    verified = read_manifest(folder, trusted, called)
    for name in verified.manifest.files:
        read_verified(folder, verified.manifest, name, called)
    return verified


def read_verified(folder: Path, manifest: Manifest, name: str, called: str = "") -> bytes:
    """Content of one file of a bundle: exactly the bytes whose digest was checked.

    Raises:
        DigestError, BundleIdError: says which file, what it is and what it should be.
    """
    data = read_capped(folder, name)
    check_digest(name, data, manifest, called or str(folder))
    return data


def read_capped(folder: Path, name: str) -> bytes:
    """A file of a bundle, at most its cap.

    Raises:
        BundleFilesError: it cannot be read.
        SizeCapError: it grew beyond its cap since it was looked at.
    """
    path, cap = folder / name, SIZE_CAPS[name]
    try:
        with path.open("rb") as file:
            data = file.read(cap + 1)
    except OSError as error:
        raise BundleFilesError(f"{path} cannot be read: {error.strerror}") from error
    if len(data) > cap:
        raise SizeCapError(f"{path} has more than the cap of {cap} bytes")
    return data
