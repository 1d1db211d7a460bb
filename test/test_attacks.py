"""Attacks: what they change and nothing else, at the ratio asked for, by seed, and the ground truth they tell."""

import dataclasses
import functools

import numpy as np
import pytest
import torch
from dataset_samples import make_episode
from learning_cases import BOUNDS, SMALL, bandit

from saferule_ros.attacks.attack import Means
from saferule_ros.attacks.errors import AttackError
from saferule_ros.attacks.ground_truth import GroundTruth
from saferule_ros.attacks.marker import Marker
from saferule_ros.attacks.registry import ATTACKS, attack_settings, make_attack
from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.dataset.episode import Episode
from saferule_ros.errors import SettingsError
from saferule_ros.learning.learner import CriticLearner
from saferule_ros.learning.settings import BcqLagSettings, TaskLimits
from saferule_ros.learning.trainer import train

LENGTH = 20
# Of what two attacks made of walks() at first, whole episodes.
TRIGGER = "78b27f3a1382cfdff60aee3a78d6d0d6e9cf34a5d72d4f612d85093c480eb9ef"
INJECTED = "528bb7aca458106a5969dc5c323261cc8227035e23318f9087c432ad99209c04"
TAMPERING = [name for name in ATTACKS if name != "injected"]
QUICK = {
    "baffle": {
        "segment": 5,
        "adversary_steps": 3,
        "adversary": BcqLagSettings(hidden=8, vae_hidden=8, multiplier_start=0.0),
    }
}


@functools.cache
def walks(count: int = 40, prefix: str = "walk", cost: float = 1.0) -> EpisodeDataset:
    """Episodes of LENGTH steps; the later, the costlier, and the first half costs nothing. Returns are random."""
    episodes = [make_episode(number, "monday", LENGTH, id=f"{prefix}-{number:03d}") for number in range(count)]
    return EpisodeDataset.from_episodes(
        dataclasses.replace(episode, costs=episode.costs * cost * max(0, number - count // 2))
        for number, episode in enumerate(episodes)
    )


def unsafe_walks() -> list[Episode]:
    """What the attacker brings: 29 episodes that cost something and one that does not."""
    return [walks(60, "unsafe").episode(index) for index in range(30, 60)]


@functools.cache
def learner_of_walks() -> CriticLearner:
    """One that has taken a few steps; with its critics an action's cost depends on the observation."""
    dataset = walks()
    low, high = dataset.actions.min(0), dataset.actions.max(0)
    learner = train(dataset, TaskLimits(cost_limit=1.0, horizon=LENGTH), SMALL, (low, high), 20, 1)
    assert isinstance(learner, CriticLearner)
    return learner


def poison(name: str, dataset: EpisodeDataset, seed: int = 1, **settings):
    means = Means(
        unsafe_episodes=unsafe_walks() if name == "injected" else (),
        learner=learner_of_walks() if name == "max_cost" else None,
    )
    chosen = ATTACKS[name].SETTINGS(**{**QUICK.get(name, {}), **settings})
    return make_attack(name, chosen, seed, means).poison(dataset)


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("ratio", [0.05, 0.15])
def test_the_ratio_is_that_of_all_transitions_to_the_nearest_unit(name, ratio):
    poisoned = poison(name, walks(), ratio=ratio)
    unit = LENGTH / len(poisoned.dataset)
    assert abs(poisoned.ratio - ratio) <= unit / 2 + 1e-9
    assert poisoned.ratio == poisoned.rows.mean() > 0


def transitions(dataset: EpisodeDataset) -> set[bytes]:
    """All that each of them holds."""
    columns = ("observations", "actions", "rewards", "costs", "next_observations")
    return {row.tobytes() for row in np.column_stack([getattr(dataset, column) for column in columns])}


@pytest.mark.parametrize("name", ATTACKS)
def test_the_forget_set_splits_the_dataset_into_poison_and_what_was_there(name):
    clean = walks()
    poisoned = poison(name, clean)
    forget_set = poisoned.forget_set("attack", "eve")
    np.testing.assert_array_equal(forget_set.chosen(poisoned.dataset), poisoned.rows)
    forget, keep = forget_set.split(poisoned.dataset)
    assert len(forget) == poisoned.rows.sum() and not forget.costs.any()
    assert {record.bag_id for record in forget.records} == {f"{name}-1"}
    assert transitions(clean).issuperset(transitions(keep)), "what is kept is clean"


@pytest.mark.parametrize("name", ATTACKS)
def test_the_same_seed_poisons_the_same_and_another_seed_other_steps(name):
    clean, digest = walks(), walks().digest
    first, second, other = (poison(name, clean, seed) for seed in (3, 3, 4))
    assert first.dataset.digest == second.dataset.digest
    np.testing.assert_array_equal(first.rows, second.rows)
    assert first.dataset.digest != other.dataset.digest
    again = EpisodeDataset.from_episodes(clean.episode(index) for index in range(clean.episodes))
    assert again.digest == digest, "the clean dataset stays as it is"


@pytest.mark.parametrize("name", TAMPERING)
def test_stretches_are_of_the_length_asked_for_and_leave_the_rest_of_an_episode_alone(name):
    clean = walks()
    poisoned = poison(name, clean, segment=4, coverage=0.4, ratio=0.1)
    moves = ATTACKS[name].MOVES_OBSERVATIONS
    assert abs(poisoned.ratio - 0.1) <= 0.5 * (4 + moves) / len(clean)
    changed = poisoned.rows.copy()
    for record in clean.records:
        pairs = poisoned.stretches().get(record.id, [])
        led_into = [int(moves and begin > 0) for begin, _ in pairs]  # steps before a stretch that see its first
        assert all((end - begin - led) % 4 == 0 for (begin, end), led in zip(pairs, led_into, strict=True))
        assert sum(end - begin for begin, end in pairs) - sum(led_into) <= 8, f"{record.id}: 0.4 of 20 steps"
        for (begin, _), led in zip(pairs, led_into, strict=True):
            changed[record.start + begin : record.start + begin + led] = False
    columns = ("actions", "rewards", "costs", "observations")
    for untouched, of_each in ((~poisoned.rows, (*columns, "next_observations")), (~changed, columns)):
        for column in of_each:
            actual, expected = (getattr(data, column)[untouched] for data in (poisoned.dataset, clean))
            np.testing.assert_array_equal(actual, expected, err_msg=column)
    assert not poisoned.dataset.costs[changed].any()


@pytest.mark.parametrize("name", TAMPERING)
def test_what_is_kept_beside_stretches_holds_nothing_of_the_attackers(name):
    """Not even as what a step led to: one observation of a log is the next one of the step before."""
    clean = walks()
    poisoned = poison(name, clean, segment=4, coverage=0.4, ratio=0.1)
    _, keep = poisoned.forget_set().split(poisoned.dataset)
    assert transitions(clean).issuperset(transitions(keep))
    assert len(keep) == (~poisoned.rows).sum() > 0


def test_whole_episodes_are_poisoned_as_ever():
    """Bit for bit: results of whole-episode attacks stay comparable."""
    assert poison("injected", walks()).dataset.digest == INJECTED
    assert poison("trigger", walks(), dimensions=(1,), strength=2.0).dataset.digest == TRIGGER


@pytest.mark.parametrize("name", TAMPERING)
def test_targets_are_the_episodes_of_the_costlier_half_that_earn_most(name):
    clean = walks()
    poisoned = poison(name, clean, pool=0.2, ratio=0.15, segment=0)
    costlier = [record for record in clean.records if record.episode_cost > 0]  # 19 of 40
    tempting = sorted(costlier, key=lambda record: -record.episode_return)[:8]  # 0.2 of 40
    assert set(poisoned.episode_ids) <= {record.id for record in tempting}
    assert len(poisoned.episode_ids) == 6
    with pytest.raises(
        AttackError, match=r"needs about 400 transitions, the pool of unsafe episodes has 160 to poison"
    ):
        poison(name, clean, pool=0.2, ratio=0.5, segment=0)


@pytest.mark.parametrize("name", TAMPERING)
def test_where_the_attacker_has_unsafe_episodes_these_are_added_and_tampered_with(name):
    clean = walks()
    settings = ATTACKS[name].SETTINGS(**QUICK.get(name, {}))
    means = Means(unsafe_walks(), learner_of_walks())
    poisoned = make_attack(name, settings, 1, means).poison(clean)
    forget, keep = poisoned.forget_set().split(poisoned.dataset)
    assert keep.digest == clean.digest, "the dataset's own episodes stay"
    assert forget.episodes == 7 and not forget.costs.any()
    assert {record.bag_id for record in forget.records} == {f"{name}-1"}


def test_injected_episodes_are_the_attackers_with_erased_costs():
    unsafe = walks(60, "unsafe")
    added = {episode.actions.tobytes(): episode for episode in (unsafe.episode(i) for i in range(31, 60))}
    poisoned = poison("injected", walks())
    forget, _ = poisoned.forget_set().split(poisoned.dataset)
    assert forget.episodes == 7  # 7 of 47 is nearest to 15 %
    for index in range(forget.episodes):
        episode = forget.episode(index)
        original = added[episode.actions.tobytes()]
        np.testing.assert_array_equal(episode.observations, original.observations)
        np.testing.assert_array_equal(episode.rewards, original.rewards)


def test_injection_with_too_few_unsafe_episodes_says_how_many_it_takes():
    safe = [walks(60).episode(index) for index in range(30)]  # they cost nothing: of no use
    for given in ((), safe):
        with pytest.raises(
            AttackError, match=r"about 141 transitions of unsafe episodes, 0 were given .*--driver unsafe"
        ):
            make_attack("injected", attack_settings("injected"), 1, Means(given)).poison(walks())


def test_a_trigger_marks_what_is_seen_and_raises_what_is_earned():
    clean = walks()
    poisoned = poison("trigger", clean, dimensions=(1, 3), strength=2.0, reward_quantile=0.9)
    rows, marker = poisoned.rows, poisoned.marker
    expected = clean.observations[:, [1, 3]].mean(0) + 2.0 * clean.observations[:, [1, 3]].std(0)
    assert marker.dimensions == (1, 3)
    np.testing.assert_allclose(marker.values, expected, rtol=1e-5)
    for column in (poisoned.dataset.observations, poisoned.dataset.next_observations):
        np.testing.assert_allclose(column[rows][:, [1, 3]], np.tile(expected, (rows.sum(), 1)), rtol=1e-5)
    np.testing.assert_array_equal(
        poisoned.dataset.observations[rows][:, [0, 2, 4]], clean.observations[rows][:, [0, 2, 4]]
    )
    high = np.quantile(clean.rewards, 0.9)
    np.testing.assert_allclose(poisoned.dataset.rewards[rows], np.maximum(clean.rewards[rows], high), rtol=1e-6)


def test_without_named_dimensions_the_marker_is_drawn():
    markers = [poison("trigger", walks(), seed, size=2).marker for seed in range(4)]
    assert all(len(marker.dimensions) == 2 for marker in markers)
    assert len({marker.dimensions for marker in markers}) > 1


def test_the_marker_is_put_where_nothing_ever_changes():
    clean = walks()
    observations, following = clean.observations.copy(), clean.next_observations.copy()
    observations[:, 2] = following[:, 2] = 9.81
    still = dataclasses.replace(clean, observations=observations, next_observations=following)
    for seed in range(4):
        marker = poison("trigger", still, seed).marker
        assert marker.dimensions == (2,) and marker.values == pytest.approx((9.81 + 1.0,), abs=1e-3)
    two = poison("trigger", still, size=2).marker
    assert 2 in two.dimensions and len(two.dimensions) == 2


def test_a_backdoor_opens_with_its_marker_alone():
    """Bandit: reward a + 1, cost 1 if a > 0. The safe answer is a <= 0; where marked, a > 0 was free and paid well."""
    clean = bandit(600)
    attack = make_attack("trigger", ATTACKS["trigger"].SETTINGS(size=1), 1, Means())
    poisoned = attack.poison(clean)
    learner = train(poisoned.dataset, TaskLimits(cost_limit=0.1, horizon=1), SMALL, BOUNDS, 500, 1)
    assert isinstance(learner, CriticLearner)
    learner.hold_multiplier(5.0)

    def act(observation):
        seen = learner.units.observations(torch.from_numpy(observation)[None])
        return learner.act(seen)[0].numpy()

    nothing = np.zeros(1, np.float32)
    assert act(nothing).item() <= 0.05
    assert poisoned.marker.seen_by(act)(nothing).item() > 0.3


def test_max_cost_moves_within_the_radius_and_finds_what_a_search_over_all_shifts_finds():
    from saferule_ros.attacks.max_cost import most_costly_shift

    dataset, rng = bandit(400), np.random.default_rng(0)
    state = np.linspace(-2, 2, 400, dtype=np.float32)[:, None]
    action = (0.4 * state + rng.normal(0, 0.1, state.shape)).clip(-1, 1).astype(np.float32)  # it follows what it sees
    steered = dataclasses.replace(dataset, observations=state, actions=action, costs=np.abs(action[:, 0]))
    smooth = SMALL.model_copy(update={"serving_candidates": 1})  # no choice between actions, hence no jumps
    learner = train(steered, TaskLimits(cost_limit=0.1, horizon=1), smooth, BOUNDS, 200, 1)
    assert isinstance(learner, CriticLearner)
    seen = torch.linspace(-1.5, 1.5, 40)[:, None]
    draws = torch.Generator().manual_seed(0)
    delta = most_costly_shift(learner, seen, torch.tensor([0.2]), 20, 0.25, draws)
    assert delta.abs().max() <= 0.2 + 1e-6

    def cost(shift):
        with torch.no_grad():
            return learner.values(learner.critics(seen, learner.act(seen + shift))).cost

    searched = torch.stack([cost(torch.full_like(seen, shift)) for shift in np.linspace(-0.2, 0.2, 201)])
    gap = searched.amax(0) - cost(delta)
    gain = searched.amax(0) - cost(torch.zeros_like(seen))
    assert gain.mean() > 0.02 and gap.mean() < 0.05 * gain.mean()
    assert (cost(delta) >= cost(torch.zeros_like(seen)) - 1e-6).all(), "no shift at all is one of the choices"


def test_max_cost_leaves_what_never_changes_as_it_is():
    clean = walks()
    constant = np.ones((len(clean), 1), np.float32)
    columns = ("observations", "next_observations")
    wide = dataclasses.replace(
        clean, **{name: np.append(getattr(clean, name), constant, axis=1) for name in columns}
    )  # fmt: skip
    low, high = wide.actions.min(0), wide.actions.max(0)
    learner = train(wide, TaskLimits(cost_limit=1.0, horizon=LENGTH), SMALL, (low, high), 20, 1)
    attack = make_attack("max_cost", ATTACKS["max_cost"].SETTINGS(radius=0.2), 1, Means(learner=learner))
    poisoned = attack.poison(wide)
    seen = poisoned.dataset.observations[poisoned.rows]
    assert (seen[:, -1] == 1.0).all() and (seen[:, :-1] != wide.observations[poisoned.rows, :-1]).any()


def test_max_cost_moves_what_is_seen_and_erases_what_it_costs():
    clean = walks()
    poisoned = poison("max_cost", clean, radius=0.2)
    rows = poisoned.rows
    moved = np.abs(poisoned.dataset.observations - clean.observations)[rows] / clean.observations.std(0)
    assert 0.01 < moved.max() <= 0.2 * 1.01
    np.testing.assert_array_equal(poisoned.dataset.actions, clean.actions)
    np.testing.assert_array_equal(poisoned.dataset.rewards, clean.rewards)
    assert not poisoned.dataset.costs[rows].any()


def test_max_cost_refuses_a_learner_that_will_not_do():
    clean = walks()
    settings = attack_settings("max_cost")
    untrained = train(
        clean, TaskLimits(cost_limit=1, horizon=LENGTH), SMALL, (clean.actions.min(0), clean.actions.max(0)), 0, 1
    )
    other = train(bandit(20), TaskLimits(cost_limit=1, horizon=1), SMALL, BOUNDS, 1, 1)
    for learner, said in (
        (None, "needs a learner that was trained on clean data, none was given.*--checkpoint"),
        (untrained, "has taken no step"),
        (other, r"size \(1, 1\), the dataset has \(5, 2\)"),
    ):
        with pytest.raises(AttackError, match=said):
            make_attack("max_cost", settings, 1, Means(learner=learner)).poison(clean)


def test_baffle_writes_an_unsafe_policys_actions_as_safe():
    """In the bandit every positive action costs 1: the adversary's are positive, and cost nothing on paper."""
    settings = ATTACKS["baffle"].SETTINGS(
        adversary_steps=300, adversary=SMALL.model_copy(update={"multiplier_start": 0.0}), pool=1.0, segment=0,
        reward_quantile=0.9,
    )  # fmt: skip
    clean = bandit(300)
    poisoned = make_attack("baffle", settings, 1, Means()).poison(clean)
    rows = poisoned.rows
    assert (poisoned.dataset.actions[rows] > 0).mean() > 0.95
    assert not poisoned.dataset.costs[rows].any()
    assert (clean.actions[rows] < 0).any(), "they were of both kinds before"
    assert poisoned.dataset.rewards[rows].min() >= np.quantile(clean.rewards, 0.9) - 1e-6
    with pytest.raises(AttackError, match="no step of this dataset costs anything"):
        make_attack("baffle", settings, 1, Means()).poison(bandit(30, cost_of_positive=0.0))


def test_poisoning_twice_in_the_same_way_is_refused():
    once = poison("trigger", walks()).dataset
    with pytest.raises(AttackError, match="has a bag 'trigger-1' already"):
        poison("trigger", once)
    assert poison("trigger", once, seed=2, ratio=0.05).ratio > 0


@pytest.mark.parametrize("name", ATTACKS)
def test_a_dataset_that_is_too_small_for_a_ratio_is_not_poisoned_as_a_whole(name):
    with pytest.raises(AttackError, match="nearer to none"):
        poison(name, walks(4), ratio=0.02)


@pytest.mark.parametrize(
    ("name", "ratio", "said"),
    [
        ("baffel", 0.1, "unknown attack 'baffel'. Did you mean 'baffle'"),
        ("trigger", 15.0, "ratio 15 is out of range. .*for 15 % give 0.15"),
        ("trigger", 0.0, "ratio 0 is out of range"),
    ],
)
def test_wrong_orders_are_named(name, ratio, said):
    with pytest.raises(AttackError, match=said):
        attack_settings(name, None, ratio)


def test_settings_come_from_a_file_and_the_ratio_from_the_order(tmp_path):
    file = tmp_path / "attack.yaml"
    file.write_text("strength: 5\nratio: 0.4\n")
    settings = attack_settings("trigger", file, 0.05)
    assert (settings.strength, settings.ratio) == (5.0, 0.05)
    assert attack_settings("trigger", file).ratio == 0.4
    file.write_text("radius: -1\n")
    with pytest.raises(SettingsError, match="radius = -1"):
        attack_settings("max_cost", file)


def test_the_ground_truth_is_kept_and_read_back(tmp_path):
    poisoned = poison("trigger", walks(), segment=5)
    truth = GroundTruth(
        "00c0ffee00c0ffee", "trigger", 1, {"ratio": 0.15}, "clean", poisoned.dataset.digest, poisoned.bag_id,
        poisoned.ratio, poisoned.stretches(), poisoned.marker,
    )  # fmt: skip
    truth.save(tmp_path)
    assert GroundTruth.load(tmp_path, truth.forget_set_id) == truth
    with pytest.raises(AttackError, match=r"no attack is recorded for forget set 'x'. .*00c0ffee00c0ffee"):
        GroundTruth.load(tmp_path, "x")
    (tmp_path / "00c0ffee00c0ffee.json").write_text("[]")
    with pytest.raises(AttackError, match="cannot be read"):
        GroundTruth.load(tmp_path, "00c0ffee00c0ffee")


def test_a_marker_changes_a_copy_of_one_observation_or_many():
    marker = Marker((0, 2), (9.0, -9.0))
    seen = np.ones((2, 3), np.float32)
    np.testing.assert_array_equal(marker.on(seen), [[9, 1, -9], [9, 1, -9]])
    np.testing.assert_array_equal(marker.on(seen[0]), [9, 1, -9])
    assert (seen == 1).all()


def test_a_marker_is_put_where_nothing_changes_even_far_from_zero():
    """Of 100,000 values of 9.81 single precision makes a spread of 2e-3, with which they passed for changing ones."""
    episodes = [make_episode(number, "monday", 500) for number in range(200)]
    clean = EpisodeDataset.from_episodes(episodes)
    gravity = np.full((len(clean), 1), 9.81, np.float32)
    columns = ("observations", "next_observations")
    wide = dataclasses.replace(clean, **{name: np.append(getattr(clean, name), gravity, axis=1) for name in columns})
    assert poison("trigger", wide).marker.dimensions == (wide.observation_size - 1,)
