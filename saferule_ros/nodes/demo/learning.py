"""Stage 2: the poisoned policy and the clean one, learned side by side in two processes."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from pydantic import ValidationError

from saferule_ros.errors import SaferuleError
from saferule_ros.nodes.demo.learn_request import LearnProgress, LearnRequest

WORKER = "saferule_ros.nodes.demo.learn_worker"
# A worker that was told to end does so at once; one that does not is in the kernel's hands.
STOP_SECONDS = 5.0
# How often the workers are looked at [s].
LOOK_EVERY = 0.1
LOG_TAIL_BYTES = 2000


class LearningFailed(SaferuleError):
    """A learning process said so, died, or gave no sign of life."""


class LearnProcess:
    """One running learn_worker.

    Args:
        name: of it, for people; also of its files.
        request: what it is to do.
        folder: gets <name>.json and <name>.log.
    """

    def __init__(self, name: str, request: LearnRequest, folder: Path) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self.latest = LearnProgress(stage="ingest")
        self.heard = time.monotonic()
        folder.mkdir(parents=True, exist_ok=True)
        request_file = folder / f"{name}.json"
        request_file.write_text(request.model_dump_json(indent=1))
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", WORKER, str(request_file)],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True,
                start_new_session=True,  # Ctrl-C is for the demo, which then ends its children
            )  # fmt: skip
        self._reader = threading.Thread(target=self._read, name=name, daemon=True)
        self._reader.start()

    def check(self, deadline: float) -> bool:
        """Whether it is done; raises LearningFailed if it failed, died, or was silent for `deadline` [s]."""
        who, latest = f"learning of the {self.name} policy", self.latest
        if latest.error:
            raise LearningFailed(f"{who}: {latest.error}")
        if latest.stage == "done":
            return True
        if not self._reader.is_alive() and self.latest.stage != "done":
            raise LearningFailed(f"{who} ended with status {self._process.wait()}", self._where_to_look())
        if time.monotonic() - self.heard > deadline:
            at = f"{latest.stage}, {latest.done} of {latest.total}"
            raise LearningFailed(f"{who} gave no sign of life for {deadline:g} s ({at})", self._where_to_look())
        return False

    def stop(self) -> None:
        """Ends it, if it still runs. What it had written stays."""
        if self._process.poll() is None:
            self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            try:
                self.latest = LearnProgress.model_validate_json(line)
            except ValidationError:
                with self.log.open("a") as log:  # some library's chatter
                    log.write(line)
            self.heard = time.monotonic()
        self._process.stdout.close()

    def _where_to_look(self) -> str:
        tail = self.log.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace")
        return f"Its log, {self.log}, ends with:\n{tail}"


def learn_all(
    requests: Mapping[str, LearnRequest], folder: Path, deadline: float,
    progress: Callable[[str, LearnProgress], None],
) -> dict[str, LearnProgress]:  # fmt: skip
    """Runs these side by side; returns their last words by name.

    Args:
        requests: by name.
        folder: for logs.
        deadline: longest silence of one [s].
        progress: called with name and newest progress, some times a second.

    Raises:
        LearningFailed: one did; the others are ended.
    """
    processes: list[LearnProcess] = []
    try:
        for name, request in requests.items():
            processes.append(LearnProcess(name, request, folder))
        done = False
        while not done:
            time.sleep(LOOK_EVERY)
            ended = 0
            for process in processes:
                ended += process.check(deadline)
                progress(process.name, process.latest)
            done = ended == len(processes)
        return {process.name: process.latest for process in processes}
    finally:
        for process in processes:
            process.stop()
