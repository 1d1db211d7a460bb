"""The behaviour model of a patch learns from what is worth imitating, and proposes nothing else."""

import dataclasses

import numpy as np
import pytest
import torch
from learning_cases import WHOLE, learner_for, poisoned_bandit

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.dataset.episode import Episode
from saferule_ros.dataset.pieces import split_steps
from saferule_ros.learning.settings import TaskLimits
from saferule_ros.unlearning.run import unlearn
from saferule_ros.unlearning.safe_rule import SafeRule
from saferule_ros.unlearning.settings import SafeRuleSettings
from saferule_ros.unlearning.worth_imitating import rows_worth_imitating

LIMITS = TaskLimits(cost_limit=2.0, horizon=4)


def dataset(*episodes: tuple[float, float, int]) -> EpisodeDataset:
    """Episodes of a return, a cost and a length."""
    return EpisodeDataset.from_episodes(
        Episode(
            id=f"e-{index}", bag_id="e", observations=np.zeros((length + 1, 1), np.float32),
            actions=np.zeros((length, 1), np.float32), rewards=np.full(length, earned / length, np.float32),
            costs=np.full(length, cost / length, np.float32), terminated=False, truncated=True,
        )
        for index, (earned, cost, length) in enumerate(episodes)
    )  # fmt: skip


def episodes_of(data: EpisodeDataset, share: float) -> list[int]:
    rows = rows_worth_imitating(data, LIMITS, share).numpy()
    return sorted(set(data.episode_index[rows].tolist()))


def test_of_the_episodes_within_the_limit_those_that_earn_most_a_step_are_chosen() -> None:
    #              within,         over the limit, within,        earns as much in half the steps, at the limit
    data = dataset((4.0, 0.0, 4), (9.0, 3.0, 4), (1.0, 0.0, 4), (4.0, 1.0, 2), (2.0, 2.0, 4))
    assert episodes_of(data, 0.5) == [0, 3]
    assert episodes_of(data, 1.0) == [0, 2, 3, 4]
    assert episodes_of(data, 0.01) == [3], "one at least"
    assert episodes_of(data, 0.0) == [0, 1, 2, 3, 4], "not asked for"
    assert len(rows_worth_imitating(data, LIMITS, 0.5)) == 4 + 2


def test_the_harmless_pieces_of_a_costly_episode_are_not_imitated() -> None:
    """Steps in the middle of each were forgotten. What is left of the first costs nothing in the beginning only."""
    costly, good = (
        Episode(
            id=name, bag_id="e", observations=np.zeros((9, 1), np.float32), actions=np.zeros((8, 1), np.float32),
            rewards=np.full(8, earned, np.float32), costs=np.array([0, 0, 0, cost, cost, cost, cost, cost], np.float32),
            terminated=False, truncated=True,
        )
        for name, earned, cost in (("costly", 9.0, 1.0), ("good", 1.0, 0.0))
    )  # fmt: skip
    data = EpisodeDataset.from_episodes([costly, good])
    _, keep = split_steps(data, np.isin(data.step, (2, 3)))
    limits = TaskLimits(cost_limit=2.0, horizon=8)
    assert [record.id for record in keep.records] == ["costly[0:2]", "costly[4:8]", "good[0:2]", "good[4:8]"]
    assert sorted(set(keep.episode_index[rows_worth_imitating(keep, limits, 1.0).numpy()])) == [2, 3]


def test_a_robot_that_fell_early_does_not_pass_for_a_fast_one() -> None:
    data = dataset((4.0, 0.0, 4), (2.0, 0.0, 1))  # the second earns twice as much per step
    assert episodes_of(data, 0.5) == [1], "it was cut, and would have gone on so"
    fell = dataclasses.replace(data.episode(1), terminated=True, truncated=False)
    assert episodes_of(EpisodeDataset.from_episodes([data.episode(0), fell]), 0.5) == [0]


def test_where_no_episode_keeps_the_limit_all_are_shown() -> None:
    assert episodes_of(dataset((4.0, 3.0, 4), (9.0, 4.0, 4)), 0.5) == [0, 1]


@pytest.mark.parametrize(("share", "low", "high"), [(0.0, -1.0, 1.0), (1.0, -1.0, 0.0), (0.5, -0.5, 0.0)])
def test_a_patched_behaviour_model_proposes_what_it_was_shown(share: float, low: float, high: float) -> None:
    """The bandit's keep data: actions from -1 to 1, reward the action plus 1, cost 1 above 0."""
    keep, forget, together = poisoned_bandit()
    run = SafeRule(
        learner_for(together), forget, keep, SafeRuleSettings(steps=400, imitated_share=share, **WHOLE), seed=3
    )
    actions = run.keep.all.actions[run.imitated]
    assert (actions.min().item(), actions.max().item()) == pytest.approx((low, high), abs=0.05)
    unlearn(run)
    latents = torch.randn(500, 2, generator=torch.Generator().manual_seed(0))
    proposed = run.learner.vae.decode(torch.zeros(500, 1), latents)
    assert (proposed.min().item(), proposed.max().item()) == pytest.approx((low, high), abs=0.3)


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_the_behaviour_model_observes_what_was_logged_with_noise_of_the_width_that_is_asked_for(noise: float) -> None:
    keep, forget, together = poisoned_bandit()
    settings = SafeRuleSettings(steps=200, imitation_noise=noise, **WHOLE)
    run = SafeRule(learner_for(together), forget, keep, settings, seed=3)
    observed: list[torch.Tensor] = []
    learn = run.learner.model_loss
    run.learner.model_loss = lambda batch: (observed.append(batch.observations), learn(batch))[1]  # type: ignore
    unlearn(run)
    # The bandit is in one state, 0; critics and actor are shown it as it is.
    seen = torch.cat(observed)
    assert seen.std().item() == pytest.approx(noise, rel=0.03, abs=1e-9)
    assert seen.mean().item() == pytest.approx(0.0, abs=0.01) and not run.keep.all.observations.any()
