"""A dataset on disk: .npy columns that can be memory-mapped, and dataset.json that says what they are.

    <folder>/dataset.json        schema, digest, records, name of the folder of columns
    <folder>/columns-<name>/     observations.npy, actions.npy, …

A new version gets a columns folder of its own; the rename of dataset.json is the one step that makes it
current. Killed before it: the old dataset. Killed after it: the new one. Episodes that are added go behind the rows
that are there (see `writer`), and count from the same rename on.
"""

import json
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np

from saferule_ros.dataset.columns import open_column, write_columns
from saferule_ros.dataset.dataset import DATASET_SCHEMA, EpisodeDataset, digest_of
from saferule_ros.dataset.durable import TEMPORARY_PREFIX, write_atomically
from saferule_ros.dataset.errors import DatasetError
from saferule_ros.dataset.record import EpisodeRecord
from saferule_ros.file_locks import WHERE_LOCKS_WORK, wait_for_lock
from saferule_ros.syncing import sync_folder

INDEX_NAME = "dataset.json"
COLUMNS_PREFIX = "columns-"
_WRITER_LOCK = ".writer"
_DTYPES = {
    "terminated": np.bool_, "truncated": np.bool_, "episode_index": np.int32, "step": np.int32, "stamps": np.int64,
}  # fmt: skip


def save(dataset: EpisodeDataset, folder: Path) -> None:
    """See `EpisodeDataset.save`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        check_ours(folder)
        with only_writer(folder):
            columns = new_columns(folder)
            write_columns(columns, {name: getattr(dataset, name) for name in EpisodeDataset.column_names()})
            make_current(folder, columns, dataset.records)
    except OSError as error:
        raise cannot_write(folder, error) from error


def new_columns(folder: Path) -> Path:
    """A fresh folder of columns."""
    columns = folder / f"{COLUMNS_PREFIX}{uuid.uuid4().hex[:12]}"
    columns.mkdir()
    return columns


def make_current(folder: Path, columns: Path, records: Sequence[EpisodeRecord]) -> str:
    """Makes these columns the dataset, in one step, and removes others. Durable on return; returns the digest."""
    sync_folder(columns)
    sync_folder(folder)
    digest = digest_of(records)
    index = {
        "schema": DATASET_SCHEMA,
        "digest": digest,
        "columns": columns.name,
        "episodes": [asdict(record) for record in records],
    }
    write_atomically(folder / INDEX_NAME, json.dumps(index, indent=1).encode())
    _remove_leftovers(folder, columns.name)
    sync_folder(folder.parent)
    return digest


def cannot_write(folder: Path, error: OSError) -> DatasetError:
    """The error for a disk that refuses."""
    return DatasetError(
        f"the dataset cannot be written to {str(folder)!r}: {error}",
        "Make room or give a folder that this user may write to; what was there before is untouched",
    )


def load(folder: Path, mmap: bool) -> EpisodeDataset:
    """See `EpisodeDataset.load`."""
    index = read_index(folder)
    try:
        dataset = _open(folder, index, mmap)
    except FileNotFoundError:
        # A writer may have replaced the dataset between our two reads; then the new index is complete.
        index = read_index(folder)
        try:
            dataset = _open(folder, index, mmap)
        except FileNotFoundError as error:
            raise _damaged(folder, f"{error.filename} is missing") from error
    _verify(dataset, index, folder)
    return dataset


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Waits until no other process writes here: then all leftovers are those of killed writers."""
    with open(folder / _WRITER_LOCK, "w") as lock:
        try:
            wait_for_lock(lock.fileno())
        except OSError as error:
            raise DatasetError(f"{lock.name} cannot be locked: {error.strerror}", WHERE_LOCKS_WORK) from error
        yield


def check_ours(folder: Path) -> None:
    """Refuses to write into a folder that holds other things."""
    ours = (INDEX_NAME, _WRITER_LOCK)
    for entry in os.listdir(folder):
        if entry not in ours and not entry.startswith((COLUMNS_PREFIX, TEMPORARY_PREFIX)):
            raise DatasetError(
                f"the folder {str(folder)!r} holds {entry!r}, which is no part of a dataset",
                "Give an empty or new folder, or one that holds a dataset to be replaced",
            )


def _remove_leftovers(folder: Path, current: str) -> None:
    for entry in folder.iterdir():
        if entry.name.startswith(COLUMNS_PREFIX) and entry.name != current:
            shutil.rmtree(entry)
        elif entry.name.startswith(TEMPORARY_PREFIX):
            entry.unlink()


def read_index(folder: Path) -> dict[str, Any]:
    path = folder / INDEX_NAME
    try:
        index = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise DatasetError(
            f"there is no dataset in {str(folder)!r} ({INDEX_NAME} is missing)",
            "Make one from bags with `saferule data ingest`",
        ) from error
    except (OSError, ValueError) as error:
        raise _damaged(folder, f"{INDEX_NAME} cannot be read: {error}") from error
    if not isinstance(index, dict) or index.get("schema") != DATASET_SCHEMA:
        found = index.get("schema") if isinstance(index, dict) else type(index).__name__
        raise DatasetError(
            f"{str(path)!r} has schema {found!r}, this version reads {DATASET_SCHEMA!r}",
            "Ingest the bags again with this version",
        )
    return index


def _open(folder: Path, index: dict[str, Any], mmap: bool) -> EpisodeDataset:
    records, columns_folder = contents(folder, index)
    rows = sum(record.length for record in records)
    columns = {}
    for name in EpisodeDataset.column_names():
        path = columns_folder / f"{name}.npy"
        if name == "stamps" and not path.exists() and not any(record.origin for record in records):
            columns[name] = np.zeros(rows, np.int64)  # a dataset of an older version
            continue
        try:
            column = open_column(path, rows, mmap)
        except (ValueError, EOFError) as error:
            raise _damaged(folder, f"{path.name} cannot be read: {error}") from error
        if column.dtype != _DTYPES.get(name, np.float32):
            raise _damaged(folder, f"{path.name} has type {column.dtype}")
        columns[name] = column
    return EpisodeDataset._assembled(records, **columns)


def contents(folder: Path, index: dict[str, Any]) -> tuple[tuple[EpisodeRecord, ...], Path]:
    """The records and the folder of columns that an index names.

    Raises:
        DatasetError: it lacks something, or leads elsewhere.
    """
    names = {field.name for field in fields(EpisodeRecord)}
    try:
        columns_name = str(index["columns"])
        records = tuple(
            # Fields that came later have defaults: a dataset of an older version lacks them.
            EpisodeRecord(
                **{name: entry[name] for name in names & entry.keys()} | {"policy_ids": tuple(entry["policy_ids"])}
            )
            for entry in index["episodes"]
        )
        if not all(isinstance(record.length, int) and record.length > 0 for record in records):
            raise TypeError("lengths of at least 1")
    except (KeyError, TypeError, AttributeError) as error:
        raise _damaged(folder, f"{INDEX_NAME} lacks {error}") from error
    if not columns_name.startswith(COLUMNS_PREFIX) or Path(columns_name).name != columns_name:
        raise _damaged(folder, f"columns folder {columns_name!r} is none of ours")
    return records, folder / columns_name


def _verify(dataset: EpisodeDataset, index: dict[str, Any], folder: Path) -> None:
    """Rebuilds every episode from the columns and compares: not one value can differ unnoticed."""
    start = 0
    for number, record in enumerate(dataset.records):
        if record.start != start or record.length < 1:
            raise _damaged(folder, f"episode {record.id!r} starts at row {record.start}, expected {start}")
        rows = slice(start, start + record.length)
        start = rows.stop
        try:
            episode = dataset.episode(number)
        except DatasetError as error:
            raise _damaged(folder, error.what) from error
        inside = slice(rows.start, rows.stop - 1)
        ends = dataset.terminated[inside].any() or dataset.truncated[inside].any()
        facts = {
            "digest": episode.digest == record.digest,
            "return": episode.episode_return == record.episode_return,
            "cost": episode.episode_cost == record.episode_cost,
            "terminated": episode.terminated == record.terminated and not ends,
            "truncated": episode.truncated == record.truncated,
            "origin": episode.origin == record.origin,
            "episode_index": bool((dataset.episode_index[rows] == number).all()),
            "step": bool((dataset.step[rows] == np.arange(record.length)).all()),
            "next_observations": bool(
                np.array_equal(
                    dataset.next_observations[inside].view(np.uint32),
                    dataset.observations[rows.start + 1 : rows.stop].view(np.uint32),
                )
            ),
        }
        wrong = [name for name, right in facts.items() if not right]
        if wrong:
            raise _damaged(folder, f"episode {record.id!r} does not fit its recorded {', '.join(wrong)}")
    if dataset.digest != index.get("digest"):
        raise _damaged(folder, f"the digest of its {start} rows is {dataset.digest}, recorded as {index.get('digest')}")


def _damaged(folder: Path, what: str) -> DatasetError:
    return DatasetError(
        f"the dataset in {str(folder)!r} is damaged: {what}",
        "Ingest the bags again with `saferule data ingest`",
    )
