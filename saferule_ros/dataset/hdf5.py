"""Datasets as HDF5 files in the form of DSRL, which other libraries for offline safe learning read.

Seven arrays with one row for each transition: observations, next_observations, actions, rewards, costs, terminals,
timeouts. Source: DSRL (Liu et al., 2024). What that form has no place for (names, bags, times, policies) stands in
attributes of ours, so that a file of ours comes back as the same dataset.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.dataset.durable import temporary_name
from saferule_ros.dataset.episode import Episode
from saferule_ros.dataset.errors import DatasetError
from saferule_ros.syncing import sync_file, sync_folder
from saferule_ros.workspace import check_name

SUFFIXES = (".hdf5", ".h5")
#: Name in the file -> name of our column.
COLUMNS = {
    "observations": "observations", "next_observations": "next_observations", "actions": "actions",
    "rewards": "rewards", "costs": "costs", "terminals": "terminated", "timeouts": "truncated",
}  # fmt: skip
_SCHEMA = "saferule_ros/dsrl/1"
_BLOCK = 65_536  # rows that are written at a time


def write_hdf5(dataset: EpisodeDataset, path: Path) -> None:
    """Writes a new file: whole, or not at all. Durable on return.

    Raises:
        DatasetError: there is one already, or the disk refuses.
    """
    import h5py

    if path.exists():
        raise DatasetError(f"{str(path)!r} is there already", "Give another name, or remove it")
    temporary = temporary_name(path)
    try:
        with h5py.File(temporary, "w") as file:
            for name, column in COLUMNS.items():
                values = getattr(dataset, column)
                written = file.create_dataset(name, values.shape, values.dtype)
                for begin in range(0, len(values), _BLOCK):
                    written[begin : begin + _BLOCK] = values[begin : begin + _BLOCK]
            file.create_dataset("saferule_ros/stamps", data=np.asarray(dataset.stamps))
            records = json.dumps([asdict(record) for record in dataset.records])
            file.create_dataset("saferule_ros/records", data=records)
            file.attrs["saferule_ros.schema"] = _SCHEMA
            file.attrs["saferule_ros.digest"] = dataset.digest
        sync_file(temporary)
        temporary.rename(path)
        sync_folder(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise DatasetError(f"{str(path)!r} cannot be written: {error}", "Make room or give another folder") from error


def read_hdf5(path: Path) -> Iterator[Episode]:
    """The episodes of a file, one after the other: no more than one is in memory.

    An episode ends at a terminal, a timeout, or where the next row does not begin with what this one led to; what has
    no end is truncated.

    Raises:
        DatasetError: no such file, arrays that are missing or do not fit, numbers that are not finite.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            columns = _columns(file, path)
            if file.attrs.get("saferule_ros.schema") == _SCHEMA:
                yield from _ours(file, columns)
            else:
                yield from _foreign(columns, check_name(path.name.split(".")[0], "name of the file"))
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise DatasetError(
            f"{str(path)!r} cannot be read: {error}", f"Give an HDF5 file with {', '.join(COLUMNS)}"
        ) from error


def _columns(file: Any, path: Path) -> dict[str, Any]:
    missing = [name for name in COLUMNS if name not in file]
    if missing:
        raise DatasetError(f"{str(path)!r} has no {missing[0]!r}", f"DSRL's form has {', '.join(COLUMNS)}")
    columns = {name: file[name] for name in COLUMNS}
    rows = {name: column.shape[0] for name, column in columns.items()}
    if len(set(rows.values())) != 1 or not rows["rewards"]:
        raise DatasetError(f"the arrays of {str(path)!r} do not fit: {rows}", "One row for each transition in all")
    return columns


def _ours(file: Any, columns: dict[str, Any]) -> Iterator[Episode]:
    stamps = file["saferule_ros/stamps"]
    for record in json.loads(file["saferule_ros/records"].asstr()[()]):
        rows = slice(record["start"], record["start"] + record["length"])
        yield Episode(
            **_arrays(columns, rows), id=record["id"], bag_id=record["bag_id"], terminated=record["terminated"],
            truncated=record["truncated"], policy_ids=tuple(record["policy_ids"]), fallbacks=record["fallbacks"],
            lost=record["lost"], first_step=record["first_step"], stamps=stamps[rows],
            recorded_by=record["recorded_by"],
        )  # fmt: skip


def _foreign(columns: dict[str, Any], name: str) -> Iterator[Episode]:
    terminals, timeouts = columns["terminals"][:].astype(bool), columns["timeouts"][:].astype(bool)
    ends = terminals | timeouts
    ends[-1] = True
    begin = number = 0
    for last in np.flatnonzero(ends):
        for piece in _contiguous(columns, begin, int(last) + 1):
            final = piece.stop == last + 1
            terminated = bool(terminals[last]) and final
            yield Episode(
                **_arrays(columns, piece), id=f"{name}-{number:06d}", bag_id=name, terminated=terminated,
                truncated=bool(timeouts[last]) if terminated else True,
            )  # fmt: skip
            number += 1
        begin = int(last) + 1


def _contiguous(columns: dict[str, Any], begin: int, end: int) -> Iterator[slice]:
    """Parts of these rows in which each one begins with what the one before led to."""
    after, before = columns["next_observations"][begin : end - 1], columns["observations"][begin + 1 : end]
    breaks = begin + 1 + np.flatnonzero((after != before).any(axis=1)) if end - begin > 1 else np.zeros(0, int)
    edges = [begin, *(int(place) for place in breaks), end]
    return (slice(first, last) for first, last in pairwise(edges))


def _arrays(columns: dict[str, Any], rows: slice) -> dict[str, Any]:
    last = columns["next_observations"][rows.stop - 1 : rows.stop]
    return {
        "observations": np.concatenate([columns["observations"][rows], last]),
        "actions": columns["actions"][rows],
        "rewards": columns["rewards"][rows],
        "costs": columns["costs"][rows],
    }
