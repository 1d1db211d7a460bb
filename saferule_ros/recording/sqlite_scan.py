"""Reads one SQLite file of rosbag2, as far as it can be read."""

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from saferule_ros.recording.messages import RawMessage
from saferule_ros.recording.scan import BATCH_BYTES, Scan, TopicInfo, with_slash
from saferule_ros.recording.unpacking import ZSTD_MAGIC, unpacked_message

# Rows that one query asks for: held in memory at a time, unless they are so large that fewer are enough.
_ROWS = 500
# How often reading goes on behind a damaged place, which costs one failing query each.
_MOST_GAPS = 200


class SqliteScan(Scan):
    """See the module and `Scan`."""

    def messages(self) -> Iterator[RawMessage]:
        try:
            with tempfile.TemporaryDirectory() as folder:
                path = _readable(self.path, Path(folder))
                mode = "mode=ro&immutable=1" if path == self.path else "mode=rw"
                with closing(sqlite3.connect(f"{path.absolute().as_uri()}?{mode}", uri=True)) as database:
                    database.execute("PRAGMA trusted_schema = OFF")
                    # Otherwise SQLite refuses a file that is shorter than it should be as a whole.
                    database.execute("PRAGMA writable_schema = ON")
                    self._check_size(self.path)
                    for message in self._database(database):
                        self.recovered += 1
                        yield message
        except (sqlite3.Error, OSError) as error:
            self._note(error)

    def _database(self, database: sqlite3.Connection) -> Iterator[RawMessage]:
        names: dict[int, str] = {}
        for number, name, kind, form in database.execute("SELECT id, name, type, serialization_format FROM topics"):
            names[int(number)] = topic = with_slash(str(name))
            self.topics[topic] = TopicInfo.of(str(kind), str(form))
        self._definitions(database)
        # In the order of writing, which is that of reception; behind a damaged place it goes on, a little further
        # each time that nothing is there.
        last, skip, gaps = -(2**62), 1, 0
        while gaps <= _MOST_GAPS:
            rows, at_end, error = _rows_after(database, last)
            yield from self._messages(rows, names)
            if rows:
                last, skip = rows[-1][0], 1
            if at_end:
                return
            if error is not None:
                self._note(error)
                gaps += 1
                last, skip = max(last, 0) + skip, skip * 2

    def _messages(self, rows: list[tuple], names: dict[int, str]) -> Iterator[RawMessage]:
        for _, topic, stamp, data in rows:
            if isinstance(data, bytes) and data[:4] == ZSTD_MAGIC:
                data = unpacked_message(data)
            if topic not in names or not isinstance(stamp, int) or not isinstance(data, bytes):
                self.lost += 1
                continue
            yield RawMessage(names[topic], data, stamp)

    def _check_size(self, path: Path) -> None:
        """Pages that the file's header counts and that are not there. Source: SQLite file format, 1.3."""
        with open(path, "rb") as file:
            head = file.read(100)
            size = file.seek(0, 2)
        expected = _page_size(head) * int.from_bytes(head[28:32], "big")
        if len(head) == 100 and head[24:28] == head[92:96] and size < expected:
            self.damage.append(f"{self.path.name} is cut: {size} bytes of {expected}")

    def _definitions(self, database: sqlite3.Connection) -> None:
        """Since Iron, a file has them."""
        try:
            rows = database.execute(
                "SELECT topic_type, encoding, encoded_message_definition FROM message_definitions"
            ).fetchall()
        except sqlite3.Error:
            return
        texts = {str(kind): str(text) for kind, encoding, text in rows if encoding == "ros2msg"}
        for name, info in self.topics.items():
            self.topics[name] = TopicInfo(info.type, texts.get(info.type, ""))

    def _note(self, error: Exception) -> None:
        text = f"{self.path.name}: {error}"
        if text not in self.damage:
            self.damage.append(text)


def _rows_after(database: sqlite3.Connection, last: int) -> tuple[list[tuple], bool, sqlite3.Error | None]:
    """The next rows, as far as they can be read; whether they are the last; and what stopped the reading."""
    rows: list[tuple] = []
    size = 0
    query = "SELECT id, topic_id, timestamp, data FROM messages WHERE id > ? ORDER BY id LIMIT ?"
    try:
        for row in database.execute(query, (min(last, 2**62), _ROWS)):
            rows.append(row)  # one by one: those before the damage are kept
            size += len(row[3]) if isinstance(row[3], bytes) else 0
            if size >= BATCH_BYTES:
                return rows, False, None
    except sqlite3.Error as error:
        return rows, False, error
    return rows, len(rows) < _ROWS, None


def _readable(path: Path, folder: Path) -> Path:
    """The file itself, or a copy where SQLite would change it, or make up what is not there.

    A recorder that was killed leaves a journal, which SQLite plays back into the file. Of a page that is cut, it takes
    the missing rest as zeros: messages that end with numbers which nobody sent.
    """
    journals = [Path(f"{path}{suffix}") for suffix in ("-wal", "-journal")]
    has_journal = any(journal.exists() and journal.stat().st_size for journal in journals)
    with open(path, "rb") as file:
        page = _page_size(file.read(100))
    size = path.stat().st_size
    cut = size % page if page else 0
    if not has_journal and not cut:
        return path
    for source in (path, *journals):
        if source.exists():
            shutil.copyfile(source, folder / source.name)
    os.truncate(folder / path.name, size - cut)
    return folder / path.name


def _page_size(head: bytes) -> int:
    """By the file's first bytes; 0 if they say none. Source: SQLite file format, 1.3.2."""
    said = int.from_bytes(head[16:18], "big")
    page = 2**16 if said == 1 else said
    return page if page >= 512 and page & (page - 1) == 0 else 0
