"""What an episode of hours does not keep in memory: bytes in a file without a name, and what is made of them.

Such a file is gone when it is closed, or its process killed: what a kill must not cost is in the journal.
"""

import os
import pickle
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

# Written to the file so much at a time [bytes].
_PIECE = 2**18
# Messages that are written at a time; an episode with fewer never sees a file.
BATCH = 2048
_LENGTH = 8  # bytes that tell how long a batch is


class Overflow:
    """Bytes that are only ever added to. Where the disk refuses them they stay in memory, and are tried again later.

    Args:
        folder: on whose disk they go; None: the system's folder for temporary files.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._file: BinaryIO | None = None
        self._written = 0
        self._waiting = bytearray()
        self._try_at = _PIECE

    @property
    def held(self) -> int:
        """Bytes in memory."""
        return len(self._waiting)

    @property
    def size(self) -> int:
        """Bytes in all."""
        return self._written + len(self._waiting)

    def add(self, data: bytes) -> None:
        """At the end."""
        self._waiting += data
        if len(self._waiting) >= self._try_at:
            self._write()

    def read(self, begin: int, size: int) -> bytes:
        """So many bytes from a place that was the end of an `add`, and not across another such place."""
        if begin >= self._written or self._file is None:
            return bytes(self._waiting[begin - self._written : begin - self._written + size])
        return os.pread(self._file.fileno(), size, begin)

    def rows(self, dtype: npt.DTypeLike, *entry: int) -> npt.NDArray:
        """All of it as rows (n, *entry), read-only: mapped from the file, if there is one and the disk took it all."""
        if self._file is not None:
            self._write()
        if self._file is None or self._waiting:
            return np.frombuffer(self.read(0, self._written) + self._waiting, dtype).reshape(-1, *entry)
        count = self._written // (np.dtype(dtype).itemsize * int(np.prod(entry, dtype=np.int64)))
        return np.memmap(self._file, dtype, "r", shape=(count, *entry))

    def _write(self) -> None:
        data, done = bytes(self._waiting), 0
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=self._folder, buffering=0)  # noqa: SIM115 - closed with this
            while done < len(data):
                done += os.pwrite(self._file.fileno(), data[done:], self._written + done)
        except OSError:  # the episode is as good in memory, as long as there is some
            self._try_at = len(data) + _PIECE
            return
        self._written += len(data)
        self._waiting.clear()
        self._try_at = _PIECE


class Received:
    """What was handed in with each of an episode's messages, in the order of reception; the older on disk.

    Args:
        folder: see `Overflow`.
    """

    def __init__(self, folder: Path | None) -> None:
        self._newest: list[Any] = []
        self._older = Overflow(folder)
        self._count = 0

    def append(self, received: Any) -> None:
        """At the end."""
        self._newest.append(received)
        self._count += 1
        if len(self._newest) >= BATCH:
            data = pickle.dumps(self._newest, pickle.HIGHEST_PROTOCOL)
            self._older.add(len(data).to_bytes(_LENGTH, "little") + data)
            self._newest.clear()

    @property
    def held(self) -> int:
        """How many are in memory, less those that wait to be written."""
        return len(self._newest)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Any]:
        at = 0
        while at < self._older.size:
            size = int.from_bytes(self._older.read(at, _LENGTH), "little")
            yield from pickle.loads(self._older.read(at + _LENGTH, size))  # our own: nobody else can name the file
            at += _LENGTH + size
        yield from self._newest
