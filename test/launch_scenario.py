"""What the launched nodes must do, whoever launched them: `ros2 launch` or the package's own runner.

Both variants call the same functions, so that they prove the same behaviour.
"""

from functools import partial
from pathlib import Path

import numpy as np
from rcl_interfaces.srv import GetParameters
from ros_helpers import READY, Probe
from rosgraph_msgs.msg import Clock
from saferule_ros.msg import Action, Episode, JobStatus, Observation, PolicyStatus
from saferule_ros.srv import Forget, RunEpisodes, StartRecording, StopRecording
from serving_samples import SPEC, make_store

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.dataset.episode import Episode as StoredEpisode
from saferule_ros.nodes import qos
from saferule_ros.recording.reader import read_bag
from saferule_ros.workspace import Workspace

TASK = "SafetyPointCircle1"
HORIZON = 500
NAMESPACE = "robot_7"
# What one launch file starts, and the arguments that both variants give.
SIM_NODES = ("policy_server", "dataset_recorder", "unlearning_server", "sim_bridge")
ROBOT_NODES = ("policy_server", "dataset_recorder", "fallback")
EDGE_NODES = ("unlearning_server",)
ON_SIMULATED_TIME = "/**: {ros__parameters: {use_sim_time: true}}"


def make_workspace(root: Path) -> str:
    """A workspace with an active policy and a dataset of two bags; returns the policy's id."""
    workspace = Workspace(root).create()
    _, ids = make_store(root, 1)
    EpisodeDataset.from_episodes(_episode(number) for number in range(4)).save(workspace.dataset)
    return ids[0]


def _episode(number: int) -> StoredEpisode:
    rng = np.random.default_rng(number)
    return StoredEpisode(
        id=f"walk-{number}", bag_id="monday" if number < 3 else "tuesday",
        observations=rng.normal(size=(6, SPEC.observation_size)).astype(np.float32),
        actions=rng.uniform(-1, 1, (5, SPEC.action_size)).astype(np.float32),
        rewards=np.ones(5, np.float32), costs=np.zeros(5, np.float32), terminated=False, truncated=True,
    )  # fmt: skip


def name(relative: str) -> str:
    """A name of the launched nodes."""
    return f"/{NAMESPACE}/{relative}"


def nodes_are_exactly(probe: Probe, expected: tuple[str, ...]) -> None:
    """These nodes are in the namespace, and no others."""

    def found() -> list[str]:
        names = probe.node.get_node_names_and_namespaces()
        return sorted(node for node, namespace in names if namespace == f"/{NAMESPACE}")

    probe.wait_for(lambda: found() == sorted(expected), f"the nodes are {expected}", READY)


def is_on_simulated_time(probe: Probe, *nodes: str) -> None:
    """These nodes take their time from /clock."""
    for node in nodes:
        answer = probe.call(
            GetParameters, name(f"{node}/get_parameters"), GetParameters.Request(names=["use_sim_time"])
        )
        assert answer.values[0].bool_value, f"{node} uses the simulated time"


def simulated_robot_runs_and_records_an_episode(probe: Probe, workspace: Path, policy_id: str) -> None:
    """Every node does its part of one episode; what was recorded is what the simulator says."""
    nodes_are_exactly(probe, SIM_NODES)
    is_on_simulated_time(probe, *SIM_NODES[:3])
    status = probe.record(PolicyStatus, name("policy_server/status"), qos.LATCHED)
    probe.wait_for(lambda: status and status[-1].state == "serving", "policy_server serves", READY)
    assert status[-1].active_id == policy_id
    sealed = probe.record(Episode, name("dataset_recorder/episodes"), qos.EPISODES)
    ended = probe.record(Episode, name("sim_bridge/episodes"), qos.EPISODES)
    clock = probe.record(Clock, "/clock", qos.CLOCK)
    assert probe.call(StartRecording, name("dataset_recorder/start"), StartRecording.Request(bag_id="launched")).success
    simulated, recorded_as = episode_that_went_all_the_ways(probe, ended, sealed)
    recorded = (recorded_as.length, recorded_as.lost, list(recorded_as.policy_ids), recorded_as.message)
    assert recorded == (HORIZON, 0, [policy_id], ""), recorded
    assert np.isclose(recorded_as.episode_return, simulated.episode_return, rtol=1e-5)
    assert recorded_as.episode_cost == simulated.episode_cost
    assert len(clock) > 1
    stopped = probe.call(StopRecording, name("dataset_recorder/stop"), StopRecording.Request())
    bag = {episode.id: episode.digest for episode in read_bag(workspace / "bags" / "launched")}
    assert stopped.success and bag[recorded_as.episode_id] == recorded_as.digest
    patches_can_be_asked_for(probe)


def episode_that_went_all_the_ways(
    probe: Probe, ended: list[Episode], sealed: list[Episode]
) -> tuple[Episode, Episode]:
    """The first episode that was simulated and recorded whole: what the simulator and the recorder tell of it.

    Processes that have just started find each other one pair at a time. What is published before its reader was
    found is lost to that reader, so the recorder can miss the beginning of the first episodes.
    """
    tries = 5

    def told_by_both(wanted: str) -> list[tuple[Episode, Episode]]:
        return [(e, s) for e in ended for s in sealed if e.episode_id == s.episode_id == wanted]

    for attempt in range(tries):
        run = RunEpisodes.Request(
            episodes=1, seed=5 + attempt, mode="lock_step", driver="policy", label=f"try-{attempt}"
        )
        accepted = probe.call(RunEpisodes, name("sim_bridge/run_episodes"), run)
        assert accepted.accepted, accepted.message
        found = probe.becomes(partial(told_by_both, accepted.episode_ids[0]), deadline=READY / tries)
        if found and found[0][1].lost == 0:
            return found[0]
    raise AssertionError(f"none of {tries} episodes was simulated and recorded whole: {ended}, {sealed}")


def robot_answers_observations(probe: Probe, policy_id: str) -> None:
    """A robot's own observation is answered by the active policy, and nothing here is simulated."""
    nodes_are_exactly(probe, ROBOT_NODES)
    status = probe.record(PolicyStatus, name("policy_server/status"), qos.LATCHED)
    probe.wait_for(lambda: status and status[-1].state == "serving", "policy_server serves", READY)
    actions = probe.record(Action, name("action"))
    observations = probe.publisher(Observation, name("observation"), listeners=2)

    def answered() -> bool:
        message = Observation(sequence=1, episode_id="by-hand", data=[0.1] * SPEC.observation_size)
        message.header.stamp = probe.node.get_clock().now().to_msg()
        observations.publish(message)
        return any(action.policy_id == policy_id and not action.fallback for action in actions)

    probe.wait_for(answered, "the policy answers")


def patches_can_be_asked_for(probe: Probe) -> None:
    """unlearning_server takes a forget set of the workspace's dataset, and says what is wrong with a bad one."""
    jobs = probe.record(JobStatus, name("unlearning_server/jobs"), qos.LATCHED)
    probe.wait_for(lambda: jobs and jobs[-1].state == "idle", "unlearning_server is idle", READY)
    service = name("unlearning_server/forget")
    refused = probe.call(Forget, service, Forget.Request(bag_ids=["tuesdy"]))
    assert not refused.accepted and "'tuesday'" in refused.message
    stored = probe.call(Forget, service, Forget.Request(bag_ids=["tuesday"]))
    assert (stored.accepted, stored.forget_episodes, stored.keep_episodes) == (True, 1, 3), stored.message
