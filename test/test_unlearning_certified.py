"""What is withheld from a run, and that its certificate is measured there and nowhere else."""

import numpy as np
import pytest
from dataset_samples import make_dataset, make_episode
from learning_cases import BOUNDS, SMALL, bandit, learner_for

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.dataset.pieces import split_steps, whole_name
from saferule_ros.learning.settings import TaskLimits
from saferule_ros.learning.trainer import train
from saferule_ros.unlearning.certificate import pair_values
from saferule_ros.unlearning.certified import CertifiedRun
from saferule_ros.unlearning.held_out import hold_out
from saferule_ros.unlearning.methods import NAMES, method_for
from saferule_ros.unlearning.run import unlearn
from saferule_ros.unlearning.safe_rule import SafeRule
from saferule_ros.unlearning.settings import SafeRuleLagSettings


def names(dataset: EpisodeDataset) -> set[str]:
    return {record.id for record in dataset.records}


def rows(dataset: EpisodeDataset) -> set[tuple[float, ...]]:
    return {tuple(row) for row in dataset.observations.tolist()}


@pytest.mark.parametrize(("share", "withheld"), [(0.2, 4), (0.5, 10), (0.05, 1)])
def test_whole_episodes_are_withheld_as_the_share_says(share, withheld):
    dataset = bandit(episodes=20)
    used, held_out = hold_out(dataset, share, seed=1)
    assert len(names(held_out)) == withheld
    assert names(used) | names(held_out) == names(dataset) and not names(used) & names(held_out)


def test_the_seed_says_which():
    dataset = bandit(episodes=20)
    first, again, other = (names(hold_out(dataset, 0.5, seed).held_out) for seed in (1, 1, 2))
    assert first == again != other


def test_of_a_single_episode_stretches_of_steps_are_withheld():
    dataset = EpisodeDataset.from_episodes([make_episode(0, length=50)])
    used, held_out = hold_out(dataset, 0.2, seed=3)
    assert (len(used), len(held_out)) == (40, 10)
    assert not rows(used) & rows(held_out)
    assert held_out.episodes <= 2, "ten stretches of five steps, two withheld"


def test_pieces_of_one_episode_are_withheld_together():
    long = EpisodeDataset.from_episodes([make_episode(number, length=20) for number in range(10)])
    _, keep = split_steps(long, np.isin(long.step, (5, 12)))
    used, held_out = hold_out(keep, 0.2, seed=1)
    episodes = [{whole_name(record.id) for record in part.records} for part in (used, held_out)]
    assert not episodes[0] & episodes[1] and len(episodes[1]) == 2
    assert held_out.episodes == 6, "three pieces each"


def test_of_very_few_episodes_all_lose_some_steps_rather_than_one_its_all():
    dataset = EpisodeDataset.from_episodes([make_episode(number, length=50) for number in range(3)])
    used, held_out = hold_out(dataset, 0.2, seed=3)
    assert len(held_out) == 30
    assert {record.id.partition("[")[0] for record in used.records} == {"walk-000", "walk-001", "walk-002"}


@pytest.mark.parametrize("dataset", [make_dataset(), EpisodeDataset.from_episodes([make_episode(0, length=2)])])
@pytest.mark.parametrize("share", [0.01, 0.5])
def test_neither_part_is_ever_empty(dataset, share):
    used, held_out = hold_out(dataset, share, seed=0)
    assert len(used) >= 1 and len(held_out) >= 1 and len(used) + len(held_out) == len(dataset)


def test_nothing_is_withheld_where_nothing_can_be_or_shall_be():
    one_step = EpisodeDataset.from_episodes([make_episode(0, length=1)])
    for dataset, share in ((make_dataset(), 0.0), (one_step, 0.5)):
        used, held_out = hold_out(dataset, share, seed=0)
        assert used is dataset and held_out is None


def run_with(held_out: float, method: str = "safe_rule", **settings) -> CertifiedRun:
    keep, forget = bandit(40, seed=1, prefix="keep"), bandit(20, seed=2, prefix="bad", low=0.0, cost_of_positive=0.0)
    learner = learner_for(keep)
    learner.steps_done = 2
    kind = method_for(method, type(learner)).settings
    return CertifiedRun(method, learner, forget, keep, kind(held_out=held_out, **settings), seed=4)


def test_the_run_never_sees_what_the_certificate_is_measured_on():
    certified = run_with(0.25)
    used = certified.run.forget.all.actions.flatten().tolist()
    measured = certified._replays[0].all.actions.flatten().tolist()
    assert (len(used), len(measured)) == (15, 5) and not set(used) & set(measured)
    assert (certified.run.keep.size, certified._replays[1].size) == (30, 10)
    certificate = certified.certificate(certified.before)
    assert (certificate.held_out_forget, certificate.held_out_keep) == (5, 10)


def test_without_withholding_it_is_measured_on_all_and_says_so():
    certified = run_with(0.0)
    certificate = certified.certificate(certified.before)
    assert (certificate.held_out_forget, certificate.held_out_keep) == (0, 0)
    measured = [replay.all.actions.flatten().tolist() for replay in certified._replays]
    assert measured == [part.all.actions.flatten().tolist() for part in (certified.run.forget, certified.run.keep)]


def test_the_certificate_asks_the_same_of_every_method():
    required = {name: run_with(0.25, name).certificate(run_with(0.25, name).before).q_cost_required for name in NAMES}
    safe_rule = run_with(0.25).run
    assert isinstance(safe_rule, SafeRule)
    assert set(required.values()) == {safe_rule.cost_required}


def test_retraining_is_measured_on_the_fresh_learner():
    certified = run_with(0.0, "retrain")
    unlearn(certified.run)
    after = certified.values()
    fresh = certified.run.learner
    expected = pair_values(fresh, certified.run.forget, certified.run.keep, seed=4)
    np.testing.assert_array_equal(after.cost_forget, expected.cost_forget)


def test_forgetting_carries_over_to_forget_data_that_was_withheld():
    """Half of D_f is never shown, and the certificate holds there too: the poison is unlearned, not its samples."""
    keep = bandit(episodes=400, seed=1, prefix="keep")
    forget = bandit(episodes=200, seed=2, prefix="bad", low=0.0, cost_of_positive=0.0)
    both = EpisodeDataset.from_episodes([d.episode(index) for d in (keep, forget) for index in range(d.episodes)])
    learner = train(both, TaskLimits(cost_limit=0.1, horizon=1), SMALL, BOUNDS, steps=300, seed=6)
    settings = SafeRuleLagSettings(
        steps=150, held_out=0.5, cost_margin=0.5, temperature=0.1, beta_start=2.0, beta_cap=2.0, keep_outweighs=0.0
    )
    certified = CertifiedRun("safe_rule", learner, forget, keep, settings, seed=7)
    unlearn(certified.run)
    assert not certified.certificate(certified.before).holds
    assert certified.certificate(certified.values()).holds
