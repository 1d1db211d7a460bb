"""Reads one MCAP file as far as it can be read: cut at any byte, without footer or index, with damaged chunks.

Nothing is believed unchecked: a chunk counts only if its checksum fits, and a length never makes us take more memory
than the file is large. Where the way from record to record is lost, it is found again by the index at the end, if
that is there.

Source: MCAP format specification, version 0 (https://mcap.dev/spec).
"""

import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from saferule_ros.recording.messages import RawMessage
from saferule_ros.recording.scan import Scan, TopicInfo, with_slash
from saferule_ros.recording.unpacking import MAX_RECORD, ZSTD_MAGIC, UnpackingError, unpacked, unpacked_message

MAGIC = b"\x89MCAP0\r\n"
_HEAD = struct.Struct("<BQ")
_MESSAGE = struct.Struct("<HIQQ")
_CHUNK = struct.Struct("<QQQI")
_HEADER, _FOOTER, _SCHEMA, _CHANNEL, _MESSAGE_OP, _CHUNK_OP, _INDEX = 1, 2, 3, 4, 5, 6, 7
_CHUNK_INDEX, _STATISTICS, _METADATA, _DATA_END = 8, 0x0B, 0x0C, 0x0F
_LAST_OPCODE = 0x0F
_PRIVATE_OPCODES = 0x80  # and above: allowed, of no meaning to us
_FOOTER_SIZE = _HEAD.size + 20
_INDEX_ENTRY = 16  # bytes: time and offset of one message


class _Damaged(Exception):
    """This record cannot be used."""


class McapScan(Scan):
    """See the module and `Scan`."""

    def messages(self) -> Iterator[RawMessage]:
        self._schemas: dict[int, tuple[str, str]] = {}
        self._channels: dict[int, str] = {}
        try:
            with open(self.path, "rb", buffering=2**20) as file:
                for message in self._file(file):
                    self.recovered += 1
                    yield message
        except OSError as error:
            self.damage.append(f"{self.path.name} cannot be read: {error}")

    def _file(self, file: BinaryIO) -> Iterator[RawMessage]:
        size = file.seek(0, 2)
        file.seek(0)
        if file.read(len(MAGIC)) != MAGIC:
            self._note(0, "it does not begin as an MCAP file")
        at, summary, crc, ended = len(MAGIC), False, zlib.crc32(MAGIC), False
        failed_chunk = False
        while not ended and at < size:
            file.seek(at)
            head = file.read(_HEAD.size)
            opcode, length = _HEAD.unpack(head) if len(head) == _HEAD.size else (0, size)
            known = 0 < opcode <= _LAST_OPCODE or opcode >= _PRIVATE_OPCODES
            if not known or length > min(size - at - _HEAD.size, MAX_RECORD):
                if opcode == _CHUNK_OP and _HEAD.size + length > size - at:
                    yield from self._cut_chunk(file.read(min(size - at, MAX_RECORD)))
                where = self._resume(file, size, at)
                self._note(at, "the file is cut there" if where is None else "no record there; it goes on further back")
                if where is None:
                    return
                at, crc = where, 0
                continue
            content = file.read(length)
            at += _HEAD.size + length
            if opcode == _DATA_END:
                expected = int.from_bytes(content[8:12], "little")
                if expected and crc and crc != expected and not self.damage:
                    self._note(at, "the checksum of all data does not fit")
                summary = True
            elif opcode == _FOOTER:
                ended = True
            elif not summary and crc:
                crc = zlib.crc32(content, zlib.crc32(head, crc))
            try:
                if opcode == _CHUNK_OP:
                    failed_chunk = True
                    yield from self._chunk(content)
                    failed_chunk = False
                elif opcode == _INDEX:
                    # They follow their chunk, and tell how many messages were in it.
                    self.lost += (length - 6) // _INDEX_ENTRY if failed_chunk else 0
                elif opcode == _MESSAGE_OP:
                    yield from self._message(content)
                elif not summary or opcode == _STATISTICS:
                    self._other(opcode, content)
            except (_Damaged, UnpackingError, struct.error, ValueError, IndexError) as error:
                self._note(at - length, str(error) or type(error).__name__)
        file.seek(max(at, 0))
        if not self.damage and not (ended and file.read(len(MAGIC)) == MAGIC):
            self._note(size, "the file is cut there")

    def _chunk(self, content: bytes) -> Iterator[RawMessage]:
        compression, size, crc, packed = _parts(content)
        records = unpacked(compression, packed, size)
        if len(records) != size or (crc and zlib.crc32(records) != crc):
            raise _Damaged("the checksum of a chunk does not fit")
        yield from self._records(records)

    def _cut_chunk(self, content: bytes) -> Iterator[RawMessage]:
        """What is whole in the last chunk of a file that was cut."""
        try:
            compression, size, _, packed = _parts(content)
            yield from self._records(unpacked(compression, packed, size), cut=True)
        except (_Damaged, UnpackingError, struct.error, ValueError, IndexError):
            return

    def _records(self, records: bytes, cut: bool = False) -> Iterator[RawMessage]:
        """Schemas, channels and messages inside of a chunk."""
        at, end = 0, len(records)
        while at + _HEAD.size <= end:
            opcode, length = _HEAD.unpack_from(records, at)
            at += _HEAD.size
            if length > end - at:
                break
            content = records[at : at + length]
            at += length
            if opcode == _MESSAGE_OP:
                yield from self._message(content)
            else:
                self._other(opcode, content)
        if at < end and not cut:
            raise _Damaged("a record in a chunk reaches beyond it")

    def _message(self, content: bytes) -> Iterator[RawMessage]:
        channel, _, log_time, _ = _MESSAGE.unpack_from(content)
        topic = self._channels.get(channel)
        if topic is None:
            self.lost += 1
            raise _Damaged(f"a message of channel {channel}, of which nothing is known")
        data = content[_MESSAGE.size :]
        if data[:4] == ZSTD_MAGIC:
            whole = unpacked_message(data)
            if whole is None:
                self.lost += 1
                raise _Damaged("a compressed message cannot be unpacked")
            data = whole
        yield RawMessage(topic, data, log_time)

    def _other(self, opcode: int, content: bytes) -> None:
        if opcode == _SCHEMA:
            (number,) = struct.unpack_from("<H", content)
            name, at = _string(content, 2)
            encoding, at = _string(content, at)
            data, _ = _string(content, at)
            self._schemas[number] = (name, data if encoding == "ros2msg" else "")
        elif opcode == _CHANNEL:
            number, schema = struct.unpack_from("<HH", content)
            topic, at = _string(content, 4)
            topic = with_slash(topic)
            encoding, _ = _string(content, at)
            type_name, text = self._schemas.get(schema, ("", ""))
            self._channels[number] = topic
            self.topics[topic] = TopicInfo.of(type_name, encoding, text)
        elif opcode == _HEADER:
            _, at = _string(content, 0)
            self.library, _ = _string(content, at)
        elif opcode == _METADATA:
            name, at = _string(content, 0)
            self.records[name] = _string_map(content, at)
        elif opcode == _STATISTICS:
            (self.expected,) = struct.unpack_from("<Q", content)

    def _resume(self, file: BinaryIO, size: int, after: int) -> int | None:
        """Where the next chunk begins, by the index at the end of the file; None if there is none."""
        file.seek(max(0, size - _FOOTER_SIZE - len(MAGIC)))
        tail = file.read()
        if tail[-len(MAGIC) :] != MAGIC or tail[:1] != bytes([_FOOTER]) or len(tail) != _FOOTER_SIZE + len(MAGIC):
            return None
        summary_start, _, summary_crc = struct.unpack_from("<QQI", tail, _HEAD.size)
        end = size - len(tail)
        if not 0 < summary_start < end or end - summary_start > MAX_RECORD:
            return None
        file.seek(summary_start)
        summary = file.read(end - summary_start)
        if summary_crc and zlib.crc32(summary + tail[: _HEAD.size + 16]) != summary_crc:
            return None
        starts = []
        at = 0
        try:
            while at < len(summary):
                opcode, length = _HEAD.unpack_from(summary, at)
                content = summary[at + _HEAD.size : at + _HEAD.size + length]
                at += _HEAD.size + length
                if opcode == _CHUNK_INDEX:
                    starts.append(struct.unpack_from("<QQQ", content)[2])
                elif opcode in (_SCHEMA, _CHANNEL, _STATISTICS):
                    self._other(opcode, content)
        except (_Damaged, struct.error, ValueError, IndexError):
            return None
        # Always further on: damage in the index itself must not lead back.
        return min((start for start in (*starts, summary_start) if after < start <= summary_start), default=None)

    def _note(self, at: int, what: str) -> None:
        self.damage.append(f"{self.path.name}, byte {at}: {what}")


def _parts(chunk: bytes) -> tuple[str, int, int, bytes]:
    """Compression, size when unpacked, its checksum, and the packed records (as far as they are there)."""
    _, _, size, crc = _CHUNK.unpack_from(chunk)
    compression, at = _string(chunk, _CHUNK.size)
    (packed,) = struct.unpack_from("<Q", chunk, at)
    return compression, size, crc, chunk[at + 8 : at + 8 + packed]


def _string(content: bytes, at: int) -> tuple[str, int]:
    """A text with its length before it, and where it ends."""
    (size,) = struct.unpack_from("<I", content, at)
    end = at + 4 + size
    if end > len(content):
        raise _Damaged("a text reaches beyond its record")
    return content[at + 4 : end].decode(errors="replace"), end


def _string_map(content: bytes, at: int) -> dict[str, str]:
    (size,) = struct.unpack_from("<I", content, at)
    end, found = at + 4 + size, {}
    at += 4
    while at < end:
        key, at = _string(content, at)
        found[key], at = _string(content, at)
    return found
