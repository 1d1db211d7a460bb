# ruff: noqa: F811  (a fixture that is imported is redefined by each parameter of its name)
"""sim_bridge and policy_server together: real processes, real messages, the simulator itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ros_helpers import READY, Ros, ros  # noqa: F401
from saferule_ros.msg import Action, Episode, Observation, PolicyStatus
from saferule_ros.srv import RollbackPolicy, RunEpisodes, SwapPolicy
from serving_samples import make_store

from saferule_ros.nodes import qos
from saferule_ros.policy.store import PolicyStore

pytestmark = pytest.mark.ros

HORIZON = 500
SWAP = 120.0  # a gate is niced: on a machine that is busy otherwise it takes its time [s]


class Loop:
    """Both nodes, serving, and everything that they say."""

    def __init__(self, ros: Ros, store: PolicyStore, **sim: Any) -> None:
        self.ros, self.probe = ros, ros.probe
        self.observations = ros.probe.record(Observation, "observation")
        self.actions = ros.probe.record(Action, "action")
        self.ended = ros.probe.record(Episode, "sim_bridge/episodes", qos.EPISODES)
        self.status = ros.probe.record(PolicyStatus, "policy_server/status", qos.LATCHED)
        ros.runner.start("sim_bridge", parameters={"task": "SafetyPointCircle1", **sim})
        # Lock-step is as deterministic as the machine is idle, unless real time is kept out of it.
        # These policies know nothing of the task: their cost is no fault here.
        serving = {"deadline": 60.0, "gate_deadline": 1.0, "use_sim_time": True, "probation_cost": -1.0}
        ros.runner.start("policy_server", parameters={"store": str(store.root), **serving})
        ros.runner.wait_ready(READY)
        # The probe takes part in nothing, but what it has not found yet it does not hear.
        ros.probe.wait_for(lambda: ros.probe.node.count_publishers("/action") == 2, "both can act")
        ros.probe.wait_for(lambda: self.status and self.status[-1].state == "serving", "a policy is served")

    def run(self, **request: Any) -> None:
        reply = self.probe.call(RunEpisodes, "sim_bridge/run_episodes", RunEpisodes.Request(**request))
        assert reply.accepted, reply.message

    def content(self) -> list[tuple[Any, ...]]:
        """All that was observed and done, without times."""
        return [(o.sequence, o.step, o.data.tobytes(), o.reward, o.cost, o.truncated) for o in self.observations] + [
            (a.sequence, a.observation_sequence, a.data.tobytes(), a.fallback) for a in self.actions
        ]


@pytest.mark.long
def test_the_same_seed_gives_the_same_observations_and_actions_bit_for_bit(ros: Ros, tmp_path: Path) -> None:
    store, _ = make_store(tmp_path, 1)
    runs = []
    for _ in range(2):  # with new processes each time
        loop = Loop(ros, store)
        loop.run(episodes=1, seed=11)
        ros.probe.wait_for(lambda loop=loop: loop.ended, "the episode ended")  # type: ignore[misc]
        ros.probe.wait_for(
            lambda loop=loop: len(loop.observations) == HORIZON + 1 and len(loop.actions) == HORIZON,  # type: ignore[misc]
            "all messages arrived",
        )
        assert [(e.length, e.fallbacks, e.message) for e in loop.ended] == [(HORIZON, 0, "")]
        runs.append(loop.content())
        ros.runner.stop()
        ros.renew_probe()
    assert runs[0] == runs[1]


def test_a_swap_in_the_middle_of_a_run_loses_doubles_and_mixes_nothing(ros: Ros, tmp_path: Path) -> None:
    store, (old, new) = make_store(tmp_path, 1, 2)
    loop = Loop(ros, store, control_rate=100.0)
    # More than will be needed, however long a busy machine takes for the gate.
    loop.run(episodes=100, seed=11, mode="real_time")
    ros.probe.wait_for(lambda: len(loop.actions) > 50, "the run is under way")
    swapped = ros.probe.call(SwapPolicy, "policy_server/swap", SwapPolicy.Request(policy_id=new), SWAP)
    assert swapped.success, swapped.message
    seen = len(loop.actions)
    ros.probe.wait_for(lambda: len(loop.actions) > seen + 50, "the new policy acts")
    back = ros.probe.call(RollbackPolicy, "policy_server/rollback", RollbackPolicy.Request(reason="test"))
    assert back.success, back.message
    seen = len(loop.actions)
    ros.probe.wait_for(lambda: len(loop.actions) > seen + 50, "the old policy acts again")
    assert ros.runner.processes["sim_bridge"].stop() == 0
    asked = [o.sequence for o in loop.observations if not o.truncated]
    ros.probe.wait_for(lambda: len(loop.actions) == len(asked), "every observation is answered")
    assert [o.sequence for o in loop.observations] == list(range(1, len(loop.observations) + 1))
    assert [a.observation_sequence for a in loop.actions] == asked
    assert [a.sequence for a in loop.actions] == list(range(1, len(asked) + 1))
    # Three generations, one after the other, each of one policy, each from where the service said.
    generations = [a.policy_generation for a in loop.actions]
    assert generations == sorted(generations)
    assert {(a.policy_generation, a.policy_id) for a in loop.actions} == {(1, old), (2, new), (3, old)}
    assert generations.index(2) + 1 == swapped.first_sequence
    assert generations.index(3) + 1 == back.first_sequence
    assert not any(a.fallback for a in loop.actions)
