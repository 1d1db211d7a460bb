"""The judge of a swap: each kind of fault that it must see, made on purpose in a recording without one."""

from __future__ import annotations

import pytest

from saferule_ros.nodes.demo.evidence import Announced, SeenAction, SeenObservation, examine

OLD, NEW = "a" * 16, "b" * 16
STEPS = 10  # commands per episode
FIRST = 116  # command that the new policy gives first: step 5 of the second episode
SWAP = Announced(FIRST, 3, 4, OLD, NEW)


def clean_run() -> tuple[list[SeenObservation], list[SeenAction]]:
    """Two episodes; observations are numbered from 501 on, commands from 101 on."""
    observations, actions, sequence = [], [], 100
    for episode in ("one", "two"):
        for step in range(STEPS + 1):
            number = 501 + len(observations)
            observations.append(SeenObservation(number, episode, step, last=step == STEPS))
            if step < STEPS:
                sequence += 1
                new = sequence >= FIRST
                actions.append(SeenAction(sequence, number, 4 if new else 3, NEW if new else OLD, False))
    return observations, actions


def test_a_swap_between_two_ticks_is_clean() -> None:
    found = examine(*clean_run(), SWAP)
    assert found.clean, found.problems
    assert (found.observations, found.actions, found.changes) == (20, 20, 1)
    assert (found.episode_id, found.step, found.steps) == ("two", 5, STEPS)
    assert found.within_episode


def test_a_fallback_of_the_right_generation_is_no_mixture() -> None:
    observations, actions = clean_run()
    actions[3] = actions[3]._replace(policy_id="", fallback=True)
    found = examine(observations, actions, SWAP)
    assert found.clean and found.fallbacks == 1


def test_an_observation_without_a_command_is_seen() -> None:
    observations, actions = clean_run()
    del actions[4]
    actions[4:] = [a._replace(sequence=a.sequence - 1) for a in actions[4:]]
    found = examine(observations, actions, SWAP._replace(first_sequence=FIRST - 1))
    assert found.unanswered == 1 and found.gaps == 0 and "505" in found.problems[0]


def test_a_command_number_that_is_missing_is_seen() -> None:
    observations, actions = clean_run()
    del actions[4]
    found = examine(observations, actions, SWAP)
    assert found.gaps == 1 and "105" in " ".join(found.problems)


def test_an_observation_answered_twice_is_seen() -> None:
    observations, actions = clean_run()
    extra = actions[4]._replace(sequence=106)
    later = [a._replace(sequence=a.sequence + 1) for a in actions[5:]]
    found = examine(observations, [*actions[:5], extra, *later], SWAP._replace(first_sequence=FIRST + 1))
    assert found.doubled == 1 and found.gaps == 0 and found.mixed == 0


def test_a_command_that_arrives_twice_is_seen() -> None:
    observations, actions = clean_run()
    found = examine(observations, [*actions[:5], actions[4], *actions[5:]], SWAP)
    assert found.doubled == 1 and not found.clean


def test_a_command_for_the_final_observation_is_seen() -> None:
    observations, actions = clean_run()
    final = observations[-1].sequence
    actions.append(actions[-1]._replace(sequence=actions[-1].sequence + 1, observation_sequence=final))
    assert examine(observations, actions, SWAP).strays == 1


def test_an_observation_that_went_missing_is_seen() -> None:
    observations, actions = clean_run()
    del observations[3]
    found = examine(observations, actions, SWAP)
    assert found.gaps == 1 and found.strays == 1


@pytest.mark.parametrize("which", ["observations", "actions"])
def test_messages_out_of_order_are_seen(which: str) -> None:
    observations, actions = clean_run()
    swapped: list = observations if which == "observations" else actions
    swapped[2], swapped[3] = swapped[3], swapped[2]
    found = examine(observations, actions, SWAP)
    assert found.disordered and not found.clean


def test_a_command_of_the_old_policy_after_the_switch_is_seen() -> None:
    observations, actions = clean_run()
    actions[-2] = actions[-2]._replace(policy_id=OLD)
    found = examine(observations, actions, SWAP)
    assert found.mixed == 1 and found.changes == 1


def test_a_command_of_the_new_policy_before_the_switch_is_seen() -> None:
    observations, actions = clean_run()
    actions[2] = actions[2]._replace(policy_id=NEW)
    assert examine(observations, actions, SWAP).mixed == 1


def test_a_generation_that_goes_back_is_seen() -> None:
    observations, actions = clean_run()
    actions[-2] = actions[-2]._replace(generation=3, policy_id=OLD)
    found = examine(observations, actions, SWAP)
    assert found.mixed == 1 and found.changes == 3 and not found.clean


def test_a_switch_at_another_command_than_announced_is_seen() -> None:
    found = examine(*clean_run(), SWAP._replace(first_sequence=FIRST + 1))
    assert found.mixed == 1 and "announced" in " ".join(found.problems)


def test_a_switch_that_never_happened_is_seen() -> None:
    observations, actions = clean_run()
    actions = [a._replace(generation=3, policy_id=OLD) for a in actions]
    found = examine(observations, actions, SWAP)
    assert found.changes == 0 and found.mixed == 5 and not found.clean


def test_a_first_command_that_was_not_seen_is_no_evidence() -> None:
    observations, actions = clean_run()
    found = examine(observations[:11], actions[:10], SWAP)
    assert not found.clean and found.step == -1 and not found.within_episode


def test_a_switch_at_the_first_step_of_an_episode_is_not_within_it() -> None:
    observations, actions = clean_run()
    actions = [
        a._replace(generation=4, policy_id=NEW) if a.sequence >= 111 else a._replace(generation=3, policy_id=OLD)
        for a in actions
    ]
    found = examine(observations, actions, SWAP._replace(first_sequence=111))
    assert found.clean and not found.within_episode


def test_nothing_seen_is_no_evidence() -> None:
    assert not examine([], [], SWAP).clean
