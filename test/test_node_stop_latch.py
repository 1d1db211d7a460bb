# ruff: noqa: F811  (a fixture that is imported is redefined by each parameter of its name)
"""The reaction `stop` holds until somebody activates the server again, whatever becomes of its process."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from ros_helpers import DEADLINE, Ros, ros  # noqa: F401
from saferule_ros.msg import PolicyStatus
from serving_samples import make_store
from test_node_policy_server import Robot, Vector, start, vectors

from saferule_ros.nodes import qos
from saferule_ros.policy.errors import StoreError
from saferule_ros.policy.stop_mark import StopMark, StopMarkFile
from saferule_ros.policy.store import PolicyStore

pytestmark = pytest.mark.ros

ON_WRONG_SIZE = {"reactions": "wrong_size=stop"}


def bad() -> Vector:
    """An observation that no policy sees."""
    return vectors(1)[0][:3]


class Watched:
    """What policy_server says of itself, and the mark beside its store."""

    def __init__(self, ros: Ros, store: PolicyStore) -> None:
        self.ros, self.probe, self.store = ros, ros.probe, store
        self.mark = StopMarkFile(store.root)
        self.listen()

    def listen(self) -> None:
        self.probe = self.ros.probe
        self.status = self.probe.record(PolicyStatus, "policy_server/status", qos.LATCHED)
        self.reports: list[DiagnosticStatus] = []
        self.probe.subscribe(DiagnosticArray, "/diagnostics", self._on_report, qos.REPORTS)

    def _on_report(self, report: DiagnosticArray) -> None:
        self.reports += [status for status in report.status if status.name == "/policy_server"]

    def report(self, words: str) -> DiagnosticStatus:
        return self.probe.wait_for(
            lambda: next((r for r in reversed(self.reports) if words in r.message), None), f"diagnostics say {words!r}"
        )

    def kill_and_start(self, **parameters: str) -> None:
        node = self.ros.runner.processes.pop("policy_server")
        node.signal(signal.SIGKILL)
        node.wait(DEADLINE)
        self.ros.renew_probe()
        self.listen()
        start(self.ros, self.store, **parameters)

    def change(self, transition: int) -> bool:
        request = ChangeState.Request(transition=Transition(id=transition))
        return bool(self.probe.call(ChangeState, "policy_server/change_state", request).success)


def test_a_stop_outlives_the_process_until_somebody_activates(ros: Ros, tmp_path: Path) -> None:
    store, (policy,) = make_store(tmp_path, 1)
    watched = Watched(ros, store)
    start(ros, store, **ON_WRONG_SIZE)
    assert Robot(ros).ask(bad()).fallback_reason == "wrong_size"
    watched.probe.wait_for(lambda: "also after a restart" in watched.status[-1].last_event, "it is on the disk")
    assert policy in watched.mark.read() and "wrong_size" in watched.mark.read()
    for _ in range(2):  # a second crash changes nothing
        watched.kill_and_start(**ON_WRONG_SIZE)
        watched.probe.wait_for(lambda: watched.status, "a status came")
        last = watched.probe.wait_for(
            lambda: next((s for s in watched.status if "lifecycle set" in s.last_event), None), "it says what to do"
        )
        assert last.state == "inactive" and last.active_id == policy
        report = watched.report("ros2 lifecycle set /policy_server activate")
        assert report.level == DiagnosticStatus.ERROR and "wrong_size" in report.message
        assert watched.probe.node.count_publishers("/action") == 0
    assert watched.change(Transition.TRANSITION_ACTIVATE)
    assert not watched.mark.read()
    assert Robot(ros).ask(vectors(1)[0]).policy_id == policy
    watched.kill_and_start(**ON_WRONG_SIZE)
    assert Robot(ros).ask(vectors(1)[0]).policy_id == policy, "nothing holds it back any more"


@pytest.mark.long
def test_a_stop_in_silence_is_kept_too_and_ends_with_an_activation_of_the_same_process(
    ros: Ros, tmp_path: Path
) -> None:
    store, (policy,) = make_store(tmp_path, 1)
    watched = Watched(ros, store)
    start(ros, store, reactions="missing_observation=stop", stale_after=1.0)
    Robot(ros).ask(vectors(1)[0])
    watched.probe.wait_for(watched.mark.read, "it is on the disk")
    assert "missing_observation" in watched.mark.read()
    watched.report("stopped until activated again: missing_observation")
    assert watched.change(Transition.TRANSITION_DEACTIVATE) and watched.mark.read()
    assert watched.change(Transition.TRANSITION_ACTIVATE) and not watched.mark.read()
    assert Robot(ros).ask(vectors(1)[0]).policy_id == policy


@pytest.mark.long
def test_a_stop_that_cannot_be_written_down_is_said_loudly_and_written_when_that_is_possible(
    ros: Ros, tmp_path: Path
) -> None:
    store, _ = make_store(tmp_path, 1)
    watched = Watched(ros, store)
    in_the_way = watched.mark.path.with_suffix(".part")
    in_the_way.mkdir()
    start(ros, store, **ON_WRONG_SIZE)
    robot = Robot(ros)
    assert robot.ask(bad()).fallback_reason == "wrong_size"
    report = watched.report("a restart would undo it")
    assert report.level == DiagnosticStatus.ERROR and str(watched.mark.path) in report.message
    assert robot.ask(vectors(1)[0]).fallback_reason == "stopped", "it holds in this process all the same"
    in_the_way.rmdir()
    watched.probe.wait_for(watched.mark.read, "it is on the disk after all")
    watched.report("stopped until activated again: wrong_size")


@pytest.mark.parametrize("stopped_before", [False, True])
@pytest.mark.long
def test_a_shutdown_in_good_order_is_no_stop_and_ends_none(ros: Ros, tmp_path: Path, stopped_before: bool) -> None:
    store, _ = make_store(tmp_path, 1)
    watched = Watched(ros, store)
    start(ros, store, reaction="stop")
    robot = Robot(ros)
    robot.ask(bad() if stopped_before else vectors(1)[0])
    assert watched.change(Transition.TRANSITION_DEACTIVATE)
    ros.probe.wait_for(lambda: robot.actions[-1].fallback_reason == "shutdown", "a last action came")
    node = ros.runner.processes["policy_server"]
    node.signal(signal.SIGINT)
    assert node.wait(DEADLINE) == 0
    assert bool(watched.mark.read()) == stopped_before


def test_a_mark_that_cannot_be_read_is_one_all_the_same(tmp_path: Path) -> None:
    file = StopMarkFile(tmp_path / "store")
    assert file.read() == ""
    file.remove()
    file.path.write_text("{}")
    assert str(file.path) in file.read() and "cannot be read" in file.read()
    file.remove()
    assert file.read() == "" and not file.path.exists()


def test_a_mark_is_on_the_disk_with_its_name_when_the_call_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[str, bool]] = []  # what, and whether the mark had its name by then
    file = StopMarkFile(tmp_path / "store")
    fsync = os.fsync

    def noted(handle: int) -> None:
        synced.append((os.readlink(f"/proc/self/fd/{handle}"), file.path.exists()))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", noted)
    file.write(StopMark.now("p" * 16, "unsafe", "the safeguard says: collision"))
    assert synced == [(str(file.path.with_suffix(".part")), False), (str(tmp_path), True)]
    synced.clear()
    file.remove()
    assert synced == [(str(tmp_path), False)]
    assert "collision" not in file.read()


def test_a_mark_that_cannot_be_written_is_an_error_that_says_so(tmp_path: Path) -> None:
    file = StopMarkFile(tmp_path / "missing" / "store")
    with pytest.raises(StoreError, match=r"store\.stopped\.part cannot be written: No such file"):
        file.write(StopMark.now("p" * 16, "unsafe", ""))
