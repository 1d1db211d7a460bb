"""`saferule contract` and `saferule data` as users meet them."""

import json
import os
from pathlib import Path

import pytest
import yaml
from cli_process import as_json, done, refused, saferule
from contract_samples import ARM, DRIVE, START, drive_stream, write_bag
from dataset_samples import make_dataset
from safeguard_samples import safeguard_file

from saferule_ros.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    return tmp_path / "robot"


def test_a_contract_is_explained_and_its_problems_are_told_with_what_to_do(workspace: Path, tmp_path: Path) -> None:
    shown = done("contract", "check", ARM, workspace=workspace)
    assert "/joint_states" in shown and "31 numbers" in shown and "-norm(position - target)" in shown
    bag = write_bag(tmp_path / "bag", drive_stream(seconds=1.0))
    found = as_json("contract", "check", DRIVE, "--bag", bag, workspace=workspace)
    assert found["problems"] == [] and found["ticks"]["made"] >= 8 and found["topics"]["/odom"]["rate"] > 40
    content = yaml.safe_load(DRIVE.read_text())
    content["sources"]["scan"]["topic"] = "/scam"
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(yaml.safe_dump(content))
    result = saferule("contract", "check", wrong, "--bag", bag, workspace=workspace)
    assert result.returncode == 1 and "Did you mean '/scan'" in result.stderr
    content["tick"] = {}
    wrong.write_text(yaml.safe_dump(content))
    assert "give either source or rate" in refused("contract", "check", wrong, workspace=workspace)


def test_a_safeguard_is_explained_and_audits_a_dataset(workspace: Path, tmp_path: Path) -> None:
    ready = DRIVE.parent.parent / "safeguards" / DRIVE.name
    shown = done("safeguard", "check", ready, workspace=workspace)
    assert "warned -> reckless when 'True', after 5 ticks" in shown and "clear --> collision: 1. touching" in shown
    make_dataset().save(tmp_path / "walks")
    assert "the dataset has 5 and 2" in refused(
        "safeguard", "check", ready, "--dataset", tmp_path / "walks", workspace=workspace
    )
    content = safeguard_file(
        (5, 2), {"high": "observation[0] > 0"}, ("up",), ("clear", "high", "up"), ("up", "not high", "clear")
    )
    small = tmp_path / "small.yaml"
    small.write_text(yaml.safe_dump(content))
    differs = saferule("safeguard", "check", small, "--dataset", tmp_path / "walks", workspace=workspace)
    assert differs.returncode == 1 and "costs differ in 5 episodes: walk-0" in differs.stderr
    audit = json.loads(
        saferule("safeguard", "check", small, "--dataset", tmp_path / "walks", "--json", workspace=workspace).stdout
    )["audit"]
    high = (make_dataset().next_observations[:, 0] > 0).sum()
    assert (audit["steps"], audit["unsafe_steps"], audit["labelled_cost"]) == (25, high, high)
    content["initial"] = "cleer"
    small.write_text(yaml.safe_dump(content))
    assert "Did you mean 'clear'" in refused("safeguard", "check", small, workspace=workspace)


def test_a_robots_own_bag_becomes_a_dataset_through_its_contract(workspace: Path, tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag", drive_stream(seconds=3.0))
    assert "Give a contract" in refused("data", "ingest", bag, workspace=workspace)
    report = as_json("data", "ingest", bag, "--contract", DRIVE, workspace=workspace)
    assert report["status"] == "complete" and report["transitions"] > 20
    info = as_json("data", "info", workspace=workspace)
    assert (info["observation_size"], info["action_size"]) == (34, 2)
    checks = {check["name"]: check for check in as_json("data", "check", "--contract", DRIVE, workspace=workspace)}
    assert all(check["passed"] for check in checks.values()) and "median step 0.1 s" in checks["gaps"]["found"]
    silent = [m for m in drive_stream(seconds=3.0) if m.topic != "/odom" or not 1 < (m.log_time - START) / 1e9 < 2]
    other = write_bag(tmp_path / "silent", silent)
    told = refused("data", "ingest", other, "--contract", DRIVE, workspace=workspace)
    assert "has episodes of bag that would be gone" in told and "--append" in told and "--replace" in told
    assert as_json("data", "info", workspace=workspace) == info
    index = workspace / "dataset" / "dataset.json"
    index.write_text("{")
    assert as_json("data", "ingest", bag, "--contract", DRIVE, workspace=workspace)["status"] == "complete", "damaged"
    assert as_json("data", "info", workspace=workspace) == info
    result = saferule("data", "ingest", other, "--contract", DRIVE, "--replace", workspace=workspace)
    assert result.returncode == 1 and "ticks could not be made (velocity: stale" in result.stderr
    (bag / "metadata.yaml").unlink()
    result = saferule("data", "ingest", bag, "--contract", DRIVE, "--replace", workspace=workspace)
    assert result.returncode == 1 and "PARTIAL" in result.stderr and "no metadata.yaml" in result.stderr


def test_a_failed_check_is_named_and_tells_by_its_status(workspace: Path) -> None:
    make_dataset().save(Workspace(workspace).dataset)
    assert "no episode comes twice" in done("data", "check", workspace=workspace)
    result = saferule("data", "check", "--cost", "0.1", workspace=workspace)
    assert result.returncode == 1 and "highest" in result.stdout


def test_episodes_are_listed_with_the_ids_to_forget_by(workspace: Path) -> None:
    dataset = make_dataset()
    dataset.save(Workspace(workspace).dataset)
    listed = as_json("data", "info", "--episodes", workspace=workspace)
    assert [(one["id"], one["bag_id"]) for one in listed] == [(one.id, one.bag_id) for one in dataset.records]
    shown = done("data", "info", "--episodes", workspace=workspace)
    assert all(one.id in shown for one in dataset.records)
    assert done("forget", "new", "--episode", listed[0]["id"], "--reason", "test", workspace=workspace)


def test_a_dataset_goes_out_as_hdf5_and_comes_back_the_same(workspace: Path, tmp_path: Path) -> None:
    pytest.importorskip("h5py", reason="h5py is not installed")
    make_dataset().save(Workspace(workspace).dataset)
    done("data", "export", tmp_path / "walks.hdf5", workspace=workspace)
    other = tmp_path / "other"
    report = as_json("data", "ingest", tmp_path / "walks.hdf5", workspace=other)
    assert report["dataset_digest"] == make_dataset().digest
    assert "comes twice" in refused("data", "ingest", tmp_path / "walks.hdf5", "--append", workspace=other)
    assert "would be gone" in refused("data", "ingest", tmp_path / "walks.hdf5", workspace=other)
    told = refused("data", "ingest", tmp_path / "walks.hdf5", "--replace", "--contract", DRIVE, workspace=other)
    assert "What is a dataset already has no topics" in told
    bag = write_bag(tmp_path / "bag", drive_stream(seconds=1.0))
    told = refused("data", "ingest", bag, tmp_path / "walks.hdf5", "--contract", DRIVE, workspace=other)
    assert "walks.hdf5' is no bag, but a dataset in another form" in told and "walks.hdf5 --append" in told
    assert "tells no form" in refused("data", "export", tmp_path / "walks.csv", workspace=workspace)


def test_a_forget_set_by_an_expression_is_made_and_shown(workspace: Path) -> None:
    make_dataset().save(Workspace(workspace).dataset)
    where = "bag == 'tuesday' and step < 2"
    made = as_json("forget", "new", "--where", where, "--reason", "sensor", workspace=workspace)
    assert (made["forget_episodes"], made["forget_transitions"], made["keep_episodes"]) == (2, 4, 5)
    shown = done("forget", "show", made["id"], workspace=workspace)
    assert where in shown and "walk-003, steps 0 to 1" in shown
    assert "Did you mean 'cost'" in refused("forget", "new", "--where", "coste > 1", workspace=workspace)
    assert "does not say when" in refused("forget", "new", "--time", "2026-01-01..2026-01-02", workspace=workspace)


def test_a_damaged_forget_set_is_listed_with_its_problem_and_a_half_written_one_is_none(workspace: Path) -> None:
    make_dataset().save(Workspace(workspace).dataset)
    whole = as_json("forget", "new", "--bag", "tuesday", workspace=workspace)["id"]
    half = Workspace(workspace).forget_sets / f".writing-0123456789ab-{whole}.json"
    half.write_text('{"sch')
    assert [one["id"] for one in as_json("forget", "list", workspace=workspace)] == [whole]
    assert half.name not in refused("forget", "show", "x", workspace=workspace)
    (Workspace(workspace).forget_sets / "00c0ffee00c0ffee.json").write_text('{"sch')
    listed = saferule("forget", "list", "--json", workspace=workspace)
    first, second = json.loads(listed.stdout)
    assert listed.returncode == 1 and first["id"] == whole and "problem" not in first
    assert second["id"] == "00c0ffee00c0ffee" and "cannot be read" in second["problem"]
    shown = saferule("forget", "list", workspace=workspace)
    assert shown.returncode == 1 and whole in shown.stdout and "DAMAGED" in shown.stdout
    assert "Make the forget set again" in shown.stderr


def test_a_reason_that_is_no_text_is_refused_with_what_to_do(workspace: Path) -> None:
    make_dataset().save(Workspace(workspace).dataset)
    reason = os.fsdecode(b"h\xe4ngt")
    told = refused("forget", "new", "--bag", "tuesday", "--reason", reason, workspace=workspace)
    assert "reason 'h\\udce4ngt' is no valid text" in told
    assert as_json("forget", "list", workspace=workspace) == []
