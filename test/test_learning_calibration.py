"""How a learner stands to its cost limit, against critics whose values are set by hand."""

import math

import numpy as np
import pytest
import torch
from learning_cases import learner_for

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.dataset.episode import Episode
from saferule_ros.dataset.pieces import split_steps
from saferule_ros.learning.bcq_lag import BcqLag, BcqPolicy
from saferule_ros.learning.calibration import STATES, calibrate, episodes_within_limit, raised_kappa
from saferule_ros.learning.replay import Replay
from saferule_ros.learning.settings import TaskLimits

SAFE, COSTLY = 3.0, 5.0  # what the two cost critics say where the observation is 0
SLOPE = 4.0  # by how much more both say where it is 1


def two_steps(cost: float = 0.0, prefix: str = "walk") -> EpisodeDataset:
    """Episodes that start at observation 0 and go on at 1: standard scores -1 and +1."""
    return EpisodeDataset.from_episodes(
        Episode(
            id=f"{prefix}-{index}", bag_id=prefix, observations=np.array([[0.0], [1.0], [1.0]], np.float32),
            actions=np.zeros((2, 1), np.float32), rewards=np.ones(2, np.float32),
            costs=np.full(2, cost / 2, np.float32), terminated=True, truncated=False,
        )
        for index in range(4)
    )  # fmt: skip


def learner_that_says(dataset: EpisodeDataset, limit: float) -> BcqLag:
    """Its cost critics are SAFE and COSTLY at the first state, SLOPE higher at the second; the action is ignored."""
    learner = learner_for(dataset, limit=limit, horizon=2)
    with torch.no_grad():
        for parameter in learner.critics.parameters():
            parameter.zero_()
        learner.critics.hidden_1.weight[:, 0, 0] = 1.0  # the first unit passes the observation on where it is positive
        learner.critics.hidden_2.weight[:, 0, 0] = 1.0
        learner.critics.value.weight[2:, 0, 0] = SLOPE
        learner.critics.value.bias[2:, 0, 0] = torch.tensor([SAFE, COSTLY])
    return learner


def test_excess_is_told_apart_for_initial_and_for_dataset_states() -> None:
    dataset = two_steps()
    learner = learner_that_says(dataset, limit=4.0)
    replay = learner.replay(dataset)
    found = calibrate(learner, replay)
    # Twins: the default pessimism is the larger of the two.
    assert found.excess_initial == pytest.approx(COSTLY - learner.kappa, abs=1e-3)
    assert found.excess_dataset == pytest.approx(COSTLY + SLOPE / 2 - learner.kappa, abs=1e-3)
    assert found.critic_noise == pytest.approx(math.sqrt(2.0) * (COSTLY - SAFE) / 2, abs=1e-3)
    assert found.kappa == learner.limits.cost_value_limit(learner.settings.discount)


def test_kappa_is_raised_to_what_critics_show_on_safe_episodes_and_never_lowered() -> None:
    safe = two_steps(cost=1.0)
    strict = learner_that_says(safe, limit=2.0)
    replay = strict.replay(safe)
    assert raised_kappa(strict, safe, replay, 1.0) == pytest.approx(COSTLY + SLOPE, abs=1e-3)
    assert raised_kappa(strict, safe, replay, 0.0) == pytest.approx(COSTLY, abs=1e-3)
    lenient = learner_that_says(safe, limit=40.0)
    assert raised_kappa(lenient, safe, replay, 1.0) == lenient.kappa


def test_kappa_is_not_raised_by_episodes_over_the_limit() -> None:
    unsafe = two_steps(cost=3.0)
    learner = learner_that_says(unsafe, limit=2.0)
    replay = learner.replay(unsafe)
    assert raised_kappa(learner, unsafe, replay, 1.0) == learner.kappa


@pytest.mark.parametrize(("length", "terminated"), [(10, False), (100, False), (10, True)])
def test_an_episode_that_was_cut_is_asked_for_its_share_of_the_limit_and_one_that_terminated_for_all(
    length: int, terminated: bool
) -> None:
    """Limit 10 in 50 steps; what costs 0.1 a step keeps it, what costs 0.4 breaks it, however it was recorded."""
    limits = TaskLimits(cost_limit=10.0, horizon=50)
    dataset = EpisodeDataset.from_episodes(
        Episode(
            id=f"drive-{index}", bag_id="drive", observations=np.zeros((length + 1, 1), np.float32),
            actions=np.zeros((length, 1), np.float32), rewards=np.ones(length, np.float32),
            costs=np.full(length, cost, np.float32), terminated=terminated, truncated=not terminated,
        )
        for index, cost in enumerate((0.1, 0.4))
    )  # fmt: skip
    assert list(episodes_within_limit(dataset, limits)) == ([0, 1] if terminated else [0])


def test_the_rest_of_a_costly_episode_does_not_pass_for_a_safe_one() -> None:
    """Two steps may cost 2 in all; one step that is left of them may cost 1."""
    for cost, raised in ((3.0, False), (1.6, True)):
        whole = two_steps(cost)
        rest, _ = split_steps(whole, np.arange(8) % 2 == 0)
        learner = learner_that_says(whole, limit=2.0)
        assert [record.length for record in rest.records] == [1] * 4
        kappa = raised_kappa(learner, rest, learner.replay(rest), 1.0)
        assert kappa == (pytest.approx(COSTLY, abs=1e-3) if raised else learner.kappa), cost


def test_a_long_dataset_is_judged_on_part_of_its_states(monkeypatch: pytest.MonkeyPatch) -> None:
    """A policy weighs dozens of actions for each state: all states of a long log at once would not fit into memory."""
    asked: list[int] = []
    dataset = two_steps()
    learner = learner_that_says(dataset, limit=4.0)
    replay = Replay(dataset, learner.units, learner.settings.discount)
    longer = replay.all._replace(observations=replay.all.observations.repeat(1000, 1))
    monkeypatch.setattr(replay, "all", longer)
    forward = BcqPolicy.forward

    def counted(policy: BcqPolicy, observations: torch.Tensor) -> torch.Tensor:
        asked.append(len(observations))
        return forward(policy, observations)

    monkeypatch.setattr(BcqPolicy, "forward", counted)
    found = calibrate(learner, replay)
    assert max(asked) <= STATES
    assert found.excess_dataset == pytest.approx(COSTLY + SLOPE / 2 - learner.kappa, abs=0.2)
