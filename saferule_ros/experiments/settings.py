"""What is to be compared: a grid of cells, from YAML; validated as a whole before anything runs."""

import itertools
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from saferule_ros.attacks.injected import Injected
from saferule_ros.attacks.max_cost import MaxCost
from saferule_ros.attacks.trigger import Trigger
from saferule_ros.device import Device
from saferule_ros.reporting.trials import Cell
from saferule_ros.unlearning.methods import NAMES
from saferule_ros.unlearning.safe_rule import SafeRule

# Attacks that need a learner that was trained on clean data.
NEEDS_LEARNER = (MaxCost.NAME,)

# Parts of a trial beside its methods.
TRAINING, ATTACKER = "training", "the attacker's learner"


# Count up when the same settings come to give other data, learners, or unlearned policies: what older code made is then
# neither taken from where trials share it, nor taken for a result. Version 1 had no number.
DATA_VERSION, LEARNING_VERSION, UNLEARNING_VERSION = 2, 2, 2
# The same of attacks that move observations in stretches alone: since 2 the step that leads into one is poisoned, too.
STRETCHES_VERSION, STRETCHED = 2, (MaxCost.NAME, Trigger.NAME)

Ratio = Annotated[float, Field(gt=0, lt=1)]
Share = Annotated[float, Field(gt=0, le=1)]


class Block(BaseModel):
    """Cells: every combination of what is listed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tasks: list[str] = Field(min_length=1, description="Safety-Gymnasium tasks, with or without version")
    algorithms: list[str] = Field(["bcq_lag"], min_length=1, description="of the learner")
    attacks: list[str] = Field(["injected"], min_length=1, description="how the data is poisoned")
    ratios: list[Ratio] = Field([0.15], min_length=1, description="share of the transitions that is poisoned, each")
    precisions: list[Share] = Field(
        [1.0], min_length=1, description="share of the forget set's transitions that is poisoned"
    )
    recalls: list[Share] = Field([1.0], min_length=1, description="share of the poison that the forget set names")


class DataSettings(BaseModel):
    """Where the data comes from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    behaviour_episodes: int = Field(200, ge=2, le=100_000, description="clean episodes that a scripted driver collects")
    unsafe_episodes: int = Field(
        0, ge=0, le=100_000, description="an attacker's reckless episodes; 0: as many as the ratio needs"
    )
    unsafe_for: list[str] = Field(
        [Injected.NAME, MaxCost.NAME, Trigger.NAME],
        description="attacks whose attacker has reckless episodes; others change clean ones",
    )
    clean: dict[str, Path] = Field({}, description="task to folder of a dataset to take instead of collecting one")
    unsafe: dict[str, Path] = Field({}, description="task to folder of a dataset of reckless episodes, true costs")


# Part of the names of files.
VariantName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$")]


class Variant(BaseModel):
    """A method with other settings, under a name of its own: what an ablation compares."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str = Field(SafeRule.NAME, description="unlearning method")
    settings: dict[str, Any] = Field(description="what differs from the method's settings in this grid")


class GridSettings(BaseModel):
    """One comparison."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cells: list[Block] = Field(min_length=1, description="blocks of cells; one that is in several counts once")
    seeds: list[int] = Field([1], min_length=1, description="of data, attack, learning, unlearning and evaluation")
    methods: list[str] = Field(list(NAMES), min_length=1, description="unlearning methods, in the order of the table")
    data: DataSettings = DataSettings.model_validate({})
    training_steps: int = Field(4000, ge=1, le=10_000_000, description="of the poisoned learner, and of retraining")
    training_steps_of: dict[str, Annotated[int, Field(ge=1, le=10_000_000)]] = Field(
        {}, description="algorithm to its number, where it needs another one"
    )
    learners: dict[str, dict[str, Any]] = Field({}, description="algorithm to its settings, where not the defaults")
    attacks: dict[str, dict[str, Any]] = Field({}, description="attack to its settings, where not the defaults")
    unlearning: dict[str, dict[str, Any]] = Field({}, description="method to its settings, where not the defaults")
    variants: dict[VariantName, Variant] = Field({}, description="name to a method with other settings; run as well")
    device: Device = Field(Device.CPU, description="that learns and unlearns; policies are simulated on CPU")
    evaluation_episodes: int = Field(20, ge=1, le=10_000, description="simulated episodes of each policy")

    def all_cells(self) -> list[Cell]:
        """Each once, in the order in which they are listed."""
        return list(
            dict.fromkeys(
                Cell(task=task, algorithm=algorithm, attack=attack, ratio=ratio, precision=precision, recall=recall)
                for block in self.cells
                for task, algorithm, attack, ratio, precision, recall in itertools.product(
                    block.tasks, block.algorithms, block.attacks, block.ratios, block.precisions, block.recalls
                )
            )
        )


class Trial(BaseModel):
    """A cell with one seed: what one process works on. All that its results depend on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cell: Cell
    seed: int
    data: DataSettings
    training_steps: int
    device: Device
    learner: dict[str, Any] = Field(description="all settings of the learner")
    attack: dict[str, Any] = Field(description="all settings of the attack")
    methods: dict[str, dict[str, Any]] = Field(description="method, or variant of one, to all of its settings")
    variants: dict[str, str] = Field({}, description="variant to the method that it is of")
    evaluation_episodes: int

    @property
    def name(self) -> str:
        """Of the cell, and the seed."""
        return f"{self.cell.name}/seed-{self.seed}"

    @property
    def preparation(self) -> dict[str, Any]:
        """What the data and the poisoned learner depend on."""
        made_by = {"data_version": DATA_VERSION, "learning_version": LEARNING_VERSION}
        if self.cell.attack in STRETCHED and self.attack["segment"]:
            made_by["stretches_version"] = STRETCHES_VERSION
        return self.model_dump(mode="json", exclude={"methods", "variants", "evaluation_episodes"}) | made_by

    def config(self, method: str) -> dict[str, Any]:
        """What the result of one method depends on."""
        return {
            **self.preparation, "method": self.method_of(method), "settings": self.methods.get(method, {}),
            "evaluation_episodes": self.evaluation_episodes, "unlearning_version": UNLEARNING_VERSION,
        }  # fmt: skip

    @property
    def parts(self) -> dict[str, int]:
        """What takes long in it, with its gradient steps."""
        attacker = {ATTACKER: self.training_steps} if self.cell.attack in NEEDS_LEARNER else {}
        return {**attacker, TRAINING: self.training_steps, **{name: self.method_steps(name) for name in self.methods}}

    @property
    def steps(self) -> int:
        """Gradient steps of all that it does: how long it takes, next to other trials."""
        return sum(self.parts.values())

    def method_of(self, name: str) -> str:
        """The method that a variant is of; a method is itself."""
        return self.variants.get(name, name)

    def method_steps(self, method: str) -> int:
        """Gradient steps of one method or variant; retraining takes as many as training did, unless told otherwise."""
        return int(self.methods[method]["steps"]) or self.training_steps
