"""Columns that lie in a mapped file: gone through piece by piece, so that they never fill the memory."""

import mmap
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

# Of a mapped column, so much is looked at a time [bytes]: far above what a look costs, far below any memory.
BLOCK = 4 * 2**20


def is_mapped(column: npt.NDArray) -> bool:
    """Whether it lies in a file and cannot be written to: to copy it would bring all of it into memory."""
    return isinstance(column, np.memmap) and not column.flags.writeable


def blocks(column: npt.NDArray) -> Iterator[npt.NDArray]:
    """Its rows in their order: of a mapped column some at a time, else all at once."""
    if not is_mapped(column):
        yield column
        return
    rows = max(1, BLOCK // max(1, column[:1].nbytes))
    for begin in range(0, len(column), rows):
        yield column[begin : begin + rows]
        forget_pages(column)


def forget_pages(column: npt.NDArray) -> None:
    """Pages of a mapped file that were read count as memory of this process until it gives them back."""
    mapping = getattr(column, "_mmap", None)
    if mapping is not None:
        mapping.madvise(mmap.MADV_DONTNEED)
