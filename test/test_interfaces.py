"""Messages, services and actions are what users read first: every field says what it is."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted(path for kind in ("msg", "srv", "action") for path in (ROOT / kind).iterdir())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_interface_and_each_of_its_fields_has_a_comment(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert lines[0].startswith("# ")
    fields = [line for line in lines if line.strip() and not line.startswith("#") and line != "---"]
    assert fields or path.suffix != ".msg"
    assert [line for line in fields if "#" not in line] == []
