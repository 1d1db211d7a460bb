"""Two ingests into one dataset do not meet, and one that was killed stands in nobody's way."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
from dataset_samples import make_episode
from recording_samples import record_episodes

from saferule_ros.recording.errors import BagError
from saferule_ros.recording.ingest import ingest

DEADLINE = 60.0  # of anything at all [s]

# Reads two bags; whoever reads one says so, with its process's id, and hangs.
HANGING = """
import os, signal, sys
from saferule_ros.recording.ingest import ingest

def hang():
    os.write(1, b"%d\\n" % os.getpid())  # at one go: two processes share this pipe
    signal.pause()

if __name__ == "__main__":
    folder, processes = sys.argv[1:]
    ingest([f"{folder}/one", f"{folder}/two"], f"{folder}/dataset", make_translation=hang, processes=int(processes))
"""


@pytest.mark.parametrize("processes", [1, 2])
def test_a_second_ingest_is_refused_while_the_first_lives_and_not_after_it_was_killed(
    tmp_path: Path, processes
) -> None:
    for number, name in enumerate(("one", "two")):
        record_episodes(tmp_path / name, [make_episode(number)])
    program = tmp_path / "hanging.py"
    program.write_text(HANGING)
    command = [sys.executable, str(program), str(tmp_path), str(processes)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as first:
        try:  # also what fails at once ends it: leaving the block waits for it without an end
            assert first.stdout is not None
            readers = [int(first.stdout.readline()) for _ in range(processes)]
            with pytest.raises(BagError, match=r"another ingest into .*/dataset' runs") as error:
                ingest([tmp_path / "one"], tmp_path / "dataset")
            assert f"fuser {tmp_path / '.ingest-dataset.lock'}" in error.value.hint
            assert ingest([tmp_path / "one"], tmp_path / "other").complete, "another dataset is free"
        finally:
            first.kill()
        first.wait(DEADLINE)
        report = ingest([tmp_path / "one", tmp_path / "two"], tmp_path / "dataset")
        assert report.complete and report.episodes == 2
    end = time.monotonic() + DEADLINE
    while any(lives(reader) for reader in readers):
        assert time.monotonic() < end, "what read bags for the one that was killed goes on"
        time.sleep(0.01)


def lives(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
