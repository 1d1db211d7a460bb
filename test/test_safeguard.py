"""Safeguards: what the machine does, that all who run it see the same, and that a wrong file teaches."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from dataset_samples import ACTION_SIZE, OBSERVATION_SIZE, make_dataset, make_episode
from hypothesis import given
from hypothesis import strategies as st

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.errors import SettingsError
from saferule_ros.safeguard.drawing import mermaid
from saferule_ros.safeguard.errors import SafeguardError
from saferule_ros.safeguard.labelling import audit_dataset, label_dataset
from saferule_ros.safeguard.model import Safeguard, load_safeguard
from saferule_ros.safeguard.monitor import Monitor, Outcome

READY = Path(__file__).resolve().parent.parent / "config" / "safeguards" / "differential_drive.yaml"

# "After the zone was entered, speed must fall within 3 ticks"; a crash is for ever.
WARNING: dict[str, Any] = {
    "schema": "saferule_ros/safeguard/1", "name": "zone", "observation_size": OBSERVATION_SIZE,
    "action_size": ACTION_SIZE,
    "inputs": {"speed": "observation[0]", "beams": "observation[1:4]", "push": "action[-1]"},
    "labels": {"near": "min(beams) < 1", "fast": "abs(speed) > 0.5", "crash": "push > 5 or beams[0] < -5"},
    "initial": "clear",
    "states": {"clear": {}, "zone": {}, "speeding": {"unsafe": True, "cost": 0.5, "entry_cost": 2.0},
               "crashed": {"unsafe": True}},
    "transitions": [
        {"from": "clear", "when": "crash", "to": "crashed"},
        {"from": "clear", "when": "near", "to": "zone"},
        {"from": "zone", "when": "not near or not fast", "to": "clear"},
        {"from": "zone", "when": "fast", "after": 3, "to": "speeding"},
        {"from": "speeding", "when": "not fast", "to": "clear"},
    ],
}  # fmt: skip


def changed(**changes: Any) -> dict[str, Any]:
    """The file with other words: transitions__2__to="nowhere"; None takes one out."""
    content = deepcopy(WARNING)
    for key, value in changes.items():
        *way, last = key.split("__")
        place: Any = content
        for step in way:
            place = place[int(step) if step.isdecimal() else step]
        if value is None:
            del place[last]
        else:
            place[int(last) if last.isdecimal() else last] = value
    return content


def seen(speed: float = 0.0, beams: tuple[float, float, float] = (2.0, 2.0, 2.0)) -> np.ndarray:
    return np.array([speed, *beams, 0.0], np.float32)


STILL = np.zeros(ACTION_SIZE, np.float32)


def test_a_property_of_time_is_broken_at_the_tick_at_which_it_is() -> None:
    monitor = Monitor(Safeguard.model_validate(WARNING))
    fast, slow = seen(1.0, (2.0, 0.5, 2.0)), seen(0.1, (2.0, 0.5, 2.0))
    steps = [monitor.step(given, STILL) for given in (seen(), fast, fast, fast, fast, fast, slow)]
    assert [step.state for step in steps] == ["clear", *["zone"] * 3, "speeding", "speeding", "clear"]
    assert [step.cost for step in steps] == [0.0] * 4 + [2.5, 0.5, 0.0]
    assert [step.unsafe for step in steps] == [False] * 4 + [True, True, False]
    monitor.reset()
    in_time = [monitor.step(given, STILL) for given in (fast, fast, fast, slow, fast, fast, fast)]
    assert not any(step.unsafe for step in in_time), "slow at the third tick after it came: in time, and counted anew"


def test_of_several_transitions_the_first_holds_and_without_one_the_state_stays() -> None:
    monitor = Monitor(Safeguard.model_validate(WARNING))
    both = monitor.step(seen(beams=(-9.0, 0.0, 0.0)), STILL)
    assert both == Outcome("crashed", 1.0, True)
    assert monitor.step(seen(), STILL) == Outcome("crashed", 1.0, True), "there is no way out of it"
    monitor.reset()
    assert monitor.state == "clear" and monitor.step(seen(), np.array([0.0, 6.0])).state == "crashed"


@pytest.mark.parametrize(
    ("observation", "action", "why"),
    [
        (seen(np.nan), STILL, "not finite"), (seen(np.inf), STILL, "not finite"),
        (seen(), np.array([np.nan, 0.0]), "not finite"), (seen()[:1], STILL, "observation (1,)"),
        (seen(), np.zeros(1), "action (1,)"), (seen()[None], STILL, "observation"), (seen(-1.0), STILL, "invalid"),
    ],
)  # fmt: skip
def test_what_cannot_be_judged_is_unsafe_and_moves_nothing(observation, action, why) -> None:
    root = Safeguard.model_validate(changed(labels__fast="sqrt(speed) > 0.5"))
    monitor = Monitor(root)
    assert monitor.step(seen(beams=(0.0, 0.0, 0.0)), STILL).state == "zone"
    outcome = monitor.step(observation, action)
    assert (outcome.state, outcome.cost, outcome.unsafe) == ("zone", 1.0, True)
    assert why in outcome.problem
    assert monitor.step(seen(1.0, (0.0, 0.0, 0.0)), STILL).state == "zone"
    assert monitor.step(seen(1.0, (0.0, 0.0, 0.0)), STILL).state == "speeding", "its ticks went on"


@given(st.integers(0, 2**32 - 1), st.integers(1, 30))
def test_bulk_labels_are_those_of_stepping_to_the_bit(seed: int, length: int) -> None:
    made = Safeguard.model_validate(
        changed(labels__near="norm(beams) * sin(speed) + sum(observation) / 3 < 0.1 * exp(push)")
    )
    rng = np.random.default_rng(seed)
    dataset = EpisodeDataset.from_episodes(
        make_episode(
            number, length=length + number, observations=rng.normal(size=(length + number + 1, OBSERVATION_SIZE)) * 3
        )
        for number in range(3)
    )
    labels, monitor = label_dataset(made, dataset), Monitor(made)
    for index in range(dataset.episodes):
        episode, record = dataset.episode(index), dataset.records[index]
        monitor.reset()
        for step in range(episode.length):
            outcome = monitor.step(episode.observations[step + 1], episode.actions[step])
            row = record.start + step
            assert (np.float32(outcome.cost), outcome.unsafe) == (labels.costs[row], labels.unsafe[row])


def test_an_audit_finds_the_costs_that_were_erased_and_those_that_were_made_up() -> None:
    made = Safeguard.model_validate(changed(labels__crash="push > 1"))
    dataset = make_dataset()
    labels = label_dataset(made, dataset)
    assert labels.judged.all() and labels.unsafe.any() and not labels.unsafe.all()

    def stored(costs: np.ndarray) -> EpisodeDataset:
        parts = [slice(r.start, r.start + r.length) for r in dataset.records]
        episodes = [dataset.episode(n) for n in range(dataset.episodes)]
        return EpisodeDataset.from_episodes(
            make_episode(n, e.bag_id, e.length, observations=e.observations, actions=e.actions, costs=costs[rows])
            for n, (e, rows) in enumerate(zip(episodes, parts, strict=True))
        )

    honest = audit_dataset(made, stored(labels.costs))
    assert honest.differing_episodes == () and honest.labelled_cost == honest.stored_cost > 0
    assert (honest.unsafe_steps, honest.steps) == (int(labels.unsafe.sum()), len(dataset))
    worst = max(dataset.records, key=lambda r: labels.costs[r.start : r.start + r.length].sum())
    erased = labels.costs.copy()
    erased[worst.start : worst.start + worst.length] = 0.0
    first_safe = int(np.argmin(labels.costs))
    erased[first_safe] += 0.25
    found = audit_dataset(made, stored(erased))
    assert found.differing_episodes[0] == worst.id and found.surplus_steps == 1
    rows = slice(worst.start, worst.start + worst.length)
    assert found.missing_steps == int((labels.costs[rows] > 0).sum())
    with pytest.raises(SafeguardError, match="is for observations of 34 numbers and actions of 2; the dataset has 5"):
        audit_dataset(load_safeguard(READY), dataset)


@pytest.mark.parametrize(
    ("changes", "what", "hint"),
    [
        ({"transitions__1__when": "nera"}, "unknown label 'nera'", "Did you mean 'near'"),
        ({"transitions__1__to": "crashd"}, "`to` is the unknown state 'crashd'", "Did you mean 'crashed'"),
        ({"transitions__1__from": "claer"}, "`from` is the unknown state 'claer'", "Did you mean 'clear'"),
        ({"initial": "claer"}, "the initial state is the unknown state 'claer'", "Did you mean 'clear'"),
        ({"initial": "crashed"}, "the initial state 'crashed' is unsafe", "Begin in"),
        ({"states__lost": {}}, "state 'lost' cannot be reached from 'clear'", "Give a transition"),
        ({"states__crashed": {}, "states__speeding": {}}, "no state is unsafe", "unsafe: true"),
        ({"transitions__1__when": "near and crash"}, "'near and crash' can never be taken: whenever", "narrower"),
        ({"transitions__3__when": "near"}, "", ""),  # its labels overlap with others', and the order says which
        ({"transitions__2": {"from": "zone", "when": "fast", "after": 4, "to": "clear"}}, "", ""),  # too late to shadow
        ({"transitions__3__when": "not near"}, "'not near', after 3 ticks can never be taken", "narrower"),
        ({"transitions__1__when": "near and not near"}, "no labels make it hold", "Correct"),
        ({"transitions__1__when": "near * 2"}, "gives numbers, not true or false", "and, or, not"),
        ({"labels__near": "min(beam) < 1"}, "label near: 'min(beam) < 1' has an unknown input 'beam'", "'beams'"),
        ({"labels__near": "min(beams)"}, "label near: 'min(beams)' gives numbers", "Compare"),
        ({"labels__near": "beams < 1"}, "gives 3 values, not one", "Take an entry"),
        ({"labels__near": "__import__('os')"}, "is not allowed", "For example"),
        ({"labels__near": "beams[3] < 1"}, "index 3 is out of range", ""),
        ({"inputs__speed": "observation[5]"}, "input speed is observation[5], which is not all there", "Correct"),
        ({"inputs__speed": "action[4:]"}, "which is not all there: action has 2 numbers", "Correct"),
        ({"inputs__speed": "action[1:4]"}, "which is not all there: action has 2 numbers", "Correct"),
        ({"inputs__action": "action[0]"}, "an input is named 'action'", "another name"),
    ],
)  # fmt: skip
def test_a_wrong_machine_is_refused_with_what_to_do(changes: dict[str, Any], what: str, hint: str) -> None:
    if not what:
        assert Safeguard.model_validate(changed(**changes))
        return
    with pytest.raises(SafeguardError) as refused:
        Safeguard.model_validate(changed(**changes))
    assert what in str(refused.value) and hint in str(refused.value) and "'zone'" in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"inputs__speed": "velocity[0]"}, "'velocity[0]' is no input; write observation[0]"),
        ({"inputs__speed": "observation[::0]"}, "has step 0"), ({"labels": {}}, "labels"),
        ({"states__zone__cost": -1}, "greater than or equal to 0"), ({"states__zone__cost": float("nan")}, "finite"),
        ({"transitions__1__after": 0}, "greater than or equal to 1"), ({"transitions__1__until": 3}, "Extra inputs"),
        ({"observation_size": None}, "observation_size"), ({"schema": "saferule_ros/safeguard/9"}, "schema"),
    ],
)  # fmt: skip
def test_a_field_that_is_wrong_is_named_with_its_value(tmp_path: Path, changes: dict[str, Any], what: str) -> None:
    path = tmp_path / "zone.yaml"
    path.write_text(yaml.safe_dump(changed(**changes)))
    with pytest.raises(SettingsError, match=r"zone\.yaml") as refused:
        load_safeguard(path)
    assert what in str(refused.value)


def test_the_ready_one_is_drawn_with_all_its_states_and_transitions() -> None:
    made = load_safeguard(READY)
    drawing = mermaid(made).splitlines()
    assert drawing[0] == "stateDiagram-v2" and "    [*] --> clear" in drawing
    assert len([line for line in drawing if " --> " in line]) == 1 + len(made.transitions)
    assert "    warned --> reckless: 4. True, after 5" in drawing and "    class collision unsafe" in drawing
