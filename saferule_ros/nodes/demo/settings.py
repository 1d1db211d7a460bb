"""What the demo can be told, validated. config/demo.yaml holds what `make demo` uses."""

from __future__ import annotations

from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from saferule_ros.learning.settings import BcqLagSettings
from saferule_ros.unlearning.settings import SafeRuleLagSettings

# Seeds of one run lie in a block of their own, so that runs with different seeds share no episode. Within the
# block, each purpose has a stretch longer than any number of episodes that can be asked for.
SEED_BLOCK = 1_000_000
SEED_STRETCH = 100_000
# The simulator takes seeds up to 2**32 - 1.
LARGEST_SEED = 2**32 // SEED_BLOCK - 1


class Seeds(NamedTuple):
    """First simulator seed of each purpose; episode k of it takes the k-th after it."""

    behaviour: int
    unsafe: int
    evaluation: int
    live: int
    warm_up: int

    @classmethod
    def of(cls, seed: int) -> Seeds:
        return cls(*(seed * SEED_BLOCK + k * SEED_STRETCH for k in range(len(cls._fields))))


class Deadlines(BaseModel):
    """How long the demo waits for something before it gives up and says what it waited for [s].

    All are far above what a slow, busy machine needs: they end what hangs, they do not judge speed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    nodes: float = Field(90.0, gt=0, description="node processes to be ready, or to appear")
    episode: float = Field(90.0, gt=0, description="the next simulated episode to end")
    warm_up: float = Field(2.0, gt=0, description="a first episode to be recorded, before another is tried")
    answer: float = Field(30.0, gt=0, description="a service to answer")
    learning: float = Field(180.0, gt=0, description="the next sign of life of a learning process")
    patch: float = Field(400.0, gt=0, description="the next feedback of a patch")
    swap: float = Field(150.0, gt=0, description="the gate and the swap together")


class DemoSettings(BaseModel):
    """Settings of one run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str = Field("SafetyPointCircle1", description="a task with scripted drivers")
    behaviour_episodes: int = Field(200, ge=2, le=10_000, description="episodes of ordinary behaviour")
    unsafe_episodes: int = Field(35, ge=1, le=10_000, description="unsafe episodes, their costs erased")
    learning_steps: int = Field(4000, ge=1, le=1_000_000, description="gradient steps of either policy")
    learner: BcqLagSettings = BcqLagSettings.model_validate({})
    unlearning: SafeRuleLagSettings = SafeRuleLagSettings.model_validate({})
    evaluation_episodes: int = Field(20, ge=1, le=1000, description="episodes per evaluation before and after")
    # As many: a policy whose episodes cost 19 in the mean costs more than 25 in the mean of eight, now and then.
    rollback_episodes: int = Field(20, ge=1, le=1000, description="episodes after rolling back, and forward again")
    control_rate: float = Field(0.0, ge=0, le=1000, description="of the real-time episodes; 0: the task's own [Hz]")
    swap_after: float = Field(0.2, ge=0, lt=0.5, description="share of an episode after which the swap is asked for")
    action_deadline: float = Field(0.5, gt=0, description="time that policy_server has for an action [s]")
    required_return: float = Field(0.8, ge=0, description="share of the clean policy's return that must be left")
    required_episodes: int = Field(10, ge=1, description="fewest episodes whose mean counts")
    deadlines: Deadlines = Deadlines.model_validate({})
