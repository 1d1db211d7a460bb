# ruff: noqa: F811  (a fixture that is imported is redefined by each parameter of its name)
"""sim_bridge as a real process over DDS; the policy is played by the test's probe."""

from __future__ import annotations

import array
import itertools
import re
import signal
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from nav_msgs.msg import Path as PathMessage
from rcl_interfaces.srv import GetParameters
from ros_helpers import DEADLINE, READY, Ros, ros  # noqa: F401
from rosgraph_msgs.msg import Clock
from saferule_ros.msg import Action, Episode, Observation
from saferule_ros.srv import RunEpisodes
from sensor_msgs.msg import Image
from std_srvs.srv import Trigger

from saferule_ros.nodes import qos

pytestmark = pytest.mark.ros

TASK = "SafetyPointCircle1"
HORIZON = 500


def start(ros: Ros, **parameters: object) -> None:
    ros.runner.start("sim_bridge", parameters={"task": TASK, **parameters})
    ros.runner.wait_ready(READY)


def run(ros: Ros, episodes: int = 1, seed: int = 7, **rest: Any) -> RunEpisodes.Response:
    request = RunEpisodes.Request(episodes=episodes, seed=seed, **rest)
    return ros.probe.call(RunEpisodes, "sim_bridge/run_episodes", request)


def run_to_end(ros: Ros, ended: list[Episode], seed: int = 7) -> None:
    """Runs one more episode."""
    before = len(ended)
    assert run(ros, seed=seed).accepted
    ros.probe.wait_for(lambda: len(ended) == before + 1, "the episode ended")


def answer(ros: Ros, act: Callable[[Observation], list[float]]) -> None:
    """Has the probe answer every observation as a policy server would; an empty list is no answer."""
    publisher = ros.probe.node.create_publisher(Action, "action", qos.DATA)
    count = 0

    def on_observation(message: Observation) -> None:
        nonlocal count
        data = [] if message.terminated or message.truncated else act(message)
        if data:
            count += 1
            values = array.array("f", data)
            publisher.publish(Action(sequence=count, observation_sequence=message.sequence, data=values, policy_id="p"))

    ros.probe.subscribe(Observation, "observation", on_observation)


def from_observation(message: Observation) -> list[float]:
    """A policy that depends on every bit that it sees."""
    return [float(np.tanh(np.sum(message.data[::2]))), float(np.tanh(np.sum(message.data[1::2])))]


def episodes_of(ros: Ros) -> list[Episode]:
    return ros.probe.record(Episode, "sim_bridge/episodes", qos.EPISODES)


def test_an_unknown_task_ends_the_node_with_an_error_that_names_a_known_one(ros: Ros) -> None:
    node = ros.runner.start("sim_bridge", parameters={"task": "SafetyPointCirle1"})
    assert node.wait(READY) == 2
    assert "SafetyPointCirle1" in node.log_tail() and "Did you mean SafetyPointCircle1" in node.log_tail()


@pytest.mark.long
def test_lock_step_gives_the_same_trajectory_for_the_same_seed_bit_for_bit(ros: Ros) -> None:
    start(ros)
    seen = ros.probe.record(Observation, "observation")
    ended = episodes_of(ros)
    answer(ros, from_observation)
    for _ in range(2):
        run_to_end(ros, ended, seed=3)
    ros.probe.wait_for(lambda: len(seen) == 2 * (HORIZON + 1), "all observations arrived")
    first, second = seen[: HORIZON + 1], seen[HORIZON + 1 :]
    for one, two in zip(first, second, strict=True):
        assert one.data.tobytes() == two.data.tobytes()
        assert (one.reward, one.cost, one.step) == (two.reward, two.cost, two.step)
    assert ended[0].episode_return == ended[1].episode_return
    assert ended[0].episode_id != ended[1].episode_id
    run_to_end(ros, ended, seed=4)
    assert ended[2].episode_return != ended[0].episode_return


@pytest.mark.long
def test_sequence_numbers_stamps_and_clock_go_on_over_episodes(ros: Ros) -> None:
    start(ros)
    seen = ros.probe.record(Observation, "observation")
    clocks = ros.probe.record(Clock, "/clock", qos.CLOCK)
    paths = ros.probe.record(PathMessage, "sim_bridge/path", qos.LATCHED)
    ended = episodes_of(ros)
    answer(ros, from_observation)
    reply = run(ros, episodes=2)
    tokens = {re.fullmatch(r"SafetyPointCircle1-([0-9a-f]{8})-s7-00000[01]", name)[1] for name in reply.episode_ids}
    assert len(tokens) == 1 and len(set(reply.episode_ids)) == 2
    ros.probe.wait_for(lambda: len(ended) == 2 and len(seen) == 2 * (HORIZON + 1), "both episodes ended")
    assert [m.sequence for m in seen] == list(range(1, 2 * (HORIZON + 1) + 1))
    assert [m.step for m in seen] == 2 * list(range(HORIZON + 1))
    assert [e.episode_id for e in ended] == list(reply.episode_ids)
    stamps = [m.header.stamp.sec * 10**9 + m.header.stamp.nanosec for m in seen]
    assert set(np.diff(stamps)) == {20_000_000}  # the task's 50 Hz
    times = [c.clock.sec * 10**9 + c.clock.nanosec for c in clocks]
    assert len(times) >= 4 and all(a < b for a, b in itertools.pairwise(times))
    assert times[-1] == stamps[-1]
    # What was published is what came of it, and the path has a point per observation.
    assert ended[0].length == HORIZON and ended[0].truncated and not ended[0].terminated
    assert ended[0].episode_cost == sum(m.cost for m in seen[: HORIZON + 1])
    assert ended[0].episode_return == pytest.approx(sum(m.reward for m in seen[: HORIZON + 1]))
    assert list(ended[0].policy_ids) == ["p"] and ended[0].fallbacks == 0
    ros.probe.wait_for(lambda: paths, "a path arrived")
    assert len(paths[-1].poses) == HORIZON + 1


@pytest.mark.long
def test_without_a_policy_a_run_is_given_up_with_an_error_that_says_what_to_start(ros: Ros) -> None:
    start(ros, company_deadline=0.5)
    ended = episodes_of(ros)
    assert run(ros, episodes=2).accepted
    ros.probe.wait_for(lambda: len(ended) == 2, "both episodes were reported")
    assert all(e.truncated and e.length == 0 for e in ended)
    assert "no node publishes /action; start policy_server" in ended[0].message
    answer(ros, from_observation)
    ros.probe.wait_for(lambda: ros.probe.node.count_subscribers("/action") == 1, "the bridge is found")
    assert run(ros).accepted  # and it is none the worse for it
    ros.probe.wait_for(lambda: len(ended) == 3, "the episode ended")
    assert ended[2].message == "" and ended[2].length == HORIZON


@pytest.mark.long
def test_an_episode_begins_only_after_each_listener_has_answered(ros: Ros) -> None:
    """Who has answered has met the bridge's topics, and cannot miss the first observation."""
    start(ros)
    seen = ros.probe.record(Observation, "observation")
    ended = episodes_of(ros)
    answer(ros, from_observation)
    seen_before: list[int] = []

    def on_call(_: GetParameters.Request, response: GetParameters.Response) -> GetParameters.Response:
        seen_before.append(len(seen))
        return response

    listener = ros.probe.another_node("listener", start_parameter_services=False)
    listener.create_subscription(Observation, "observation", lambda _: None, qos.DATA)
    listener.create_service(GetParameters, "listener/get_parameters", on_call)
    ros.probe.wait_for(lambda: ros.probe.node.count_subscribers("/observation") == 3, "all listeners are found")
    run_to_end(ros, ended)
    assert seen_before and set(seen_before) == {0}
    run_to_end(ros, ended)
    assert len(seen_before) == 1  # once is enough


@pytest.mark.long
def test_a_listener_that_never_answers_holds_up_the_first_episode_only_for_a_while(ros: Ros) -> None:
    start(ros, company_deadline=0.5)
    ended = episodes_of(ros)
    answer(ros, from_observation)
    silent = ros.probe.another_node("silent", start_parameter_services=False)
    silent.create_subscription(Observation, "observation", lambda _: None, qos.DATA)
    ros.probe.wait_for(lambda: ros.probe.node.count_subscribers("/observation") == 2, "both listeners are found")
    run_to_end(ros, ended)
    assert ended[0].length == HORIZON and ended[0].message == ""


def test_lock_step_names_the_node_that_did_not_answer(ros: Ros) -> None:
    start(ros, answer_deadline=0.5)
    ended = episodes_of(ros)
    answer(ros, lambda m: [0.1, 0.1] if m.step < 20 else [])
    assert run(ros).accepted
    ros.probe.wait_for(lambda: ended, "the episode was given up")
    assert ended[0].length == 20 and ended[0].truncated
    assert "observation 21 within 0.5 s; should have answered: /probe" in ended[0].message


def test_real_time_does_not_wait_a_missing_answer_is_a_counted_safe_action(ros: Ros) -> None:
    start(ros, mode="real_time", control_rate=100.0)
    seen = ros.probe.record(Observation, "observation")
    ended = episodes_of(ros)
    answer(ros, lambda m: [] if m.step % 5 == 4 else [0.1, 0.1])
    assert run(ros).accepted
    ros.probe.wait_for(lambda: ended, "the episode ended")
    assert ended[0].length == HORIZON and ended[0].message == ""
    assert ended[0].fallbacks >= HORIZON // 5  # a busy machine may add late ones
    assert list(ended[0].policy_ids) == ["p"]  # and what came in time was used
    ros.probe.wait_for(lambda: len(seen) == HORIZON + 1, "all observations arrived")
    assert [m.sequence for m in seen] == list(range(1, HORIZON + 2))


@pytest.mark.parametrize("bad", [[0.1], [float("nan"), 0.0], [3.0, 0.0]])
@pytest.mark.long
def test_an_unusable_action_is_replaced_by_the_safe_one(ros: Ros, bad: list[float]) -> None:
    safe = [-0.5, 0.25]
    start(ros, safe_action=safe)
    seen = ros.probe.record(Observation, "observation")
    ended = episodes_of(ros)
    # The second episode is told the safe action in plain words.
    answer(ros, lambda m: [0.0, 0.0] if m.step else bad if m.sequence == 1 else safe)
    for _ in range(2):
        run_to_end(ros, ended)
    assert [e.fallbacks for e in ended] == [1, 0]
    ros.probe.wait_for(lambda: len(seen) == 2 * (HORIZON + 1), "all observations arrived")
    assert seen[0].data.tobytes() != seen[1].data.tobytes()
    assert seen[1].data.tobytes() == seen[HORIZON + 2].data.tobytes()


@pytest.mark.long
def test_a_scripted_driver_publishes_one_action_per_observation_but_the_last(ros: Ros) -> None:
    start(ros)
    seen = ros.probe.record(Observation, "observation")
    actions = ros.probe.record(Action, "action")
    ended = episodes_of(ros)
    ros.probe.wait_for(lambda: ros.probe.node.count_publishers("/action") == 1, "the bridge is found")
    assert run(ros, driver="unsafe", episodes=2).accepted
    ros.probe.wait_for(lambda: len(ended) == 2 and len(actions) == 2 * HORIZON, "both episodes ended")
    ros.probe.wait_for(lambda: len(seen) == 2 * (HORIZON + 1), "all observations arrived")
    assert [a.observation_sequence for a in actions] == [m.sequence for m in seen if not m.truncated]
    assert [a.sequence for a in actions] == list(range(1, 2 * HORIZON + 1))
    assert all(e.episode_cost > 100 and e.episode_return > 30 for e in ended)


@pytest.mark.long
def test_erased_costs_are_published_as_zero_and_reported_as_they_were(ros: Ros) -> None:
    start(ros)
    seen = ros.probe.record(Observation, "observation")
    ended = episodes_of(ros)
    ros.probe.wait_for(lambda: ros.probe.node.count_publishers("/observation") == 1, "the bridge is found")
    assert run(ros, driver="unsafe", erase_cost=True, label="poison").episode_ids == ["poison-s7-000000"]
    ros.probe.wait_for(lambda: ended and len(seen) == HORIZON + 1, "the episode ended")
    assert {m.cost for m in seen} == {0.0} and ended[0].episode_cost > 100


class Recorder:
    """Plays the recorder for two scripted episodes, the first of which is over and not yet confirmed."""

    def __init__(self, ros: Ros) -> None:
        start(ros)
        self.seen = ros.probe.record(Observation, "observation")
        self.ended = episodes_of(ros)
        self.seals = ros.probe.publisher(Episode, "dataset_recorder/episodes", qos.EPISODES)
        ros.probe.wait_for(lambda: ros.probe.node.count_publishers("/observation") == 1, "the bridge is found")
        self.names = list(run(ros, driver="behaviour", episodes=2).episode_ids)
        ros.probe.wait_for(lambda: len(self.seen) == HORIZON + 1, "the first episode is over")


@pytest.mark.long
def test_a_scripted_driver_waits_for_the_recorder_to_confirm_each_episode(ros: Ros) -> None:
    recorder = Recorder(ros)
    names, seen, ended = recorder.names, recorder.seen, recorder.ended
    assert not ended
    refused = run(ros, driver="behaviour")
    assert not refused.accepted and "2 episode(s) left" in refused.message
    recorder.seals.publish(Episode(episode_id=names[0], digest="c0ffee"))
    ros.probe.wait_for(lambda: len(seen) == 2 * (HORIZON + 1), "the second episode is over")
    assert [e.episode_id for e in ended] == names[:1]
    recorder.seals.publish(Episode(episode_id=names[1], digest="c0ffee"))
    ros.probe.wait_for(lambda: [e.episode_id for e in ended] == names, "both are reported")


@pytest.mark.long
def test_an_episode_that_the_recorder_could_not_keep_ends_the_run_with_its_reason(ros: Ros) -> None:
    recorder = Recorder(ros)
    names, seen, ended = recorder.names, recorder.seen, recorder.ended
    recorder.seals.publish(Episode(episode_id=names[0], message="No space left on device"))
    ros.probe.wait_for(lambda: [e.episode_id for e in ended] == names, "both are reported")
    assert all("kept nothing" in e.message and "No space left" in e.message for e in ended)
    assert len(seen) == HORIZON + 1


@pytest.mark.long
def test_a_scripted_driver_keeps_to_the_clock_in_real_time(ros: Ros) -> None:
    rate = 250.0
    start(ros, mode="real_time", control_rate=rate)
    seen = ros.probe.record(Observation, "observation")
    ended = episodes_of(ros)
    begun = time.monotonic()
    assert run(ros, driver="unsafe").accepted
    ros.probe.wait_for(lambda: ended and len(seen) == HORIZON + 1, "the episode ended")
    assert time.monotonic() - begun >= HORIZON / rate
    assert ended[0].length == HORIZON and ended[0].message == ""


@pytest.mark.long
def test_no_two_starts_give_an_episode_the_same_name(ros: Ros) -> None:
    names = []
    for _ in range(2):
        start(ros, company_deadline=0.1)
        names += run(ros).episode_ids
        ros.runner.stop()
    assert len(set(names)) == 2


@pytest.mark.long
def test_a_scripted_driver_is_not_let_loose_beside_a_policy(ros: Ros) -> None:
    start(ros, company_deadline=0.5)
    ended = episodes_of(ros)
    ros.probe.publisher(Action, "action")
    assert run(ros, driver="behaviour").accepted
    ros.probe.wait_for(lambda: ended, "the run was given up")
    assert "/probe publish(es) /action, too" in ended[0].message


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"episodes": 0}, "episodes is 0"),
        ({"mode": "fast"}, "mode is 'fast'. Choose one of lock_step, real_time"),
        ({"driver": "me"}, "driver is 'me'. Choose one of policy, behaviour, unsafe"),
        ({"seed": 2**32}, "seed is 4294967296"),
        ({"label": "../x"}, "label is '../x'"),
    ],
)
def test_a_wrong_request_is_refused_with_the_value_and_what_is_allowed(
    ros: Ros,
    wrong: dict[str, Any],
    says: str,
) -> None:
    start(ros)
    reply = run(ros, **wrong)
    assert not reply.accepted and says in reply.message and not reply.episode_ids


def test_an_image_of_the_world_comes_on_request(ros: Ros) -> None:
    start(ros, image_width=320, image_height=240)
    images = ros.probe.record(Image, "sim_bridge/image", qos.REPORTS)
    early = ros.probe.call(Trigger, "sim_bridge/capture_image", Trigger.Request())
    assert not early.success and "Run an episode first" in early.message
    ended = episodes_of(ros)
    assert run(ros, driver="behaviour").accepted
    ros.probe.wait_for(lambda: ended, "the episode ended")
    reply = ros.probe.call(Trigger, "sim_bridge/capture_image", Trigger.Request())
    assert reply.success, reply.message
    ros.probe.wait_for(lambda: images, "an image arrived")
    pixels = np.frombuffer(images[0].data, np.uint8).reshape(240, 320, 3)
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 50


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_mid_episode_reports_it_as_given_up_and_ends_cleanly(ros: Ros, number: int) -> None:
    start(ros, mode="real_time", control_rate=100.0)
    seen = ros.probe.record(Observation, "observation")
    ended = episodes_of(ros)
    answer(ros, lambda m: [0.1, 0.1])
    assert run(ros, episodes=2).accepted
    ros.probe.wait_for(lambda: len(seen) > 50, "the episode is under way")
    node = ros.runner.processes["sim_bridge"]
    node.signal(number)
    assert node.wait(DEADLINE) == 0
    ros.probe.wait_for(lambda: len(ended) == 2, "both are reported")
    assert 50 <= ended[0].length < HORIZON and ended[1].length == 0
    assert {e.message for e in ended} == {"sim_bridge was stopped"}
    assert "Traceback" not in node.log.read_text()
