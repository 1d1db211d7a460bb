"""A trial in a process of its own, seen from the one that started it."""

import subprocess
import sys
import threading
from pathlib import Path

from pydantic import ValidationError

from saferule_ros.experiments.places import TrialPlaces
from saferule_ros.experiments.saying import TrialProgress
from saferule_ros.experiments.settings import Trial
from saferule_ros.experiments.worker import FINISHED, STOPPED, Order, Said

WORKER = "saferule_ros.experiments.worker"
LOG_FILE = "log.txt"

# A worker that was told to stop saves what it has, which takes well below a second; an episode may have to end first.
STOP_SECONDS = 8.0


class TrialProcess:
    """One running, or ended, trial.

    Attributes:
        latest: what it said last of where it stands.
    """

    def __init__(self, trial: Trial, out: Path, workers: int) -> None:
        self.trial = trial
        self.latest = TrialProgress(done=0, steps=trial.steps)
        self.log = TrialPlaces(out, trial).root / LOG_FILE
        self._error = ""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
                text=True, start_new_session=True,  # Ctrl-C is for the parent, which then stops its children
            )  # fmt: skip
        assert self._process.stdin is not None
        # Left open: the worker stops when this end is gone.
        self._process.stdin.write(Order(trial=trial, out=out.absolute(), workers=workers).model_dump_json() + "\n")
        self._process.stdin.flush()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    def failure(self) -> str:
        """Why an ended trial has no results; empty where it has, or was stopped."""
        status = self._process.wait()
        self._reader.join()
        if status in (FINISHED, STOPPED):
            return ""
        return self._error or f"its process ended with status {status}; see {self.log}"

    def stop(self) -> None:
        """Asks it to stop; see `wait`."""
        if self.running:
            self._process.terminate()

    def wait(self) -> None:
        """Until it has stopped; one that does not is ended."""
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        assert self._process.stdin is not None
        self._process.stdin.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            try:
                said = Said.model_validate_json(line)
            except ValidationError:  # it was killed in the middle of a line
                continue
            self.latest = said.progress or self.latest
            self._error = said.error or self._error
        self._process.stdout.close()
