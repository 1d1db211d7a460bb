"""Episodes into a dataset on disk, one after the other: no more than one is in memory."""

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from saferule_ros.dataset.columns import ColumnFile, open_column
from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.dataset.episode import Episode
from saferule_ros.dataset.errors import DatasetError
from saferule_ros.dataset.mapped import blocks, forget_pages
from saferule_ros.dataset.record import EpisodeRecord
from saferule_ros.dataset.rows import check_fits, rows_of, sizes_of
from saferule_ros.dataset.storage import (
    INDEX_NAME,
    cannot_write,
    check_ours,
    contents,
    make_current,
    new_columns,
    only_writer,
    read_index,
)

# Rows that are copied from another dataset at a time [bytes of the widest column].
_BLOCK = 16 * 2**20


class DatasetWriter:
    """Use as a context manager; nothing counts before `commit`.

    Args:
        folder: of the dataset.
        append: keep the episodes that are there; otherwise `commit` replaces them, in one step.

    Raises:
        DatasetError: from any method; the folder cannot be written, or an episode does not fit the others.
    """

    def __init__(self, folder: Path | str, append: bool = False) -> None:
        self._folder = Path(folder)
        self._append = append
        self._stack = ExitStack()  # what is held while it is open
        self._files: dict[str, ColumnFile] = {}
        self._records: list[EpisodeRecord] = []
        self._digests: dict[str, str] = {}
        self._sizes: tuple[int, int] | None = None
        self._rows = 0
        self._committed = False

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
                check_ours(self._folder)
                stack.enter_context(only_writer(self._folder))
                rows: int | None = None
                if self._append and (self._folder / INDEX_NAME).exists():
                    records, self._columns = contents(self._folder, read_index(self._folder))
                    self._records = list(records)
                    self._digests = {record.id: record.digest for record in records}
                    rows = self._rows = sum(record.length for record in records)
                    self._complete_stamps(rows)
                    self._sizes = self._stored_sizes(rows)
                else:
                    self._columns = new_columns(self._folder)
                for name in EpisodeDataset.column_names():
                    self._files[name] = ColumnFile(self._columns / f"{name}.npy", rows)
            except (OSError, ValueError, EOFError) as error:
                raise _refused(self._folder, error) from error
            self._stack = stack.pop_all()  # all went well: what is held is held until the end
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if not self._committed:
            for file in self._files.values():
                file.abandon()
            # A new folder of columns that nobody knows goes with the next commit; rows behind the end, too.
        self._stack.close()

    @property
    def records(self) -> Sequence[EpisodeRecord]:
        """All episodes so far, those that were there among them."""
        return self._records

    @property
    def sizes(self) -> tuple[int, int] | None:
        """Numbers in an observation and in an action; None as long as there is no episode."""
        return self._sizes

    def digest_of(self, episode_id: str) -> str:
        """The digest of an episode that is in it, empty if none has this id."""
        return self._digests.get(episode_id, "")

    def add(self, episode: Episode) -> None:
        """Adds one episode at the end."""
        record = EpisodeRecord.of(episode, self._rows)
        self._add_rows(record, sizes_of(episode), rows_of(episode, len(self._records)))
        self._note(record)

    def add_from(self, folder: Path, episode_ids: Iterable[str], bag_id: str | None = None) -> None:
        """Adds episodes of another dataset, in its order, without rebuilding them; of this bag, if one is given."""
        wanted = set(episode_ids)
        try:
            records, columns_folder = contents(folder, read_index(folder))
            rows = sum(record.length for record in records)
            columns = {
                name: open_column(columns_folder / f"{name}.npy", rows, mmap=True)
                for name in EpisodeDataset.column_names()
            }
            sizes = (columns["observations"].shape[1], columns["actions"].shape[1])
            for record in records:
                if record.id in wanted:
                    moved = replace(record, start=self._rows, bag_id=record.bag_id if bag_id is None else bag_id)
                    self._check(moved, sizes)
                    self._copy(columns, record)
                    self._note(moved)
        except (OSError, ValueError, EOFError) as error:
            raise _refused(self._folder, error) from error

    def commit(self) -> str:
        """Makes what was added part of the dataset: durable on return. Returns the digest of the whole."""
        if not self._records:
            raise DatasetError("a dataset of no episodes was asked for", "Give at least one episode")
        try:
            for file in self._files.values():
                file.close()
            digest = make_current(self._folder, self._columns, self._records)
        except OSError as error:
            raise cannot_write(self._folder, error) from error
        self._committed = True
        return digest

    def _add_rows(self, record: EpisodeRecord, sizes: tuple[int, int], columns: dict[str, npt.NDArray]) -> None:
        self._check(record, sizes)
        try:
            for name, values in columns.items():
                for block in blocks(values):
                    self._files[name].append(block)
        except OSError as error:
            raise cannot_write(self._folder, error) from error

    def _copy(self, columns: dict[str, npt.NDArray], record: EpisodeRecord) -> None:
        """In blocks, so that a long episode does not fill the memory."""
        block = max(1, _BLOCK // max(1, columns["observations"][:1].nbytes))
        for begin in range(record.start, record.start + record.length, block):
            rows = slice(begin, min(begin + block, record.start + record.length))
            for name, column in columns.items():
                values = np.array(column[rows])
                if name == "episode_index":
                    values[:] = len(self._records)
                self._files[name].append(values)
            for column in columns.values():
                forget_pages(column)

    def _check(self, record: EpisodeRecord, sizes: tuple[int, int]) -> None:
        self._sizes = self._sizes or sizes
        check_fits(record.id, sizes, self._sizes, self._digests)

    def _note(self, record: EpisodeRecord) -> None:
        self._records.append(record)
        self._digests[record.id] = record.digest
        self._rows += record.length

    def _stored_sizes(self, rows: int) -> tuple[int, int]:
        shapes = [open_column(self._columns / f"{name}.npy", rows, mmap=True).shape for name in
                  ("observations", "actions")]  # fmt: skip
        return shapes[0][1], shapes[1][1]

    def _complete_stamps(self, rows: int) -> None:
        """A dataset of an older version has none: not known."""
        path = self._columns / "stamps.npy"
        if not path.exists():
            file = ColumnFile(path)
            file.append(np.zeros(rows, np.int64))
            file.close()


def _refused(folder: Path, error: Exception) -> DatasetError:
    if isinstance(error, OSError):
        return cannot_write(folder, error)
    return DatasetError(f"the dataset in {str(folder)!r} cannot be added to: {error}", "Ingest all bags anew")
