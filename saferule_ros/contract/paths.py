"""Field paths as they stand in a contract: pose.pose.position.x, ranges[0:180:10], points[0].positions, data[3]."""

import re
from dataclasses import dataclass

from saferule_ros.dataset.subscript import SUBSCRIPT, split_subscript

_STEP = r"[A-Za-z_]\w*(?:\[\d+\])?"
_PATH = re.compile(rf"(?P<base>(?:{_STEP}\.)*[A-Za-z_]\w*){SUBSCRIPT}")


@dataclass(frozen=True)
class FieldPath:
    """A field, and which of its entries: all (None), one, or a slice."""

    text: str
    base: str
    index: int | slice | None

    @classmethod
    def parse(cls, text: str) -> "FieldPath":
        """Reads one. Raises ValueError, which a settings model turns into its own error."""
        found = _PATH.fullmatch(text)
        if found is None:
            raise ValueError(f"{text!r} is no field path; write pose.position.x, ranges[0:180:10] or data[3]")
        return cls(text, found["base"], split_subscript(found))

    def entries(self, size: int) -> list[int]:
        """Which of `size` entries. Raises IndexError for one that is not there."""
        if isinstance(self.index, int):
            return [range(size)[self.index]]
        return list(range(size)[self.index if self.index is not None else slice(None)])
