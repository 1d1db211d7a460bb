"""A bundle as one file, to carry it to another machine: an uncompressed zip of its files, read with caps.

Nothing is unpacked by the names that stand in it: the known names are asked for.
"""

import contextlib
import os
import stat
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from saferule_ros.policy import durable
from saferule_ros.policy.errors import BundleError, StoreError
from saferule_ros.policy.invariants import FileKind, check_names, check_sizes
from saferule_ros.policy.manifest import SIZE_CAPS
from saferule_ros.policy.refusals import BundleFilesError
from saferule_ros.policy.zip_errors import ZIP_ERRORS

SUFFIX = ".saferule"

# Names, checksums and the directory of four members take less than this [bytes].
_OVERHEAD = 4096
_EPOCH = (1980, 1, 1, 0, 0, 0)  # zip's first day: the same bundle always gives the same bytes


def pack(folder: Path, path: Path) -> None:
    """Writes a bundle's folder to a file, whole or not at all; one that is there is replaced.

    Raises:
        StoreError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with tempfile.TemporaryFile() as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as packed:
            for name in sorted(SIZE_CAPS):
                packed.writestr(zipfile.ZipInfo(name, _EPOCH), (folder / name).read_bytes())
        file.seek(0)
        durable.replace_file(path, file.read(), temporary)


def destination(path: Path, bundle_id: str) -> Path:
    """The file that a bundle is exported to: `path` itself, or one in it where it is a folder.

    Raises:
        StoreError: it is no folder, and no name of such a file; or its own folder is not there.
    """
    if path.is_dir():
        return path / f"{bundle_id}{SUFFIX}"
    if path.suffix != SUFFIX:
        raise StoreError(f"{path} is no folder, and no file whose name ends in {SUFFIX}", "Give one of both")
    if not path.parent.is_dir():
        raise StoreError(f"there is no folder {path.parent}", "Make it, or mount what it is for")
    return path


@contextlib.contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """A temporary folder with the archive's files, not verified yet.

    Raises:
        BundleError: it cannot be read, or is no such archive.
        DamagedBundleError: a foreign, missing or oversized file in it.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe would be waited for
            raise BundleError(f"{path} is not a regular file", "Give a file that was exported")
        if status.st_size > sum(SIZE_CAPS.values()) + _OVERHEAD:
            raise BundleError(
                f"{path} has {status.st_size} bytes, more than any bundle", "Give a file that was exported"
            )
    except OSError as error:
        raise _no_bundle(path, error) from error
    with tempfile.TemporaryDirectory(prefix="saferule-import-") as name:
        try:
            with zipfile.ZipFile(path) as packed:
                _unpack(packed, path, Path(name))
        except (OSError, *ZIP_ERRORS) as error:
            raise _no_bundle(path, error) from error
        yield Path(name)


def _no_bundle(path: Path, error: Exception) -> BundleError:
    return BundleError(f"{path} is no exported bundle: {error}", "Export it again: saferule policy export")


def _unpack(packed: zipfile.ZipFile, path: Path, folder: Path) -> None:
    members = packed.infolist()
    found = {member.filename: FileKind(_plain(member), member.file_size) for member in members}
    if len(found) != len(members):
        raise BundleFilesError(f"{path} holds a file twice")
    check_names(found, str(path))
    check_sizes(found, str(path))
    for name, cap in SIZE_CAPS.items():
        with packed.open(name) as member:
            (folder / name).write_bytes(member.read(cap + 1))  # what is longer than it said is refused by add()


def _plain(member: zipfile.ZipInfo) -> bool:
    """Whether it is a file as it stands: neither compressed (a bomb) nor encrypted, nor a folder or link."""
    kind = stat.S_IFMT(member.external_attr >> 16)
    return (
        member.compress_type == zipfile.ZIP_STORED
        and not member.flag_bits & 1
        and not member.is_dir()
        and kind in (0, stat.S_IFREG)
    )
