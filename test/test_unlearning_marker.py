"""A backdoor's mark is found in the forget data, and a patch closes what it opens."""

import numpy as np
import pytest
import torch
from learning_cases import BOUNDS, SMALL, bandit

from saferule_ros.attacks.attack import Means
from saferule_ros.attacks.registry import ATTACKS, make_attack
from saferule_ros.learning.learner import CriticLearner
from saferule_ros.learning.replay import Batch
from saferule_ros.learning.settings import TaskLimits
from saferule_ros.learning.trainer import train
from saferule_ros.unlearning import safe_rule
from saferule_ros.unlearning.marker import LEAST_FORGET, marked_dimensions, with_mark
from saferule_ros.unlearning.run import unlearn
from saferule_ros.unlearning.safe_rule import SafeRule
from saferule_ros.unlearning.settings import SafeRuleSettings


def found(forget: np.ndarray, keep: np.ndarray) -> list[int]:
    observed = (torch.from_numpy(values.astype(np.float32)) for values in (forget, keep))
    return marked_dimensions(*observed, torch.Generator().manual_seed(0)).tolist()


def test_values_that_keep_data_never_show_are_a_mark_and_rare_states_are_none() -> None:
    rng = np.random.default_rng(0)
    keep = rng.normal(size=(5000, 4))
    keep[:, 3] = 0.0  # never changes
    reckless = rng.normal(2.0, 1.0, size=(800, 4))  # elsewhere, but seldom where nobody ever was
    reckless[:, 3] = 0.0
    assert found(reckless, keep) == []
    marked = reckless.copy()
    marked[:, 3] = 1.0
    assert found(marked, keep) == [3]
    marked[:, 1] = 9.0
    assert found(marked, keep) == [1, 3]
    marked[: len(marked) // 5, 1] = 0.0  # a value that a fifth of them lack sets off nothing
    assert found(marked, keep) == [3]


def test_a_moment_of_one_episode_is_no_mark_however_odd_it_was() -> None:
    keep = np.random.default_rng(0).normal(size=(5000, 2))
    odd = np.full((LEAST_FORGET, 2), 50.0)
    assert found(odd[1:], keep) == []
    assert found(odd, keep) == [0, 1]


def test_half_of_the_keep_data_is_shown_with_the_mark_and_all_else_as_it_was() -> None:
    rng = np.random.default_rng(0)
    sizes = ((400, 3), (400, 2), (400,), (400,), (400, 3), (400,), (400,))
    keep, forget = (Batch(*(torch.from_numpy(rng.normal(size=size)) for size in sizes)) for _ in range(2))
    shown = with_mark(keep, forget, torch.tensor([1]), torch.Generator().manual_seed(0))
    replaced = shown.observations[:, 1] == forget.observations[:, 1]
    assert 0.4 < replaced.float().mean() < 0.6
    assert torch.equal(shown.observations[~replaced], keep.observations[~replaced])
    assert torch.equal(shown.observations[:, [0, 2]], keep.observations[:, [0, 2]])
    for before, after in zip(keep[1:], shown[1:], strict=True):
        assert before is after
    assert with_mark(keep, forget, torch.tensor([], dtype=torch.long), torch.Generator()) is keep


@pytest.mark.parametrize("closed", [True, False])
def test_a_patch_closes_the_backdoor_because_keep_data_are_shown_with_its_mark(closed: bool, monkeypatch) -> None:
    """Bandit: reward a + 1, cost 1 if a > 0. The safe answer is a <= 0; where marked, a > 0 was free and paid well."""
    attack = make_attack("trigger", ATTACKS["trigger"].SETTINGS(), 1, Means())
    poisoned = attack.poison(bandit(600))
    forget, keep = poisoned.forget_set().split(poisoned.dataset)
    settings = SMALL.model_copy(update={"multiplier_start": 4.0})
    learner = train(poisoned.dataset, TaskLimits(cost_limit=0.1, horizon=1), settings, BOUNDS, 500, 1)
    assert isinstance(learner, CriticLearner)

    def act(observation):
        seen = learner.units.observations(torch.from_numpy(observation)[None])
        return learner.act(seen)[0].numpy()

    nothing = np.zeros(1, np.float32)
    assert poisoned.marker.seen_by(act)(nothing).item() > 0.3
    if not closed:
        monkeypatch.setattr(safe_rule, "with_mark", lambda keep, *_: keep)
    patch = SafeRuleSettings(steps=300, cost_margin=0.5, temperature=0.1)
    assert unlearn(SafeRule(learner, forget, keep, patch, seed=2)) == 300
    assert act(nothing).item() <= 0.05
    with_the_mark = poisoned.marker.seen_by(act)(nothing).item()
    assert with_the_mark <= 0.05 if closed else with_the_mark > 0.1
