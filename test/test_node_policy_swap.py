# ruff: noqa: F811  (a fixture that is imported is redefined by each parameter of its name)
"""A swap from shadow run to the end of its probation, with policies that fail in service; and the store's services."""

from __future__ import annotations

import json
import math
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from diagnostic_msgs.msg import DiagnosticArray
from faulty_policies import TRAP_LOW, add_faulty
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from ros_helpers import READY, Ros, ros  # noqa: F401
from safeguard_samples import safeguard_file
from saferule_ros.msg import PolicyStatus
from saferule_ros.srv import (
    ExportPolicy,
    ImportPolicy,
    ListPolicies,
    PrunePolicies,
    RollbackPolicy,
    ShowPolicy,
    SwapPolicy,
    VerifyPolicy,
)
from serving_samples import SPEC, make_store
from test_node_policy_server import SWAP, Robot, Vector, roll_back, start, swap, vectors

from saferule_ros.nodes import qos
from saferule_ros.nodes.policy_parameters import Parameters
from saferule_ros.nodes.served import Served
from saferule_ros.nodes.serving import ControlPath
from saferule_ros.nodes.wire import Asked
from saferule_ros.policy import flight
from saferule_ros.policy.probation import Probation, ProbationLimits
from saferule_ros.policy.runtime import PolicyRuntime
from saferule_ros.policy.store import PolicyStore

pytestmark = pytest.mark.ros


def trapped() -> Vector:
    """An observation at which the faulty policies fail."""
    vector = vectors(1)[0]
    vector[0] = TRAP_LOW + 50.0
    return vector


def settled(ros: Ros, robot: Robot) -> PolicyStatus:
    """The status once nothing is under way any more."""
    ros.probe.wait_for(lambda: robot.status[-1].swap_state == "steady", "the swap is over")
    return robot.status[-1]


@pytest.mark.parametrize("kind", ["non_finite_action", "out_of_bounds", "inference_error"])
def test_a_faulty_policy_is_taken_back_with_the_next_tick(ros: Ros, tmp_path: Path, kind: str) -> None:
    store, (old,) = make_store(tmp_path, 1)
    new = add_faulty(store, kind, tmp_path)
    start(ros, store, probation_ticks=1000)
    robot = Robot(ros)
    reply = swap(ros, new)
    assert reply.success, reply.message
    assert robot.ask(vectors(1)[0]).policy_id == new and store.places().trial
    fault = robot.ask(trapped())
    assert (fault.fallback, fault.fallback_reason, list(fault.data)) == (True, kind, [0.0, 0.0])
    after = robot.ask(trapped())  # within two ticks: here with the next one
    assert (after.policy_id, after.fallback, after.sequence) == (old, False, fault.sequence + 1)
    assert after.policy_generation == reply.policy_generation + 1
    status = settled(ros, robot)
    assert status.trial_fault.startswith(f"{new}: {kind}") and status.active_id == old
    places = PolicyStore(store.root).places()
    assert (places.active, places.previous, places.trial) == (old, None, False)
    event = store.audit()[-1]
    assert (event.event, event.before, event.after) == ("revert", new, old) and kind in event.reason
    (log,) = (tmp_path / "flights").iterdir()
    replayed = flight.replay(log)
    assert replayed.differing == () and replayed.reasons[kind] == 1


@pytest.mark.long
def test_a_slow_or_costly_policy_is_taken_back_too(ros: Ros, tmp_path: Path) -> None:
    store, (old,) = make_store(tmp_path, 1)
    slow, costly = add_faulty(store, "late", tmp_path), add_faulty(store, "sound", tmp_path)
    start(ros, store, probation_ticks=1000, probation_late=2, probation_cost=2.5, deadline=0.0005)
    robot = Robot(ros)
    assert swap(ros, slow).success
    first, second, third = (robot.ask(vectors(1)[0]) for _ in range(3))
    assert [first.fallback_reason, second.fallback_reason] == ["late", "late"]
    assert third.policy_id in (old, "") and third.policy_generation == second.policy_generation + 1
    assert settled(ros, robot).trial_fault.startswith(f"{slow}: late: 2 late actions")
    ros.runner.stop()

    start(ros, store, probation_ticks=1000, probation_cost=2.5)
    robot = Robot(ros)
    assert swap(ros, costly).success
    for cost in (7.0, 0.0, 1.0, 1.0):  # the first is of the policy before
        assert robot.ask(vectors(1)[0], cost=cost).policy_id == costly
    assert robot.ask(vectors(1)[0], cost=1.0).policy_id == costly
    assert robot.ask(vectors(1)[0], cost=0.0).policy_id == old
    assert settled(ros, robot).trial_fault == f"{costly}: cost: 3 since the swap, limit 2.5"


@pytest.fixture
def safeguard(tmp_path: Path) -> str:
    """What the policy "unsafe" breaks in the trap."""
    path = tmp_path / "safeguard.yaml"
    path.write_text(yaml.safe_dump(safeguard_file(
        (28, 2), {"near": "place > 100", "pushing": "0.85 < push < 0.95"}, ("pushed",),
        ("clear", "near and pushing", "pushed"), ("clear", "near", "near"), ("near", "not near", "clear"),
        ("near", "pushing", "pushed"), ("pushed", "not pushing", "clear"),
        inputs={"place": "observation[0]", "push": "action[0]"},
    )))  # fmt: skip
    return str(path)


def test_a_policys_own_cost_limit_holds_in_its_probation_unless_another_is_given() -> None:
    assert Parameters().probation(5, SPEC).cost == SPEC.cost_limit == 25.0
    assert Parameters(probation_cost=2.5).probation(5, SPEC).cost == 2.5
    assert Parameters(probation_cost=-1.0).probation(5, SPEC).cost == math.inf


def test_an_answer_of_the_policy_before_does_not_count_in_a_probation(tmp_path: Path) -> None:
    store, ids = make_store(tmp_path, 1, 2)
    limits = Parameters(deadline=10.0).limits
    old, new = (Served(runtime, limits.of(runtime)) for runtime in (PolicyRuntime(*store.get(name)) for name in ids))
    path, probation = ControlPath(), Probation(ProbationLimits(ticks=5))
    path.switch(old)
    asked = [Asked(number, number, number * 10**6, vectors(1)[0], 0.0, False) for number in range(1, 4)]
    assert path.answer(asked[0], asked[0].stamp_ns).policy_id == old.id
    path.switch(new, probation)  # between an answer and what follows it
    path.follow_up()
    assert probation.left == 5
    assert path.answer(asked[1], asked[1].stamp_ns).policy_id == new.id
    path.follow_up()
    path.follow_up()
    assert probation.left == 4, "once for each answer"


@pytest.mark.long
def test_a_policy_that_breaks_the_safeguard_is_taken_back_within_two_ticks(
    ros: Ros, tmp_path: Path, safeguard: str
) -> None:
    store, (old,) = make_store(tmp_path, 1)
    new = add_faulty(store, "unsafe", tmp_path)
    start(ros, store, probation_ticks=1000, safeguard=safeguard)
    robot = Robot(ros)
    diagnostics = ros.probe.record(DiagnosticArray, "/diagnostics")
    assert swap(ros, new).success
    assert robot.ask(vectors(1)[0]).policy_id == new
    wrong = robot.ask(trapped())
    assert (wrong.policy_id, wrong.fallback) == (new, False) and wrong.data[0] == pytest.approx(0.9)
    seen = robot.ask(trapped())  # this observation tells what the action led to
    after = robot.ask(trapped())
    assert (seen.policy_id, after.policy_id, after.sequence) == (new, old, wrong.sequence + 2)
    status = settled(ros, robot)
    fault = "safeguard: 1 unsafe ticks, 0 tolerated, the last: state pushed"
    assert (status.trial_fault, status.active_id) == (f"{new}: {fault}", old)
    assert (status.unsafe_ticks, status.safeguard_state) in ((1, "pushed"), (2, "pushed"))
    event = store.audit()[-1]
    assert (event.event, event.before, event.after, event.reason) == ("revert", new, old, fault)

    def told() -> bool:
        values = {v.key: v.value for array in diagnostics for s in array.status for v in s.values}
        return values.get("trial_fault") == f"{new}: {fault}" and int(values["unsafe ticks"]) >= 1

    ros.probe.wait_for(told, "the diagnostics tell")


@pytest.mark.long
def test_the_end_of_an_episode_is_watched_too_and_as_much_is_tolerated_as_was_said(
    ros: Ros, tmp_path: Path, safeguard: str
) -> None:
    store, (old,) = make_store(tmp_path, 1)
    new = add_faulty(store, "unsafe", tmp_path)
    start(ros, store, probation_ticks=1000, safeguard=safeguard, safeguard_tolerance=2)
    robot = Robot(ros)
    assert swap(ros, new).success
    good, nothing = vectors(1)[0], np.full(28, np.nan, np.float32)
    assert robot.ask(good).policy_id == new
    assert robot.ask(nothing).fallback_reason == "non_finite_observation"  # unsafe, and not the policy's fault
    assert [robot.ask(trapped()).policy_id for _ in range(3)] == [new] * 3
    assert robot.status[-1].trial_fault == ""
    robot.observe(nothing, truncated=True)
    assert robot.ask(trapped()).policy_id == new  # the next episode, whose first observation nothing led to
    robot.observe(trapped(), terminated=True)
    assert robot.ask(good).policy_id == old
    told = f"{new}: safeguard: 3 unsafe ticks, 2 tolerated, the last: state pushed"
    assert settled(ros, robot).trial_fault == told


@pytest.mark.long
def test_a_shadow_run_counts_what_would_have_broken_the_safeguard(ros: Ros, tmp_path: Path, safeguard: str) -> None:
    store, (old,) = make_store(tmp_path, 1)
    new = add_faulty(store, "unsafe", tmp_path)
    start(ros, store, safeguard=safeguard)
    robot = Robot(ros)
    robot.ask(vectors(1)[0])
    refused = swap_with_shadow(ros, robot, new, trapped())
    assert not refused.success and "violations: 49 safeguard; the first: safeguard: state pushed" in refused.message
    status = settled(ros, robot)
    assert (status.active_id, status.shadow_unsafe, status.shadow_violations) == (old, 49, 49)
    assert status.unsafe_ticks == 0, "the active one broke nothing"


@pytest.mark.parametrize(
    ("change", "said"), [({"observation_size": 29}, "29 numbers"), ({"initial": "cleer"}, "cleer")]
)
def test_a_safeguard_that_cannot_be_watched_keeps_the_server_from_serving(
    ros: Ros, tmp_path: Path, safeguard: str, change: dict[str, Any], said: str
) -> None:
    store, _ = make_store(tmp_path, 1)
    Path(safeguard).write_text(yaml.safe_dump(yaml.safe_load(Path(safeguard).read_text()) | change))
    status = ros.probe.record(PolicyStatus, "policy_server/status", qos.LATCHED)
    ros.runner.start("policy_server", parameters={"store": str(store.root), "safeguard": safeguard})
    node = ros.runner.processes["policy_server"]
    if "initial" in change:
        assert node.wait(READY) == 2 and said in node.log.read_text()
        return
    ros.probe.wait_for(lambda: status and said in status[-1].last_event, "the status tells")
    assert status[-1].state == "unconfigured"


def test_a_sound_policy_proves_good_and_a_restart_serves_it(ros: Ros, tmp_path: Path) -> None:
    store, (old, new) = make_store(tmp_path, 1, 2)
    start(ros, store, probation_ticks=10)
    robot = Robot(ros)
    assert swap(ros, new).success
    assert robot.status[-1].swap_state == "probation" and not swap(ros, old).success
    bad = robot.ask(vectors(1)[0][:3])
    assert bad.fallback_reason == "wrong_size"  # which is not the policy's fault
    for _ in range(10):
        assert robot.ask(vectors(1)[0]).policy_id == new
    status = settled(ros, robot)
    assert (status.active_id, status.trial_fault, status.probation_left) == (new, "", 0)
    ros.probe.wait_for(lambda: store.audit()[-1].event == "prove_good", "the store knows")
    assert not store.places().trial and store.places().version_floor == 2


@pytest.mark.long
def test_a_process_that_dies_with_its_new_policy_comes_back_with_the_old_one(ros: Ros, tmp_path: Path) -> None:
    store, (old, new) = make_store(tmp_path, 1, 2)
    start(ros, store, probation_ticks=1000)
    robot = Robot(ros)
    assert swap(ros, new).success and robot.ask(vectors(1)[0]).policy_id == new
    ros.runner.processes["policy_server"].signal(signal.SIGKILL)
    ros.runner.stop()
    ros.renew_probe()
    start(ros, store, probation_ticks=1000)
    robot = Robot(ros)
    assert robot.ask(vectors(1)[0]).policy_id == old
    ros.probe.wait_for(lambda: robot.status, "a status came")
    assert "ended during its probation" in robot.status[-1].trial_fault
    assert store.audit()[-1].event == "revert" and store.places().active == old


@pytest.mark.long
def test_what_a_shell_made_active_is_on_trial_all_the_same_when_it_is_swapped_in(ros: Ros, tmp_path: Path) -> None:
    store, (old, new) = make_store(tmp_path, 1, 2)
    start(ros, store, probation_ticks=1000)
    robot = Robot(ros)
    store.activate(new)  # `saferule policy activate`: serves after the next start
    assert robot.ask(vectors(1)[0]).policy_id == old
    assert swap(ros, new).success and robot.ask(vectors(1)[0]).policy_id == new
    assert store.places().trial
    ros.runner.processes["policy_server"].signal(signal.SIGKILL)
    ros.runner.stop()
    ros.renew_probe()
    start(ros, store, probation_ticks=1000)
    assert Robot(ros).ask(vectors(1)[0]).policy_id == old and store.places().active == old


@pytest.mark.long
def test_a_rollback_that_a_shell_began_is_completed(ros: Ros, tmp_path: Path) -> None:
    store, (old, new) = make_store(tmp_path, 1, 2)
    start(ros, store)
    robot = Robot(ros)
    assert swap(ros, new).success
    assert store.rollback() == old  # `saferule policy rollback`: the new one goes on acting
    assert robot.ask(vectors(1)[0]).policy_id == new
    reply = roll_back(ros, "it limps")
    assert reply.success and reply.policy_id == old and reply.message == f"rolled back {new} -> {old}: it limps"
    assert robot.ask(vectors(1)[0]).policy_id == old
    assert (store.places().active, store.places().previous) == (old, new)


@pytest.mark.long
def test_what_the_store_could_not_be_told_at_the_end_of_a_probation_it_is_told_later(ros: Ros, tmp_path: Path) -> None:
    store, (_, new) = make_store(tmp_path, 1, 2)
    start(ros, store, probation_ticks=3)
    robot = Robot(ros)
    health = ros.probe.record(DiagnosticArray, "/diagnostics", qos.REPORTS)
    assert swap(ros, new).success
    lock = store.root / "lock"
    lock.rename(store.root / "aside")
    lock.mkdir()  # no change of the store is possible
    for _ in range(3):
        assert robot.ask(vectors(1)[0]).policy_id == new
    said = f"{new} got through its probation, which the store could not be told"
    ros.probe.wait_for(lambda: any(said in h.status[0].message for h in health), "it is said")
    assert store.places().trial
    lock.rmdir()
    ros.probe.wait_for(lambda: not store.places().trial, "the store knows")
    assert store.places().active == new and store.audit()[-1].event == "prove_good"


def test_a_rollback_during_the_probation_takes_the_new_policy_back(ros: Ros, tmp_path: Path) -> None:
    store, (old, new) = make_store(tmp_path, 1, 2)
    start(ros, store, probation_ticks=1000)
    robot = Robot(ros)
    assert swap(ros, new).success and robot.ask(vectors(1)[0]).policy_id == new
    reply = roll_back(ros, "drives into walls")
    assert reply.success and reply.policy_id == old and "drives into walls" in reply.message
    assert robot.ask(vectors(1)[0]).policy_id == old
    assert "drives into walls" in settled(ros, robot).trial_fault
    assert store.places().previous is None and not store.places().trial
    assert swap(ros, new).success  # it may be tried again
    ros.probe.wait_for(lambda: robot.status[-1].swap_state == "probation", "it is on trial again")
    assert robot.status[-1].trial_fault == "", "the fault of another trial"

    def change(transition: int) -> None:
        request = ChangeState.Request(transition=Transition(id=transition))
        assert ros.probe.call(ChangeState, "policy_server/change_state", request).success

    change(Transition.TRANSITION_DEACTIVATE)
    change(Transition.TRANSITION_CLEANUP)
    ros.probe.wait_for(lambda: robot.status[-1].state == "unconfigured", "the server has let go")
    assert robot.status[-1].swap_state == "steady" and store.places().trial, "it did not prove good"
    change(Transition.TRANSITION_CONFIGURE)
    change(Transition.TRANSITION_ACTIVATE)
    ros.probe.wait_for(lambda: robot.status[-1].state == "serving", "the server serves again")
    assert robot.status[-1].active_id == old and robot.status[-1].trial_fault == f"{new}: {store.audit()[-1].reason}"
    assert (store.audit()[-1].event, store.places().trial) == ("revert", False)


def swap_with_shadow(
    ros: Ros, robot: Robot, policy_id: str, given: Vector, meanwhile: Callable[[], object] = lambda: None
) -> SwapPolicy.Response:
    """A swap while the robot asks for actions, and somebody does something else."""
    request = SwapPolicy.Request(
        policy_id=policy_id, shadow_ticks=50, probation_ticks=0, reason="tried", requester="ada"
    )
    response = ros.probe.call_later(SwapPolicy, "policy_server/swap", request, SWAP)
    ros.probe.wait_for(lambda: robot.status and robot.status[-1].swap_state == "shadowing", "the shadow run is on")
    before = robot.status[-1].active_id
    meanwhile()
    for _ in range(50):
        assert robot.ask(given).policy_id == before  # only the active one acts
    reply: SwapPolicy.Response = response()
    return reply


def test_a_shadow_run_lets_only_the_active_policy_act_and_counts(ros: Ros, tmp_path: Path) -> None:
    store, (old, new) = make_store(tmp_path, 1, 2)
    faulty = add_faulty(store, "out_of_bounds", tmp_path)
    start(ros, store)
    robot = Robot(ros)
    robot.ask(vectors(1)[0])
    refused = swap_with_shadow(ros, robot, faulty, trapped())
    assert not refused.success and "violations: 50 out_of_bounds" in refused.message, refused.message
    assert refused.policy_id == old and settled(ros, robot).active_id == old
    event = store.audit()[-1]
    assert (event.event, event.after, event.requester) == ("refuse_swap", faulty, "ada")
    pruned: list[str] = []
    accepted = swap_with_shadow(ros, robot, new, vectors(1)[0], lambda: pruned.extend(store.prune(0)))
    assert pruned == [faulty], "what is being tried stays, although it has no place yet"
    assert accepted.success and "shadow: 50 ticks" in accepted.message, accepted.message
    assert robot.ask(vectors(1)[0]).policy_id == new
    status = settled(ros, robot)
    assert status.shadow_ticks == 50 and status.shadow_violations == 0
    assert 0.0 < status.shadow_divergence_mean <= status.shadow_divergence_max
    assert 0.0 < status.shadow_latency_p50 <= status.shadow_latency_p99
    assert store.audit()[-1].requester == "ada" and store.audit()[-1].reason.startswith("tried: ")


def test_the_store_is_served(ros: Ros, tmp_path: Path) -> None:
    store, (old, new) = make_store(tmp_path, 1, 2)
    other, foreign = make_store(tmp_path / "other", 3)
    start(ros, store)
    call = ros.probe.call

    def ask(kind: Any, name: str, **request: Any) -> Any:
        return call(kind, f"policy_server/{name}", kind.Request(**request), SWAP)

    shown = ask(ShowPolicy, "show")
    assert (shown.success, shown.policy_id, shown.place) == (True, old, "active") and "signed by own" in shown.signer
    assert json.loads(shown.manifest)["spec"]["task"] == SPEC.task
    assert "has no candidate" in ask(VerifyPolicy, "verify").message
    verified = ask(VerifyPolicy, "verify", policy_id=new)
    assert verified.success and verified.passed and verified.invariants[2] == "signature"
    assert len(verified.invariants) == len(verified.found) == len(verified.allowed)
    exported = ask(ExportPolicy, "export", policy_id=new, path=str(tmp_path))
    assert exported.success and Path(exported.path) == tmp_path / f"{new}.saferule"
    assert ask(PrunePolicies, "prune", keep=0, requester="ada").policy_ids == [new]
    imported = ask(ImportPolicy, "import", path=exported.path, candidate=True)
    assert imported.success and imported.policy_id == new and store.place("candidate") == new
    strange = tmp_path / "strange.saferule"
    other.export_archive(foreign[0], strange)
    refused = ask(ImportPolicy, "import", path=str(strange))
    assert not refused.success and "is not trusted here" in refused.message
    assert list(ask(ListPolicies, "list").policy_ids) == [old, new]
    assert ask(SwapPolicy, "swap").success and ask(RollbackPolicy, "rollback").success
    status = ros.probe.record(PolicyStatus, "policy_server/status", qos.LATCHED)
    ros.probe.wait_for(lambda: status and status[-1].active_id == old, "the old one acts")


@pytest.mark.long
def test_a_stop_reaction_lasts_until_the_server_is_activated_again(ros: Ros, tmp_path: Path) -> None:
    store, ids = make_store(tmp_path, 1, 2)
    start(ros, store, reaction="hold", reactions="wrong_size=stop, stale_observation=damp")
    robot = Robot(ros)
    good = vectors(1)[0]
    last = list(robot.ask(good).data)
    assert list(robot.ask(np.where(np.arange(28) == 1, np.nan, good).astype(np.float32)).data) == last
    stopped = robot.ask(good[:3])
    assert (stopped.fallback_reason, list(stopped.data)) == ("wrong_size", [0.0, 0.0])
    again = robot.ask(good)
    assert (again.fallback_reason, list(again.data)) == ("stopped", [0.0, 0.0])
    answer = swap(ros, ids[1])
    assert not answer.success and "no policy acts before the server is activated again" in answer.message
    assert answer.policy_id == ids[1] and robot.ask(good).fallback_reason == "stopped"


def test_a_misspelt_reaction_is_refused_at_the_start(ros: Ros, tmp_path: Path) -> None:
    store, _ = make_store(tmp_path, 1)
    ros.runner.start("policy_server", parameters={"store": str(store.root), "reactions": "late=limp"})
    node = ros.runner.processes["policy_server"]
    assert node.wait(READY) == 2 and "'late=limp'" in node.log.read_text()
