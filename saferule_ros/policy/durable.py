"""Writes of the store that survive a kill or a power cut: file content first, then its name, then the folder.

Apart from `dataset.durable`: temporary files lie in the store's staging folder, which is emptied under the store's
lock, and what the disk refuses is a StoreError. Every call into the operating system goes through `os`, so that tests
can cut the power at each of them.
"""

import os
import shutil
from pathlib import Path

from saferule_ros import syncing
from saferule_ros.policy.errors import StoreError


def write_file(path: Path, data: bytes) -> None:
    """Creates `path` with `data` and syncs the file (not its folder). `path` must not exist."""
    try:
        syncing.write_new(path, data, 0o644)
    except OSError as error:
        raise _failure(path, error) from error


def replace_file(path: Path, data: bytes, temporary: Path) -> None:
    """Gives `path` the content `data`, all or nothing, through `temporary` on the same file system."""
    try:
        temporary.unlink(missing_ok=True)
        write_file(temporary, data)
        os.replace(temporary, path)
    except OSError as error:
        raise _failure(path, error) from error
    sync_folder(path.parent)


def remove(path: Path) -> None:
    """Removes a file, or a folder with all in it. Not synced: what comes back after a crash is only rubbish."""
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            os.unlink(path)
    except OSError as error:
        raise _failure(path, error) from error


def rename_folder(source: Path, target: Path) -> None:
    """Moves a folder whose files are synced to its final name, durably. `target` must not exist."""
    sync_folder(source)
    rename(source, target)
    sync_folder(source.parent)


def rename(source: Path, target: Path) -> None:
    """Gives a file or folder another name on the same file system, durably."""
    try:
        os.rename(source, target)
    except OSError as error:
        raise _failure(target, error) from error
    sync_folder(target.parent)


def make_folder(path: Path) -> None:
    """Creates a folder where there is none, durably."""
    try:
        if not path.is_dir():
            os.mkdir(path)
    except OSError as error:
        raise _failure(path, error) from error
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Makes names created, changed or removed in `folder` durable."""
    try:
        syncing.sync_folder(folder)
    except OSError as error:
        raise _failure(folder, error) from error


def append_line(path: Path, line: bytes, size: int) -> None:
    """Cuts `path` to `size` bytes (which drops a torn last line), appends `line` and syncs."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            os.ftruncate(handle, size)
            os.lseek(handle, size, os.SEEK_SET)
            syncing.write_all(handle, line)
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise _failure(path, error) from error


def _failure(path: Path, error: OSError) -> StoreError:
    return StoreError(
        f"{path} cannot be written: {error.strerror or error}",
        "Free space on the disk, or correct the folder's permissions, then repeat the request",
    )
