"""Takes apart what is compressed in bags: at most as much as is said, and as far as it goes where it is cut."""

from collections.abc import Callable

import lz4.frame
import zstandard

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"  # no CDR message begins so: a message that rosbag2 compressed by itself
# Largest record, packed or unpacked. Writers make chunks of about 1 to 4 MiB; a message of 100 MiB is a large cloud.
MAX_RECORD = 512 * 2**20


class UnpackingError(Exception):
    """The packed bytes are damaged, of an unknown form, or would need too much memory."""


def unpacked(compression: str, packed: bytes, size: int) -> bytes:
    """At most `size` bytes, and fewer where the packed ones are cut."""
    if size > MAX_RECORD:
        raise UnpackingError(f"{size} bytes are said to be packed in one record")
    try:
        if compression == "":
            return packed
        if compression == "zstd":
            reader = zstandard.ZstdDecompressor(max_window_size=2**27).stream_reader(packed)
            return _as_far_as_possible(reader.read, size)
        if compression == "lz4":
            return bytes(lz4.frame.LZ4FrameDecompressor().decompress(packed, max_length=size))
    except (zstandard.ZstdError, RuntimeError, EOFError, MemoryError) as error:
        raise UnpackingError(f"what is packed with {compression} cannot be unpacked: {error}") from error
    raise UnpackingError(f"unknown compression {compression!r:.40}")


def unpacked_message(packed: bytes) -> bytes | None:
    """A message that rosbag2 compressed by itself (zstd); None if it cannot be unpacked."""
    try:
        return unpacked("zstd", packed, MAX_RECORD)
    except UnpackingError:
        return None


def _as_far_as_possible(read: Callable[[int], bytes], size: int) -> bytes:
    pieces: list[bytes] = []
    left = size
    try:
        while left > 0 and (piece := read(min(left, 2**20))):
            pieces.append(piece)
            left -= len(piece)
    except zstandard.ZstdError:
        if not pieces:
            raise
    return b"".join(pieces)
