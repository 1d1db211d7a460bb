"""What one run of the demo measured. Saved as runs/demo/seed-<n>/results.json; report and table are made from it.

A run that failed half-way is saved as well: what it did not reach is None or empty, and `error` says why.
"""

import hashlib
import json
import statistics
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from saferule_ros.dataset.durable import write_atomically
from saferule_ros.errors import SaferuleError
from saferule_ros.patching.report import PatchReport

RESULTS_FILE = "results.json"

# In the order in which they are made and shown.
EVALUATIONS = {
    "clean": "learned from clean data",
    "poisoned": "learned from poisoned data",
    "patched": "patched while it ran",
    "rolled_back": "rolled back",
    "forward_again": "forward again",
}


class ResultsError(SaferuleError):
    """Results that cannot be read, or of which there are none."""


class _Record(BaseModel):
    # Not all is known of every run: NaN stays NaN in JSON, as a string.
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


class EpisodeOutcome(_Record):
    """One evaluated episode. Return and cost are undiscounted sums."""

    episode_id: str
    seed: int = Field(description="of the environment: the same seed gives the same start")
    episode_return: float
    episode_cost: float
    length: int = Field(ge=0, description="steps, T")
    path: list[tuple[float, float]] = Field(default=[], description="x, y [m], T+1 points; empty: not recorded")
    step_costs: list[float] = Field(default=[], description="cost of each step, T; empty: not recorded")
    fallbacks: int = Field(default=0, ge=0, description="commands that were the safe action, not the policy's")
    lost: int = Field(default=0, ge=0, description="ticks lost on the way, seen as gaps in the sequence numbers")


class Evaluation(_Record):
    """Episodes of one policy."""

    name: str = Field(description="clean, poisoned, patched, rolled_back or forward_again")
    title: str = Field(default="", description="what it is, for readers; empty: the usual words for its name")
    policy_id: str
    episodes: list[EpisodeOutcome] = Field(min_length=1)

    @property
    def heading(self) -> str:
        """The title, or the usual words for the name."""
        return self.title or EVALUATIONS.get(self.name, self.name)

    @property
    def returns(self) -> list[float]:
        """Return of each episode."""
        return [episode.episode_return for episode in self.episodes]

    @property
    def costs(self) -> list[float]:
        """Cost of each episode."""
        return [episode.episode_cost for episode in self.episodes]

    @property
    def return_mean(self) -> float:
        """Mean return."""
        return statistics.fmean(self.returns)

    @property
    def return_std(self) -> float:
        """Standard deviation of the return over these episodes (population)."""
        return statistics.pstdev(self.returns)

    @property
    def cost_mean(self) -> float:
        """Mean cost."""
        return statistics.fmean(self.costs)

    @property
    def cost_std(self) -> float:
        """Standard deviation of the cost over these episodes (population)."""
        return statistics.pstdev(self.costs)

    @property
    def cost_median(self) -> float:
        """Median cost: episode costs are often bimodal, so the mean alone misleads."""
        return statistics.median(self.costs)

    def share_within(self, cost_limit: float) -> float:
        """Share of the episodes, 0 to 1, whose cost is within the limit."""
        return sum(cost <= cost_limit for cost in self.costs) / len(self.costs)


class SwapEvidence(_Record):
    """What was counted on the topics while a policy was swapped in during an episode."""

    episode_id: str = Field(description="the episode that ran when the policy changed")
    observations: int = Field(ge=0, description="observations that asked for a command, episodes before it included")
    actions: int = Field(ge=0, description="commands seen")
    unanswered: int = Field(ge=0, description="observations without a command")
    doubled: int = Field(ge=0, description="commands beyond the one that an observation asked for")
    gaps: int = Field(ge=0, description="numbers missing or out of order in the sequence")
    mixed: int = Field(ge=0, description="commands whose generation and policy id contradict each other or go back")
    fallbacks: int = Field(default=0, ge=0, description="commands that were the safe action")
    while_patched: int = Field(default=0, ge=0, description="commands that the robot got while the patch was computed")
    generation_before: int = Field(ge=0)
    generation_after: int = Field(ge=0)
    policy_before: str = ""
    policy_after: str = ""
    first_sequence: int = Field(ge=0, description="sequence number of the first command by the new policy")
    step_of_swap: int = Field(ge=0, description="step of the episode which that command answered")
    steps: int = Field(default=0, ge=0, description="steps of that episode")
    seconds_gate: float = Field(default=float("nan"), description="the gate, in its own process [s]")
    seconds_switch: float = Field(default=float("nan"), description="old policy's last command to new one's first [s]")
    seconds_call: float = Field(default=float("nan"), description="from service call to reply [s]")

    @property
    def flawless(self) -> bool:
        """Every observation has exactly one command, of one policy, in sequence; and the policy did change."""
        faults = self.unanswered + self.doubled + self.gaps + self.mixed
        return faults == 0 and self.actions > 0 and self.generation_after > self.generation_before


class StageTime(_Record):
    """Wall time of one stage of the run."""

    name: str
    seconds: float = Field(ge=0)


class BagCount(_Record):
    """What one bag brought into the dataset. Return and cost are as recorded: of a poisoned bag, they lie."""

    bag_id: str
    purpose: str = Field(default="", description='for readers: "behaviour data", "poison: costs erased"')
    episodes: int = Field(ge=0)
    transitions: int = Field(ge=0)
    return_mean: float = float("nan")
    cost_mean: float = float("nan")


class Check(_Record):
    """One thing that had to hold."""

    name: str
    passed: bool
    value: str = Field(description="what was measured, with unit")
    required: str = Field(description="what was asked for")


class DemoResults(_Record):
    """One run of the demo, from data to the way back and forth."""

    seed: int
    task: str
    cost_limit: float
    command: str = Field(default="", description="what reproduces this run")
    started: str = Field(description="ISO 8601, UTC")
    versions: dict[str, str] = Field(default={}, description="name to version; see provenance.versions")
    machine: dict[str, str] = Field(default={}, description="see provenance.machine")
    settings: dict[str, Any] = Field(default={}, description="all settings of the run but its seed")
    digests: dict[str, str] = Field(default={}, description="dataset, forget set, policies, checkpoints …")
    stages: list[StageTime] = []
    data: list[BagCount] = []
    evaluations: list[Evaluation] = []
    patch: PatchReport | None = None
    swap: SwapEvidence | None = None
    checks: list[Check] = []
    passed: bool = False
    error: str = Field(default="", description="why the run ended early; empty if it did not")

    @property
    def seconds(self) -> float:
        """Wall time of all stages [s]."""
        return sum(stage.seconds for stage in self.stages)

    @property
    def settings_digest(self) -> str:
        """First 16 hex digits of the SHA-256 of the settings: runs that can be compared have the same."""
        text = json.dumps(self.settings, sort_keys=True, separators=(",", ":"), default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def evaluation(self, name: str) -> Evaluation | None:
        """The evaluation of that name, if the run got so far."""
        return next((evaluation for evaluation in self.evaluations if evaluation.name == name), None)

    def save(self, folder: Path) -> Path:
        """Writes <folder>/results.json, durable on return."""
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / RESULTS_FILE, self.model_dump_json(indent=1).encode() + b"\n")
        return folder / RESULTS_FILE

    @classmethod
    def load(cls, path: Path) -> "DemoResults":
        """Reads results.json, given as file or as its folder.

        Raises:
            ResultsError: missing, or not such a file.
        """
        file = path / RESULTS_FILE if path.is_dir() else path
        try:
            return cls.model_validate_json(file.read_bytes())
        except OSError as error:
            raise ResultsError(
                f"results {str(file)!r} cannot be read: {error.strerror}", "Give a run's folder"
            ) from error
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "file"
            raise ResultsError(
                f"{str(file)!r} holds no results of this version: {where}: {first['msg']}", "Run the demo again"
            ) from error
