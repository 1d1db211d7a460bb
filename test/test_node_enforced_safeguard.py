# ruff: noqa: F811  (a fixture that is imported is redefined by each parameter of its name)
"""A safeguard that is enforced: in an unsafe state the declared reaction goes out, and no policy acts."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import yaml
from faulty_policies import add_faulty
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from ros_helpers import Ros, ros  # noqa: F401
from safeguard_samples import safeguard_file
from serving_samples import SPEC, make_store
from test_node_policy_server import Robot, Vector, start, vectors
from test_node_policy_swap import safeguard, trapped  # noqa: F401

from saferule_ros.errors import SettingsError
from saferule_ros.nodes.policy_parameters import Parameters
from saferule_ros.nodes.served import Served
from saferule_ros.nodes.serving import ControlPath
from saferule_ros.nodes.wire import Asked
from saferule_ros.policy.probation import Probation, ProbationLimits
from saferule_ros.policy.runtime import PolicyRuntime
from saferule_ros.policy.shadow import ShadowLimits, ShadowRefusedError, Tap, run_shadow

pytestmark = pytest.mark.ros


def free() -> Vector:
    """An observation at which nothing is amiss."""
    return vectors(1)[0]


@pytest.fixture
def wall(tmp_path: Path) -> str:
    """Unsafe as long as the robot is in the trap, whatever it does."""
    path = tmp_path / "wall.yaml"
    path.write_text(yaml.safe_dump(safeguard_file(
        (28, 2), {"near": "place > 100"}, ("collision",), ("clear", "near", "collision"),
        ("collision", "not near", "clear"), inputs={"place": "observation[0]"},
    )))  # fmt: skip
    return str(path)


class Service:
    """A control path without a process around it, with a good policy and one that pushes in the trap."""

    def __init__(self, folder: Path, safeguard: str, enforced: bool = True, **parameters: str | float) -> None:
        folder.mkdir(exist_ok=True)
        settings = Parameters(
            **{"deadline": 10.0, "stale_after": 10.0, **parameters}, safeguard=safeguard, safeguard_enforced=enforced
        )
        store, (good,) = make_store(folder, 1)
        pushing = add_faulty(store, "unsafe", folder)
        self.good, self.pushing = (
            Served(runtime, settings.limits.of(runtime))
            for runtime in (PolicyRuntime(*store.get(name)) for name in (good, pushing))
        )
        self.safeguard = settings.load_safeguard()
        self.path = ControlPath(self.safeguard, enforced)
        self._count = 0

    def asked(self, seen: Vector, step: int, ended: bool = False) -> Asked:
        self._count += 1
        return Asked(self._count, step, self._count * 10**6, seen, 0.0, ended)

    def answers(self, *seen: Vector, first: int = 1) -> list[str]:
        """What answered each observation: "good", "pushing", or the reason why neither did."""
        names = {self.good.id: "good", self.pushing.id: "pushing"}
        found = []
        for step, vector in enumerate(seen, start=first):
            asked = self.asked(vector, step)
            command = self.path.answer(asked, asked.stamp_ns)
            self.path.follow_up()
            found.append(command.fallback_reason if command.fallback else names[command.policy_id])
        return found


def test_a_policy_does_not_act_in_an_unsafe_state(ros: Ros, tmp_path: Path, safeguard: str) -> None:
    store, _ = make_store(tmp_path, 1)
    policy = add_faulty(store, "unsafe", tmp_path)
    store.activate(policy)
    start(ros, store, safeguard=safeguard, safeguard_enforced=True)
    robot = Robot(ros)
    assert robot.ask(free()).policy_id == policy
    wrong, kept, after, again = (robot.ask(trapped()) for _ in range(4))
    assert (wrong.policy_id, wrong.fallback) == (policy, False) and wrong.data[0] == pytest.approx(0.9)
    # The tick that shows what the push led to is answered by the reaction; that left the state, so the policy acts.
    assert (kept.fallback, kept.fallback_reason, list(kept.data)) == (True, "unsafe", [0.0, 0.0])
    assert (after.policy_id, after.fallback) == (policy, False)
    assert (again.fallback, again.fallback_reason) == (True, "unsafe")
    robot.observe(trapped(), truncated=True)
    assert robot.ask(trapped()).policy_id == policy, "an episode begins anew"


def test_a_stop_for_an_unsafe_state_holds_until_somebody_activates_again(ros: Ros, tmp_path: Path, wall: str) -> None:
    store, (policy,) = make_store(tmp_path, 1)
    start(ros, store, safeguard=wall, safeguard_enforced=True, reactions="unsafe=stop")
    robot = Robot(ros)
    reasons = [robot.ask(seen).fallback_reason for seen in (free(), trapped(), trapped(), free())]
    assert reasons == ["", "unsafe", "stopped", "stopped"]
    for transition in (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_ACTIVATE):
        request = ChangeState.Request(transition=Transition(id=transition))
        assert ros.probe.call(ChangeState, "policy_server/change_state", request).success
    ros.probe.wait_for(lambda: ros.probe.node.count_subscribers("/observation") == 1, "the server listens again")
    answers = len(robot.actions)
    robot.observe(free())
    ros.probe.wait_for(lambda: robot.actions[answers:] and robot.actions[-1].policy_id == policy, "it acts again")


def test_in_a_lasting_unsafe_state_only_the_reaction_goes_out(tmp_path: Path, wall: str) -> None:
    service = Service(tmp_path, wall)
    service.path.switch(service.good)
    seen = (free(), trapped(), trapped(), trapped(), free(), free())
    assert service.answers(*seen) == ["good", "unsafe", "unsafe", "unsafe", "good", "good"]


def test_a_policy_that_was_kept_from_acting_has_not_proved_good(tmp_path: Path, wall: str) -> None:
    """A bad policy drove into the wall, a patched one is swapped in there."""
    service = Service(tmp_path, wall)
    service.path.switch(service.pushing)
    assert service.answers(free(), trapped()) == ["pushing", "unsafe"]
    service.path.switch(service.good, Probation(ProbationLimits(ticks=3)))
    assert service.answers(*[trapped()] * 5, first=3) == ["unsafe"] * 5
    assert not service.path.has_verdict and service.path.probation is not None and service.path.probation.left == 3
    assert service.answers(*[free()] * 3, first=8) == ["good"] * 3
    verdict = service.path.take_verdict()
    assert verdict is not None and verdict.fault == ""


def test_unsafe_ticks_that_a_policy_on_probation_caused_count_and_as_many_are_tolerated(
    tmp_path: Path, safeguard: str
) -> None:
    service = Service(tmp_path, safeguard)
    service.path.switch(service.good)
    service.path.switch(service.pushing, Probation(ProbationLimits(ticks=100, unsafe=2)))
    assert service.answers(free(), *[trapped()] * 6) == ["pushing", "pushing"] + ["unsafe", "pushing"] * 2 + ["unsafe"]
    verdict = service.path.take_verdict()
    assert verdict is not None and verdict.fault.startswith("safeguard: 3 unsafe ticks, 2 tolerated")
    assert service.path.served is service.good and service.path.watch.unsafe_ticks == 3


def test_what_cannot_be_judged_counts_alike_in_a_tick_and_at_the_end_of_an_episode(tmp_path: Path) -> None:
    """A label that cannot be computed is unsafe; an observation that cannot be read is not the policy's fault."""
    ratio = tmp_path / "ratio.yaml"
    ratio.write_text(yaml.safe_dump(safeguard_file(
        (28, 2), {"odd": "place / place > 100"}, ("lost",), ("clear", "odd", "lost"), ("lost", "not odd", "clear"),
        inputs={"place": "observation[0]"},
    )))  # fmt: skip
    zero, unread = free(), free()
    zero[0], unread[3] = 0.0, float("nan")
    for seen, at_fault in ((zero, True), (unread, False)):
        for ended in (False, True):
            service = Service(tmp_path / f"{at_fault}{ended}", str(ratio), enforced=False)
            service.path.switch(service.good)
            service.path.switch(service.pushing, Probation(ProbationLimits(ticks=100)))
            service.answers(free(), free(), first=0)
            if ended:
                service.path.episode_ended(service.asked(seen, 2, ended=True))
            else:
                service.answers(seen, first=2)
            verdict = service.path.take_verdict()
            assert (verdict is not None) == at_fault, (ended, verdict)


def test_the_cost_of_an_episodes_first_observation_is_nobodys_in_a_probation(tmp_path: Path, wall: str) -> None:
    service = Service(tmp_path, wall)
    service.path.switch(service.good)
    service.path.switch(service.pushing, Probation(ProbationLimits(ticks=100, cost=5.0)))
    service.answers(free(), free())
    for step, cost, fails in ((0, 7.0, False), (1, 4.0, False), (2, 2.0, True)):
        asked = service.asked(free(), step)._replace(cost=cost)
        service.path.answer(asked, asked.stamp_ns)
        service.path.follow_up()
        assert service.path.has_verdict == fails, step


def test_a_shadow_run_does_not_blame_a_candidate_for_what_would_have_been_replaced(
    tmp_path: Path, safeguard: str
) -> None:
    """The very policy that acts is tried beside itself."""
    service = Service(tmp_path, safeguard)
    service.path.switch(service.pushing)
    service.path.tap = Tap(5)
    assert service.answers(free(), *[trapped()] * 7).count("unsafe") == 3
    assert service.safeguard is not None
    limits = ShadowLimits(5, patience=0.1)
    report = run_shadow(service.pushing.runtime, service.pushing.limits, limits, service.path.tap, service.safeguard)
    assert report.ticks == 5 and not report.violations and report.divergence_max == 0.0


def test_a_shadow_run_in_which_no_policy_may_act_proves_nothing(tmp_path: Path, wall: str) -> None:
    service = Service(tmp_path, wall)
    service.path.switch(service.good)
    assert service.answers(free(), trapped()) == ["good", "unsafe"]
    service.path.tap = Tap(4)
    assert service.answers(*[trapped()] * 8, first=3) == ["unsafe"] * 8
    limits = ShadowLimits(4, patience=0.1)
    with pytest.raises(ShadowRefusedError, match=r"in 0\.1 s for the shadow run, or none that a policy may answer"):
        run_shadow(service.pushing.runtime, service.pushing.limits, limits, service.path.tap, service.safeguard)


def test_an_episode_in_which_the_safeguard_commanded_is_none_of_the_policys(tmp_path: Path, wall: str) -> None:
    service = Service(tmp_path, wall)
    service.path.switch(service.good)
    for seen, counted in (((free(), trapped()), 0), ((free(), free()), 1)):
        service.answers(*seen, first=0)
        service.path.episode_ended(service.asked(free(), 2, ended=True))
        assert len(service.path.costs.record(SPEC.cost_limit).newest) == counted


def test_what_another_one_commanded_is_no_push_of_the_policy(tmp_path: Path, safeguard: str) -> None:
    service = Service(tmp_path, safeguard, reactions="unsafe=stop")
    service.path.switch(service.pushing)
    assert service.answers(free(), trapped()) == ["pushing", "pushing"]
    for step in (3, 4):
        service.path.overheard(service.asked(trapped(), step))  # fallback answers with the safe action
    assert service.answers(trapped(), first=5) == ["pushing"]


@pytest.mark.parametrize("how", ["activated", "ended", "ended unheard", "began unheard"])
def test_the_machine_begins_anew_with_an_episode_or_an_activation(tmp_path: Path, how: str) -> None:
    trap = tmp_path / "trap.yaml"  # which it never leaves
    trap.write_text(yaml.safe_dump(safeguard_file(
        (28, 2), {"near": "place > 100"}, ("collision",), ("clear", "near", "collision"),
        inputs={"place": "observation[0]"},
    )))  # fmt: skip
    service = Service(tmp_path, str(trap))
    service.path.switch(service.good)
    assert service.answers(free(), trapped(), free()) == ["good", "unsafe", "unsafe"]
    if how == "activated":
        service.path.begin()
    elif how == "ended":  # the first observation of the next episode is lost
        service.path.episode_ended(service.asked(free(), 4, ended=True))
    else:
        step, ended = (4, True) if how == "ended unheard" else (0, False)
        service.path.overheard(service.asked(free(), step, ended))
    assert service.answers(free(), free(), trapped()) == ["good", "good", "unsafe"]


def test_the_time_that_the_safeguard_takes_is_the_actions(tmp_path: Path, wall: str) -> None:
    service = Service(tmp_path, wall, deadline=0.02)
    service.path.switch(service.good)
    assert service.path.watch.monitor is not None
    step = service.path.watch.monitor.step

    def slow(observation: Vector, action: Vector) -> object:
        deadline = time.perf_counter() + 0.03
        while time.perf_counter() < deadline:  # busy, as a safeguard with many labels is
            pass
        return step(observation, action)

    service.path.watch.monitor.step = slow  # type: ignore[method-assign,assignment]
    answers = service.answers(free(), free())
    assert answers[1] == "late"


def test_what_is_to_be_done_about_unsafe_states_asks_for_an_enforced_safeguard(wall: str) -> None:
    with pytest.raises(SettingsError, match=r"safeguard_enforced is set.*Give its file as `safeguard`"):
        Parameters(safeguard_enforced=True).load_safeguard()
    with pytest.raises(SettingsError, match=r"reactions has one for unsafe states.*Set safeguard_enforced"):
        Parameters(safeguard=wall, reactions="unsafe=stop").load_safeguard()
