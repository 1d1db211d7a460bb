"""`saferule policy` on a store with a sound policy, another one, and one that the gate refuses."""

from pathlib import Path
from typing import NamedTuple

import pytest
from cli_process import as_json, done, refused, saferule

pytest.importorskip("torch", reason="the samples need torch")

from policy_samples import SMALL, add_onnx, scaled

from saferule_ros.policy.store import PolicyStore
from saferule_ros.workspace import Workspace


class Robot(NamedTuple):
    """A workspace and the ids of its policies: `first` is active, `second` the candidate, `unbounded` gives 2."""

    workspace: Path
    store: PolicyStore
    first: str
    second: str
    unbounded: str

    def places(self) -> tuple[str | None, ...]:
        return tuple(self.store.place(name) for name in ("active", "previous", "candidate"))


@pytest.fixture
def robot(tmp_path: Path) -> Robot:
    root = tmp_path / "robot"
    store = PolicyStore(Workspace(root).create().store).create()
    ids = [add_onnx(store, scaled(factor), tmp_path, factor).bundle_id for factor in (0.5, 0.75, 2.0)]
    store.activate(ids[0])
    store.set_candidate(ids[1])
    return Robot(root, store, *ids)


def test_activate_and_rollback_change_the_places_and_are_recorded(robot: Robot) -> None:
    done("policy", "activate", "candidate", "--reason", "better [sic]", "--requester", "ada", workspace=robot.workspace)
    assert robot.places() == (robot.second, robot.first, None)
    done("policy", "rollback", "--reason", "worse", workspace=robot.workspace)
    assert robot.places() == (robot.first, robot.second, None)
    events = robot.store.audit()[-2:]
    assert [(e.event, e.reason) for e in events] == [("activate", "better [sic]"), ("rollback", "worse")]
    assert events[0].requester == "ada"


def test_verify_shows_every_check_of_the_gate(robot: Robot) -> None:
    gate = as_json("policy", "verify", "candidate", workspace=robot.workspace)
    assert gate["passed"] and gate["bundle_id"] == robot.second
    names = [check["name"] for check in gate["checks"]]
    assert {"digests", "golden_replay", "finite_and_in_bounds", "deadline"} <= set(names)


def test_what_the_gate_refuses_is_not_activated(robot: Robot) -> None:
    before = robot.places()
    result = saferule("policy", "activate", robot.unbounded, workspace=robot.workspace)
    assert result.returncode == 1 and "gate refused" in result.stderr and "finite_and_in_bounds" in result.stdout
    assert robot.places() == before
    event = robot.store.audit()[-1]
    assert (event.event, event.after) == ("refuse_activate", robot.unbounded) and "finite_and_in_bounds" in event.reason
    verdict = saferule("policy", "verify", robot.unbounded, "--json", workspace=robot.workspace)
    assert verdict.returncode == 1 and '"passed": false' in verdict.stdout


def test_a_policy_for_another_robot_is_not_activated_unless_the_robot_was_changed(robot: Robot) -> None:
    faster = SMALL.model_copy(update={"control_rate": 50.0})
    other = add_onnx(robot.store, scaled(0.5), robot.workspace.parent, spec=faster).bundle_id
    result = saferule("policy", "activate", other, workspace=robot.workspace)
    assert result.returncode == 1 and "control_rate 20.0 != 50.0" in result.stderr
    assert robot.store.place("active") == robot.first
    done("policy", "activate", other, "--new-contract", workspace=robot.workspace)
    assert robot.store.place("active") == other


def test_a_damaged_policy_is_listed_as_such_and_not_activated(robot: Robot) -> None:
    onnx = robot.store.path(robot.second) / "policy.onnx"
    onnx.write_bytes(onnx.read_bytes()[:-1])
    before = robot.places()
    listed = {entry["policy_id"]: entry for entry in as_json("policy", "list", workspace=robot.workspace)}
    assert "sha256" in listed[robot.second]["problem"] and listed[robot.first]["problem"] == ""
    assert "damaged" in done("policy", "list", workspace=robot.workspace)
    assert saferule("policy", "activate", "candidate", workspace=robot.workspace).returncode == 1
    assert "is damaged" in refused("policy", "show", "candidate", workspace=robot.workspace)
    assert robot.places() == before


def test_a_deadline_that_cannot_be_met_is_refused(robot: Robot) -> None:
    result = saferule("policy", "verify", "active", "--deadline", "1e-9", workspace=robot.workspace)
    assert result.returncode == 1 and "deadline" in result.stdout


def test_policies_are_named_by_place_id_or_its_beginning(robot: Robot) -> None:
    for name in ("candidate", robot.second, robot.second[:8]):
        assert as_json("policy", "show", name, workspace=robot.workspace)["bundle_id"] == robot.second
    shown = done("policy", "show", workspace=robot.workspace)
    assert robot.first in shown and "cost limit" in shown and "sha256" in shown


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["show", "previous"], "has no previous policy"),
        (["rollback"], "has no previous policy"),
        (["activate", "zzz"], "has no policy 'zzz'"),
        (["show", ""], "has no policy ''"),
    ],
)
def test_a_policy_that_is_not_there_is_an_error(robot: Robot, arguments: list[str], what: str) -> None:
    before = robot.places()
    assert what in refused("policy", *arguments, workspace=robot.workspace)
    assert robot.places() == before


def test_a_policy_travels_to_a_robot_that_trusts_where_it_comes_from(robot: Robot, tmp_path: Path) -> None:
    other = tmp_path / "other" / "robot"
    other.mkdir(parents=True)
    done("policy", "export", "candidate", str(tmp_path), workspace=robot.workspace)
    file = tmp_path / f"{robot.second}.saferule"
    assert "is not trusted here" in refused("policy", "import", str(file), workspace=other)
    own = as_json("keys", "new", workspace=robot.workspace)
    done("keys", "trust", own["public"], "--name", "first", workspace=other)
    assert [(key["name"], key["key_id"]) for key in as_json("keys", "list", workspace=other)] == [
        ("first", own["key_id"])
    ]
    done("policy", "import", str(file), "--candidate", "--requester", "ada", workspace=other)
    (entry,) = as_json("policy", "list", workspace=other)
    assert (entry["policy_id"], entry["place"]) == (robot.second, "candidate")
    assert entry["signed"] == f"signed by first ({own['key_id']})"
    assert "signed by first" in done("policy", "verify", "candidate", workspace=other)


@pytest.mark.parametrize(("file", "what"), [("usb/", "is no folder, and no file"), ("usb/p.saferule", "no folder")])
def test_an_export_to_a_folder_that_is_not_there_is_refused(robot: Robot, tmp_path: Path, file: str, what: str) -> None:
    assert what in refused("policy", "export", "active", f"{tmp_path}/{file}", workspace=robot.workspace)
    assert not (tmp_path / "usb").exists()


def test_old_policies_are_pruned_and_the_log_says_so(robot: Robot) -> None:
    assert as_json("policy", "prune", "--keep", "1", workspace=robot.workspace) == {"policies": []}
    assert as_json("policy", "prune", "--keep", "0", workspace=robot.workspace) == {"policies": [robot.unbounded]}
    events = as_json("audit", "--last", "1", workspace=robot.workspace)
    assert [(event["event"], event["from"]) for event in events] == [("prune", robot.unbounded)]
    log = robot.store.audit_path
    log.write_text(log.read_text().replace("set_candidate", "set_candidatf"))
    assert "does not follow from the line before" in refused("audit", workspace=robot.workspace)


def test_an_older_policy_than_was_active_is_refused(robot: Robot) -> None:
    done("policy", "activate", "candidate", workspace=robot.workspace)
    newer = add_onnx(robot.store, scaled(0.5), robot.workspace.parent).bundle_id
    done("policy", "activate", newer, workspace=robot.workspace)
    result = saferule("policy", "activate", robot.first, workspace=robot.workspace)
    assert result.returncode == 1 and "version_counter" in result.stdout
    assert robot.places() == (newer, robot.second, None)
