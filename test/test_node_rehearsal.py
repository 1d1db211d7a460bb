"""Getting ready for the next observation: when, and that nothing but time comes of it."""

import math
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not on the path")

from serving_samples import SPEC, make_store

from saferule_ros.nodes.policy_parameters import Parameters
from saferule_ros.nodes.rhythm import Rhythm
from saferule_ros.nodes.served import Served
from saferule_ros.nodes.serving import ControlPath
from saferule_ros.nodes.wire import Asked
from saferule_ros.policy.probation import Probation, ProbationLimits
from saferule_ros.policy.runtime import PolicyRuntime
from saferule_ros.policy.store import PolicyStore

pytestmark = pytest.mark.ros

LONG = 60.0  # [s]


def test_the_next_message_is_expected_as_far_off_as_the_last_two_were_apart() -> None:
    rhythm = Rhythm(lead=0.001)
    assert rhythm.ready_at == math.inf and not rhythm.is_time(1e9)
    rhythm.came(10.0)
    assert rhythm.ready_at == math.inf, "one message has no rhythm"
    rhythm.came(10.02)
    assert rhythm.ready_at == pytest.approx(10.039)
    assert not rhythm.is_time(10.0389) and rhythm.is_time(10.0391)
    assert not rhythm.is_time(10.5), "once for each message"
    rhythm.came(10.05)
    assert rhythm.ready_at == pytest.approx(10.079)


def test_messages_that_come_at_once_after_each_other_are_not_prepared_for() -> None:
    rhythm = Rhythm(lead=0.001)
    for now in (10.0, 10.0005, 10.0012):
        rhythm.came(now)
        assert rhythm.ready_at == math.inf


def test_a_lead_of_zero_prepares_for_nothing() -> None:
    rhythm = Rhythm(lead=0.0)
    for now in (10.0, 10.02, 10.04):
        rhythm.came(now)
        assert rhythm.ready_at == math.inf


class Watched:
    """A control path with one policy in probation, of which the inferences are counted."""

    def __init__(self, store: PolicyStore, monkeypatch: pytest.MonkeyPatch) -> None:
        runtime = PolicyRuntime(*store.active())
        self.inferences = 0

        def counted(observation: np.ndarray) -> np.ndarray:
            self.inferences += 1
            return PolicyRuntime.act(runtime, observation)

        monkeypatch.setattr(runtime, "act", counted)
        served = Served(runtime, Parameters(deadline=10.0).limits.of(runtime))
        self.probation = Probation(ProbationLimits(ticks=9))
        self.path = ControlPath()
        self.path.switch(served)
        self.path.switch(served, self.probation)

    def state(self) -> tuple[object, ...]:
        path = self.path
        return (
            path.sequence,
            path.generation,
            path.fallbacks,
            len(path.flight.copy()),
            self.probation.left,
            path.times(),
        )


def test_a_rehearsal_infers_and_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, _ = make_store(tmp_path, 1)
    alone, rehearsed = Watched(store, monkeypatch), Watched(store, monkeypatch)
    vectors = np.random.default_rng(3).standard_normal((4, SPEC.observation_size)).astype(np.float32)
    vectors[2, 1] = np.nan  # a safe action holds or damps the action before it: that must be the one that was sent
    for number, vector in enumerate(vectors):
        asked = Asked(number, number, (number + 1) * 10**7, vector, 0.0, False)
        commands = [each.path.answer(asked, asked.stamp_ns) for each in (alone, rehearsed)]
        for each in (alone, rehearsed):
            each.path.follow_up()
        before = rehearsed.state(), rehearsed.inferences
        rehearsed.path.rehearse(asked, 0, LONG)
        assert rehearsed.state() == before[0]
        assert rehearsed.inferences == before[1] + (number != 2)
        ours, theirs = (command._replace(inference_time=0.0) for command in commands)
        assert ours.data.tobytes() == theirs.data.tobytes() and ours._replace(data=theirs.data) == theirs


def test_a_policy_that_takes_its_time_is_not_rehearsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, _ = make_store(tmp_path, 1)
    made = Watched(store, monkeypatch)
    asked = Asked(1, 1, 10**7, np.zeros(SPEC.observation_size, np.float32), 0.0, False)
    made.path.rehearse(asked, 0, LONG)
    assert made.inferences == 0, "nothing is known of its time yet"
    made.path.answer(asked, asked.stamp_ns)
    made.path.rehearse(asked, 0, 1e-9)
    assert made.inferences == 1
