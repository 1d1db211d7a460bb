# ruff: noqa: F811  (a fixture that is imported is redefined by each parameter of its name)
"""Rollbacks: what they never lead to, what they do in the middle of a swap, and a store that cannot be written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from diagnostic_msgs.msg import DiagnosticArray
from faulty_policies import add_faulty
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from ros_helpers import Ros, ros  # noqa: F401
from saferule_ros.srv import RollbackPolicy, SwapPolicy
from serving_samples import make_store
from test_node_policy_server import SWAP, Robot, roll_back, start, swap, vectors
from test_node_policy_swap import settled, trapped

from saferule_ros.nodes import qos
from saferule_ros.nodes.policy_parameters import Parameters
from saferule_ros.nodes.policy_swap import Remembered, Swapper
from saferule_ros.policy.errors import NoPolicyError, PolicyError, StoreError
from saferule_ros.policy.places import locked
from saferule_ros.policy.runtime import PolicyRuntime
from saferule_ros.policy.store import PolicyStore
from saferule_ros.policy.swap_life import SwapLife

pytestmark = pytest.mark.ros

GOOD = vectors(1)[0]


@contextmanager
def unwritable(store: PolicyStore) -> Iterator[None]:
    """While this is entered no change of the store is possible."""
    lock = store.root / "lock"
    lock.rename(store.root / "aside")
    lock.mkdir()
    try:
        yield
    finally:
        lock.rmdir()


def swapper(store: PolicyStore) -> Swapper:
    settings = Parameters()
    return Swapper(store, settings.swap, settings.limits, SwapLife())


# What a rollback leads to.


def activate_new(store: PolicyStore, new: str, _old: str, _newest: str) -> None:
    store.activate(new)


def activate_two(store: PolicyStore, new: str, _old: str, newest: str) -> None:
    store.activate(new)
    store.activate(newest)


def activate_and_back(store: PolicyStore, new: str, old: str, _newest: str) -> None:
    store.activate(new)
    store.activate(old)


@pytest.mark.parametrize("from_a_shell", [activate_new, activate_two, activate_and_back])
def test_a_rollback_never_leads_to_what_a_shell_made_active_and_has_not_acted(
    tmp_path: Path, from_a_shell: Callable[[PolicyStore, str, str, str], None]
) -> None:
    store, (older, old, new, newest) = make_store(tmp_path, 1, 2, 3, 4)
    store.activate(old)
    from_a_shell(store, new, old, newest)
    before, events = store.places(), len(store.audit())
    remembered = Remembered(None, frozenset({older, old}))
    with pytest.raises(PolicyError, match=r"has not acted here.*Swap to"):
        swapper(store).roll_back("it limps", "ada", PolicyRuntime(*store.get(old)), remembered)
    assert store.places() == before and len(store.audit()) == events


def test_a_rollback_that_a_shell_made_is_completed_though_the_policy_is_not_kept(tmp_path: Path) -> None:
    store, (old, new) = make_store(tmp_path, 1, 2)
    store.activate(new)
    store.rollback()
    remembered = Remembered(None, frozenset({old, new}))
    exchange = swapper(store).roll_back("it limps", "ada", PolicyRuntime(*store.get(new)), remembered)
    assert exchange.runtime is not None and exchange.runtime.bundle_id == old == exchange.places.active


def test_a_rollback_where_the_store_does_not_know_of_a_failed_trial_tells_it_and_the_next_goes_back(
    tmp_path: Path,
) -> None:
    store, (older, old, new) = make_store(tmp_path, 1, 2, 3)
    store.activate(old)
    store.activate(new, trial=True, acting=old)
    acting, remembered = PolicyRuntime(*store.get(old)), Remembered(None, frozenset({older, old}), failed=new)
    with unwritable(store), pytest.raises(StoreError, match="lock"):
        swapper(store).roll_back("it limps", "ada", acting, remembered)
    assert store.places().trial and store.places().active == new
    exchange = swapper(store).roll_back("it limps", "ada", acting, remembered)
    assert exchange.runtime is None and f"{old} acts already: {new} failed" in exchange.message
    assert (exchange.places.active, exchange.places.previous, exchange.places.trial) == (old, older, False)
    event = store.audit()[-1]
    assert (event.event, event.before, event.after, event.requester) == ("revert", new, old, "ada")
    following = swapper(store).roll_back("it limps", "ada", acting, remembered)
    assert following.runtime is not None and following.runtime.bundle_id == older


def test_without_a_previous_policy_there_is_nothing_to_roll_back_to(tmp_path: Path) -> None:
    store, (old,) = make_store(tmp_path, 1)
    with pytest.raises(NoPolicyError, match="no previous policy"):
        swapper(store).roll_back("", "ada", PolicyRuntime(*store.get(old)), Remembered(None, frozenset({old})))


@pytest.mark.long
def test_what_failed_its_probation_comes_back_by_no_rollback_and_the_store_is_told_later(
    ros: Ros, tmp_path: Path
) -> None:
    store, (old,) = make_store(tmp_path, 1)
    new = add_faulty(store, "out_of_bounds", tmp_path)
    start(ros, store, probation_ticks=1000)
    robot = acting_robot(ros)
    health = ros.probe.record(DiagnosticArray, "/diagnostics", qos.REPORTS)
    assert swap(ros, new).success
    with unwritable(store):
        assert robot.ask(trapped()).fallback_reason == "out_of_bounds"
        assert robot.ask(GOOD).policy_id == old
        settled(ros, robot)
        said = f"{new} was taken back, which the store could not be told"
        ros.probe.wait_for(lambda: any(said in h.status[0].message for h in health), "it is said")
        assert store.places().active == new and store.places().trial
        reply = roll_back(ros, "it limps")
        assert not reply.success and reply.policy_id == old, reply.message
        assert robot.ask(GOOD).policy_id == old
    ros.probe.wait_for(lambda: not store.places().trial, "the store knows")
    assert (store.places().active, store.places().previous) == (old, None)
    assert store.audit()[-1].event == "revert" and "out_of_bounds" in store.audit()[-1].reason
    nothing = roll_back(ros, "it limps")
    assert not nothing.success and "no previous policy" in nothing.message
    action = robot.ask(GOOD)
    assert (action.policy_id, action.policy_generation) == (old, reply.policy_generation)
    store.activate(new)  # somebody from a shell, who does not know
    failed = roll_back(ros, "it limps")
    assert not failed.success and "or only with a fault" in failed.message and robot.ask(GOOD).policy_id == old
    assert swap(ros, new).success, "it may be tried again"


def test_what_a_shell_made_active_does_not_act_by_a_rollback(ros: Ros, tmp_path: Path) -> None:
    store, (old, new) = make_store(tmp_path, 1, 2)
    start(ros, store)
    robot = acting_robot(ros)
    store.activate(new)  # `saferule policy activate`: serves after the next start
    reply = roll_back(ros, "it limps")
    assert not reply.success and reply.policy_id == old and f"policy {new}" in reply.message
    assert robot.ask(GOOD).policy_id == old and store.places().active == new


def acting_robot(ros: Ros) -> Robot:
    """One that has been answered, and has heard a status."""
    robot = Robot(ros)
    robot.ask(GOOD)
    ros.probe.wait_for(lambda: robot.status, "a status came")
    return robot


# In the middle of a swap.


@pytest.mark.parametrize("state", ["verifying", "shadowing"])
def test_a_rollback_during_a_swap_cancels_it(ros: Ros, tmp_path: Path, state: str) -> None:
    store, (older, old, new) = make_store(tmp_path, 1, 2, 3)
    store.activate(old)
    start(ros, store)
    robot = acting_robot(ros)
    places = store.places()
    request = SwapPolicy.Request(policy_id=new, shadow_ticks=10_000_000)
    swapped = ros.probe.call_later(SwapPolicy, "policy_server/swap", request, SWAP)
    ros.probe.wait_for(lambda: robot.status[-1].swap_state == state, f"the swap is {state}")
    assert robot.ask(GOOD).policy_id == old
    reply = ros.probe.call(
        RollbackPolicy, "policy_server/rollback", RollbackPolicy.Request(reason="wrong one", requester="ada")
    )
    assert reply.success and "cancelled the swap" in reply.message and reply.policy_id == old, reply.message
    refused = swapped()
    assert not refused.success and f"ada cancelled the swap to {new}: wrong one" in refused.message, refused.message
    action = robot.ask(GOOD)
    assert (action.policy_id, action.policy_generation) == (old, 1)
    assert store.places().model_copy(update={"latest": None}) == places.model_copy(update={"latest": None})
    event = store.audit()[-1]
    assert (event.event, event.after, event.reason, event.requester) == ("cancel_swap", new, "wrong one", "ada")
    back = roll_back(ros)  # nothing is under way any more: now it means the one before
    assert back.success and back.policy_id == older, back.message


@contextmanager
def activating(ros: Ros, robot: Robot, store: PolicyStore, policy_id: str, probation_ticks: int) -> Iterator[
    Callable[[], SwapPolicy.Response]
]:  # fmt: skip
    """A swap that waits for the store for as long as this is entered; gives what waits for its reply."""
    request = SwapPolicy.Request(policy_id=policy_id, probation_ticks=probation_ticks)
    swapped = ros.probe.call_later(SwapPolicy, "policy_server/swap", request, SWAP)
    held = store.root / "held"
    ros.probe.wait_for(lambda: held.is_dir() and any(held.iterdir()), "the swap has reserved its policy")
    with locked(store.root / "lock", SWAP):
        ros.probe.wait_for(lambda: robot.status[-1].swap_state == "activating", "it waits for the store")
        yield swapped


@pytest.mark.long
def test_a_swap_that_the_store_is_being_told_of_cannot_be_cancelled(ros: Ros, tmp_path: Path) -> None:
    store, (old, new) = make_store(tmp_path, 1, 2)
    start(ros, store)
    robot = acting_robot(ros)
    with activating(ros, robot, store, new, 0) as swapped:
        reply = roll_back(ros)
        assert not reply.success and "under way (activating)" in reply.message and reply.policy_id == old
    assert swapped().success
    assert roll_back(ros).success and robot.ask(GOOD).policy_id == old


@pytest.mark.parametrize("probation_ticks", [0, 1000])
@pytest.mark.long
def test_a_swap_whose_server_was_cleaned_up_meanwhile_says_that_nothing_acts(
    ros: Ros, tmp_path: Path, probation_ticks: int
) -> None:
    store, (old, new) = make_store(tmp_path, 1, 2)
    start(ros, store)
    robot = acting_robot(ros)
    with activating(ros, robot, store, new, probation_ticks) as swapped:
        change(ros, Transition.TRANSITION_DEACTIVATE)
        change(ros, Transition.TRANSITION_CLEANUP)
    reply = swapped()
    assert not reply.success and "was cleaned up meanwhile" in reply.message, reply.message
    assert reply.policy_id == "" and f"{new} does not act" in reply.message
    active = old if probation_ticks else new
    ros.probe.wait_for(lambda: not store.places().trial, "what never acted is on no trial")
    assert store.places().active == active
    change(ros, Transition.TRANSITION_CONFIGURE)
    change(ros, Transition.TRANSITION_ACTIVATE)
    ros.probe.wait_for(lambda: robot.status[-1].state == "serving", "the server serves again")
    assert robot.status[-1].active_id == active and robot.status[-1].swap_state == "steady"


@pytest.mark.long
def test_a_swap_whose_server_was_deactivated_meanwhile_says_when_it_acts(ros: Ros, tmp_path: Path) -> None:
    store, (_, new) = make_store(tmp_path, 1, 2)
    start(ros, store)
    robot = acting_robot(ros)
    with activating(ros, robot, store, new, 1000) as swapped:
        change(ros, Transition.TRANSITION_DEACTIVATE)
    reply = swapped()
    assert not reply.success and "acts when it is active again" in reply.message and reply.policy_id == new
    change(ros, Transition.TRANSITION_ACTIVATE)
    ros.probe.wait_for(lambda: robot.status[-1].state == "serving", "the server serves again")
    assert (robot.status[-1].active_id, robot.status[-1].swap_state) == (new, "probation")


@pytest.mark.parametrize("name", ["shadow_ticks", "probation_ticks"])
@pytest.mark.long
def test_a_swap_that_asks_for_more_ticks_than_the_parameter_may_is_refused(ros: Ros, tmp_path: Path, name: str) -> None:
    store, (old, new) = make_store(tmp_path, 1, 2)
    start(ros, store)
    robot = acting_robot(ros)
    for asked in (2**31 - 1, 10_000_001, -2):
        request = SwapPolicy.Request(policy_id=new, **{name: asked})
        reply = ros.probe.call(SwapPolicy, "policy_server/swap", request, SWAP)
        says = f"{name} is {asked}. Give 0 to 10000000, or -1 for the parameter of that name: 0"
        assert not reply.success and says in reply.message and reply.policy_id == old, reply.message
    assert robot.status[-1].swap_state == "steady" and store.places().active == old


def change(ros: Ros, transition: int) -> None:
    request = ChangeState.Request(transition=Transition(id=transition))
    assert ros.probe.call(ChangeState, "policy_server/change_state", request).success
