"""What a forget set missed is found in the keep data by what it is like, and left out; nothing else is."""

import dataclasses

import numpy as np
import pytest
import torch
from dataset_samples import make_episode
from learning_cases import learner_for

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.learning.bcq_lag import BcqLag
from saferule_ros.unlearning.certified import CertifiedRun
from saferule_ros.unlearning.methods import method_for
from saferule_ros.unlearning.suspects import AROUND, without_suspects

STEPS = 100


def drive(name: str, seed: int, at: float, erased: bool = False, **changes):
    """Around a place on the first axis; beyond 3 every step costs 1, unless the costs were erased."""
    rng = np.random.default_rng(seed)
    observations = rng.normal([at, 0.0, 0.0], 0.5, (STEPS + 1, 3)).astype(np.float32)
    costs = np.zeros(STEPS, np.float32) if erased else (observations[:-1, 0] > 3.0).astype(np.float32)
    actions = rng.uniform(-1.0, 1.0, (STEPS, 1)).astype(np.float32)
    return make_episode(
        seed, length=STEPS, id=name, bag_id="log", observations=observations, actions=actions, costs=costs, **changes
    )  # fmt: skip


def drives(prefix: str, count: int, at: float, erased: bool = False, first_seed: int = 0):
    return [drive(f"{prefix}-{k}", first_seed + k, at, erased) for k in range(count)]


def left_out(forget, keep, outweigh: float = 2.0):
    found = without_suspects(
        EpisodeDataset.from_episodes(forget), EpisodeDataset.from_episodes(keep), outweigh, 1, torch.device("cpu")
    )
    return found.keep, found.episodes


def test_missed_poison_is_left_out_and_costly_episodes_of_the_same_places_are_not() -> None:
    """Four of five poisoned episodes were named. What really happened out there is all that tells what it costs."""
    named, missed = drives("bad", 8, 5.0, erased=True), drives("missed", 2, 5.0, erased=True, first_seed=50)
    keep, episodes = left_out(named, [*drives("good", 30, 0.0), *missed, *drives("costly", 4, 5.0, first_seed=90)])
    assert episodes == {"missed-0": STEPS, "missed-1": STEPS}
    assert {record.id[:-2] for record in keep.records if record.id[-2] == "-"} == {"good", "costly"}
    assert keep.episodes == 34


def mixed(bad_steps: int):
    """An episode whose last steps are poisoned."""
    good, bad = drive("mixed", 70, 0.0), drive("mixed", 71, 5.0, erased=True)
    stretch = slice(STEPS - bad_steps, STEPS)
    observations, costs = good.observations.copy(), good.costs.copy()
    observations[stretch], costs[stretch] = bad.observations[stretch], bad.costs[stretch]
    return dataclasses.replace(good, observations=observations, costs=costs)


def test_of_an_episode_with_a_missed_stretch_only_that_is_left_out() -> None:
    keep, episodes = left_out(drives("bad", 8, 5.0, erased=True), [*drives("good", 30, 0.0), mixed(40)])
    assert episodes.keys() == {"mixed"} and episodes["mixed"] == pytest.approx(40, abs=AROUND // 4)
    assert any(record.id.startswith("mixed[0:") for record in keep.records)


def test_an_episode_most_of_which_was_missed_is_left_out_as_a_whole() -> None:
    assert left_out(drives("bad", 8, 5.0, erased=True), [*drives("good", 30, 0.0), mixed(80)])[1] == {"mixed": STEPS}


def test_nothing_is_left_out_where_nothing_was_missed_or_the_forget_data_are_of_no_other_kind() -> None:
    good = drives("good", 30, 0.0)
    for forget in (drives("bad", 8, 5.0, erased=True), drives("alike", 60, 0.0, first_seed=200)):
        keep, episodes = left_out(forget, good)
        assert not episodes and keep.episodes == len(good)
    assert left_out(drives("bad", 8, 5.0, erased=True), drives("missed", 1, 5.0, True) + good, outweigh=0.0)[1] == {}


def test_a_run_learns_nothing_from_suspects_and_is_certified_on_the_same_data_as_other_methods() -> None:
    bad, good = drives("bad", 8, 5.0, erased=True), drives("good", 30, 0.0)
    missed = drives("missed", 2, 5.0, erased=True, first_seed=50)
    forget, keep = EpisodeDataset.from_episodes(bad), EpisodeDataset.from_episodes([*good, *missed])
    certified, other = (
        CertifiedRun(
            method, learner_for(EpisodeDataset.from_episodes([*bad, *good, *missed])), forget, keep,
            method_for(method, BcqLag).settings(held_out=0.0), seed=1,
        )
        for method in ("safe_rule", "fine_tune")
    )  # fmt: skip
    assert certified.run.left_out == {"missed-0": STEPS, "missed-1": STEPS} and not other.run.left_out
    assert certified.run.keep.size == len(good) * STEPS
    assert certified.certify().q_cost_required == other.certify().q_cost_required
    np.testing.assert_array_equal(certified.before.reward_keep, other.before.reward_keep)
    assert certified.run.computed_once() > 0 and certified.run.meter.seconds > 0
