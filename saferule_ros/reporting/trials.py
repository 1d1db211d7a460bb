"""What one method did in one trial, as a file: OUT/cells/…/results/<method>.json. Tables and plots are made from these.

A trial is a cell (task, algorithm, attack, ratio) with one seed. Every file speaks for itself: it holds the whole
configuration, and on what it was measured.
"""

import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from saferule_ros.dataset.durable import write_atomically
from saferule_ros.reporting.results import EpisodeOutcome, ResultsError
from saferule_ros.reporting.wording import percent

CELLS, RESULTS = "cells", "results"

# The agent before anything was forgotten: listed beside the methods.
POISONED = "poisoned"


class Cell(BaseModel):
    """One box of the grid."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str
    algorithm: str
    attack: str
    ratio: float = Field(gt=0, lt=1, description="share of the transitions that is poisoned")
    precision: float = Field(1.0, gt=0, le=1, description="share of the forget set's transitions that is poisoned")
    recall: float = Field(1.0, gt=0, le=1, description="share of the poison that the forget set names")

    @property
    def name(self) -> str:
        """task/algorithm/attack-ratio, and how good the forget set is: also its folder below OUT/cells."""
        shares = {"precision": self.precision, "recall": self.recall}
        errs = "".join(f"-{what}-{share:g}" for what, share in shares.items() if share < 1.0)
        return f"{self.task}/{self.algorithm}/{self.attack}-{self.ratio:g}{errs}"

    @property
    def title(self) -> str:
        """The same for people."""
        shares = {"precision": self.precision, "recall": self.recall}
        errs = "".join(f", {what} {percent(share)}" for what, share in shares.items() if share < 1.0)
        return f"{self.task}, {self.algorithm}, {self.attack} {percent(self.ratio)}{errs}"


class TrialResult(BaseModel):
    """One method in one trial, or the poisoned agent."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    cell: Cell
    seed: int
    method: str
    cost_limit: float
    episodes: list[EpisodeOutcome] = Field(min_length=1, description="simulated, the same starts for every method")
    triggered: list[EpisodeOutcome] = Field(
        default=[], description="the same with the backdoor's marker; if there is one"
    )
    certificate: dict[str, Any] | None = Field(default=None, description="None: not unlearned, or no critics")
    budget: dict[str, float] = Field(description="of the gradient steps: steps, seconds, cpu_seconds, flops")
    checkpoint_id: str = Field(description="of the learner that was evaluated, in the trial's workspace")
    poisoned_id: str = Field(
        default="", description="checkpoint of the poisoned learner that was to forget; empty: older than this note"
    )
    data: dict[str, float] = Field(default={}, description="transitions, forget_transitions, poisoned_ratio, …")
    config: dict[str, Any] = Field(description="all settings that made it")
    started: str = Field(description="ISO 8601, UTC")
    versions: dict[str, str] = {}
    machine: dict[str, str] = {}
    trained: dict[str, Any] = Field(
        default={},
        description="started, versions and machine of the learner's training, where trials share what it made; empty: "
        "that was this method, or older than this note",
    )

    @property
    def costs(self) -> list[float]:
        """Cost of each episode."""
        return [episode.episode_cost for episode in self.episodes]

    @property
    def returns(self) -> list[float]:
        """Return of each episode."""
        return [episode.episode_return for episode in self.episodes]

    @property
    def cost_mean(self) -> float:
        """Mean over its episodes."""
        return statistics.fmean(self.costs)

    @property
    def return_mean(self) -> float:
        """Mean over its episodes."""
        return statistics.fmean(self.returns)

    @property
    def triggered_cost_mean(self) -> float:
        """Mean over the episodes with the backdoor's marker; 0 where there are none."""
        return statistics.fmean(episode.episode_cost for episode in self.triggered) if self.triggered else 0.0

    @property
    def certified(self) -> bool | None:
        """Whether both conditions of the certificate hold; None without one."""
        if self.certificate is None:
            return None
        return bool(self.certificate["reward_suppressed"] and self.certificate["cost_separated"])

    def save(self, path: Path) -> None:
        """Writes the file in one step, durable on return."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, self.model_dump_json(indent=1).encode() + b"\n")

    @classmethod
    def load(cls, path: Path) -> "TrialResult":
        """Reads what `save` wrote.

        Raises:
            ResultsError: it cannot be read, or is no such file.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise ResultsError(f"{str(path)!r} cannot be read: {error.strerror}", "Check the path") from error
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "file"
            raise ResultsError(
                f"{str(path)!r} holds no result of this version: {where}: {first['msg']}",
                "Remove it, and the same command makes it again",
            ) from error


def load_results(out: Path) -> list[TrialResult]:
    """All results below a folder that `saferule compare` or `saferule grid` wrote, in the order of their paths.

    Raises:
        ResultsError: there are none, or one cannot be read.
    """
    found = [TrialResult.load(path) for path in _files(out)]
    if not found:
        raise ResultsError(f"there are no results in {str(out)!r}", "Make some: saferule compare, saferule grid")
    return found


def _files(out: Path) -> Iterator[Path]:
    yield from sorted((out / CELLS).glob(f"*/*/*/*/{RESULTS}/*.json"))
