"""Columns of a dataset as .npy files that can grow: rows are added at the end, and count once the index says so."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

# .npy headers are padded with spaces: with this much room, the number of rows fits in whatever it grows to.
_HEADER_BYTES = 128
_MAGIC = b"\x93NUMPY\x01\x00"


def header(dtype: np.dtype, shape: tuple[int, ...]) -> bytes:
    """The header of an .npy file (version 1.0), always of the same size."""
    about = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    text = repr(about).encode()
    room = _HEADER_BYTES - len(_MAGIC) - 2 - 1
    if len(text) > room:
        raise ValueError(f"an array of shape {shape} needs a header of {len(text)} bytes, {room} are there")
    length = (_HEADER_BYTES - len(_MAGIC) - 2).to_bytes(2, "little")
    return _MAGIC + length + text + b" " * (room - len(text)) + b"\n"


def open_column(path: Path, rows: int, mmap: bool) -> npt.NDArray:
    """The first `rows` rows of a column. What lies behind them was added by a writer that did not finish.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError, EOFError: it is no column, or has fewer rows.
    """
    with open(path, "rb") as file:
        version = np.lib.format.read_magic(file)
        if version != (1, 0):
            raise ValueError(f"it is of .npy version {version}")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
        offset = file.tell()
        if dtype.hasobject or fortran or not shape:
            raise ValueError(f"it holds {dtype} of shape {shape}")
        whole = (rows, *shape[1:])
        needed = int(np.prod(whole)) * dtype.itemsize
        if os.fstat(file.fileno()).st_size < offset + needed:
            raise EOFError(f"it has fewer rows than the {rows} of the index")
        if mmap and needed:
            return np.memmap(path, dtype, "r", offset, whole)
        column = np.fromfile(file, dtype, int(np.prod(whole))).reshape(whole)
        column.setflags(write=False)
        return column


class ColumnFile:
    """One column while it is written.

    Args:
        path: of the .npy file.
        rows: that are there and stay; what lies behind them is cut off. None: a new file.
    """

    def __init__(self, path: Path, rows: int | None = None) -> None:
        self._path = path
        self._rows = rows or 0
        self._entry: tuple[int, ...] | None = None
        self._dtype = np.dtype(np.float32)
        self._file: BinaryIO = open(path, "xb" if rows is None else "r+b")  # noqa: SIM115 - closed by close()
        if rows is None:
            return
        np.lib.format.read_magic(self._file)
        shape, _, self._dtype = np.lib.format.read_array_header_1_0(self._file)
        if self._file.tell() != _HEADER_BYTES:
            raise ValueError(f"{path.name} has a header of {self._file.tell()} bytes, which cannot grow")
        self._entry = shape[1:]
        self._file.truncate(_HEADER_BYTES + rows * int(np.prod(self._entry)) * self._dtype.itemsize)
        self._file.seek(0, 2)

    def append(self, values: npt.NDArray) -> None:
        """Adds rows (n, …) of the type and entry shape of those before."""
        if self._entry is None:
            self._entry, self._dtype = values.shape[1:], values.dtype
            self._file.write(header(self._dtype, (0, *self._entry)))
        self._file.write(np.ascontiguousarray(values, self._dtype).data)
        self._rows += len(values)

    def close(self) -> None:
        """Returns when all rows are on disk. Readers go by the index, so the header may be ahead of it."""
        if self._entry is not None:
            self._file.seek(0)
            self._file.write(header(self._dtype, (self._rows, *self._entry)))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def abandon(self) -> None:
        """Closes it as it is; nothing where it is closed."""
        self._file.close()


def write_columns(folder: Path, columns: Mapping[str, npt.NDArray]) -> None:
    """Writes whole columns to new files. Durable on return, but for the folder's own list of names."""
    for name, column in columns.items():
        file = ColumnFile(folder / f"{name}.npy")
        try:
            file.append(column)
            file.close()
        finally:
            file.abandon()  # where it could not be closed
