"""The store: places, verification on every way out, the audit log, and several processes at once."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from policy_samples import SMALL, add_onnx, scaled
from pydantic import ValidationError

from saferule_ros.file_locks import try_lock
from saferule_ros.policy import reader
from saferule_ros.policy.errors import (
    AuditError,
    BundleError,
    CorruptBundleError,
    NoPolicyError,
    StoreBusyError,
    StoreError,
    StoreMissingError,
    UnknownPolicyError,
)
from saferule_ros.policy.gate import run_gate
from saferule_ros.policy.refusals import VersionCounterError
from saferule_ros.policy.store import PolicyStore


@pytest.fixture
def store(tmp_path: Path) -> PolicyStore:
    return PolicyStore(tmp_path / "deep" / "store").create()


@pytest.fixture
def ids(store: PolicyStore, tmp_path: Path) -> list[str]:
    """Three bundles, oldest first."""
    return [add_onnx(store, scaled(0.5), tmp_path).bundle_id for _ in range(3)]


def places(store: PolicyStore) -> tuple[str | None, str | None, str | None]:
    return store.place("active"), store.place("previous"), store.place("candidate")


def damage(store: PolicyStore, bundle_id: str) -> Path:
    path = store.path(bundle_id) / "policy.onnx"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    return path


def test_a_candidate_becomes_active_and_can_be_rolled_back_and_forth(store: PolicyStore, ids: list[str]) -> None:
    first, second, _ = ids
    assert places(store) == (None, None, None)
    store.activate(first)
    store.set_candidate(second)
    assert places(store) == (first, None, second)
    store.activate(second)
    assert places(store) == (second, first, None)
    assert store.rollback() == first
    assert places(store) == (first, second, None)
    assert store.rollback() == second
    assert places(PolicyStore(store.root)) == (second, first, None)


def test_activating_what_is_active_changes_nothing_but_ends_its_candidacy(store: PolicyStore, ids: list[str]) -> None:
    store.activate(ids[0])
    store.activate(ids[1])
    store.set_candidate(ids[1])
    store.activate(ids[1])
    assert places(store) == (ids[1], ids[0], None)
    events = len(store.audit())
    store.activate(ids[1])
    assert len(store.audit()) == events


def test_the_bundles_are_listed_oldest_first_with_their_places(store: PolicyStore, ids: list[str]) -> None:
    store.activate(ids[2])
    store.set_candidate(ids[0])
    entries = store.list()
    assert [entry.bundle_id for entry in entries] == ids
    assert [entry.place for entry in entries] == ["candidate", None, "active"]


def test_adding_a_bundle_twice_gives_the_same_id_and_one_copy(store: PolicyStore, ids: list[str]) -> None:
    assert store.add(store.path(ids[0])) == ids[0]
    assert len(store.list()) == 3 and not list(store.staging.iterdir())


def test_creating_a_store_again_keeps_what_is_in_it(store: PolicyStore, ids: list[str]) -> None:
    store.activate(ids[0])
    assert places(PolicyStore(store.root).create()) == (ids[0], None, None)


def test_a_damaged_active_policy_is_reported_with_file_digests_and_ways_out(store: PolicyStore, ids: list[str]) -> None:
    store.activate(ids[0])
    store.activate(ids[1])
    recorded = store.active().manifest.files["policy.onnx"].sha256
    path = damage(store, ids[1])
    with pytest.raises(CorruptBundleError) as caught:
        PolicyStore(store.root).active()
    message = str(caught.value)
    actual = subprocess.run(["sha256sum", str(path)], capture_output=True, text=True).stdout.split()[0]
    assert all(part in message for part in (ids[1], str(path), recorded, actual, ids[0], ids[2]))
    assert "Add an intact copy" in message


def test_a_damaged_active_policy_can_be_left_by_rolling_back_but_not_returned_to(
    store: PolicyStore, ids: list[str]
) -> None:
    store.activate(ids[0])
    store.activate(ids[1])
    damage(store, ids[1])
    assert store.rollback() == ids[0]
    assert store.active().manifest.bundle_id == ids[0]
    for change in (store.rollback, lambda: store.activate(ids[1]), lambda: store.set_candidate(ids[1])):
        with pytest.raises(CorruptBundleError):
            change()
    assert places(store) == (ids[0], ids[1], None)


def test_adding_an_intact_copy_repairs_a_damaged_bundle(store: PolicyStore, ids: list[str], tmp_path: Path) -> None:
    copy = PolicyStore(tmp_path / "backup", keys=store.keys.folder).create()
    copy.add(store.path(ids[0]))
    store.activate(ids[0])
    damage(store, ids[0])
    assert store.add(copy.path(ids[0])) == ids[0]
    assert store.active().manifest.bundle_id == ids[0]


def test_a_bundle_in_the_folder_of_another_is_not_given_out(store: PolicyStore, ids: list[str]) -> None:
    for file in store.path(ids[0]).iterdir():
        (store.path(ids[1]) / file.name).write_bytes(file.read_bytes())
    with pytest.raises(CorruptBundleError, match=f"holds the bundle {ids[0]}"):
        store.get(ids[1])


def test_a_missing_store_is_named_and_not_made(tmp_path: Path) -> None:
    missing = PolicyStore(tmp_path / "none")
    for question in (missing.list, missing.active, missing.rollback, lambda: missing.activate("0" * 16)):
        with pytest.raises(StoreMissingError, match=str(tmp_path / "none")):
            question()
    assert not (tmp_path / "none").exists()
    (tmp_path / "file").touch()
    with pytest.raises(StoreMissingError):
        PolicyStore(tmp_path / "file").list()
    with pytest.raises(StoreError, match="file"):
        PolicyStore(tmp_path / "file" / "store").create()


@pytest.mark.parametrize("bundle_id", ["0" * 16, "../../etc", "", "x" * 500])
def test_an_unknown_id_is_refused_with_the_known_ones(store: PolicyStore, ids: list[str], bundle_id: str) -> None:
    with pytest.raises(UnknownPolicyError) as caught:
        store.activate(bundle_id)
    assert any(known in str(caught.value) for known in ids)


def test_an_empty_place_is_an_error_that_says_what_to_do(store: PolicyStore, ids: list[str]) -> None:
    with pytest.raises(NoPolicyError, match="no active policy"):
        store.active()
    with pytest.raises(NoPolicyError, match="no candidate policy"):
        store.require("candidate")
    store.activate(ids[0])
    with pytest.raises(NoPolicyError, match="no previous policy"):
        store.rollback()


@pytest.mark.parametrize("content", [b"", b"{", b'{"active": "../x"}', b'{"format": 0}', b"\xff", b"[]"])
def test_unreadable_places_are_an_error_that_says_what_to_do(
    store: PolicyStore, ids: list[str], content: bytes
) -> None:
    store.places_path.write_bytes(content)
    with pytest.raises(StoreError, match=r"places\.json.*audit\.jsonl"):
        store.active()
    with pytest.raises(StoreError, match=r"places\.json"):
        store.activate(ids[0])
    assert store.places_path.read_bytes() == content


def test_lost_places_are_not_replaced_by_empty_ones(store: PolicyStore, ids: list[str]) -> None:
    store.places_path.unlink()
    with pytest.raises(StoreError, match=r"places\.json is missing"):
        PolicyStore(store.root).create()


def test_every_change_is_in_the_audit_log_with_reason_and_requester(store: PolicyStore, ids: list[str]) -> None:
    store.activate(ids[0], reason="first", requester="ada")
    store.set_candidate(ids[1])
    store.activate(ids[1], reason="gate passed", requester="bo")
    store.rollback(reason="cost over its limit", requester="ada")
    store.record("gate_refused", ids[2], reason="too slow", requester="bo")
    lines = [json.loads(line) for line in store.audit_path.read_text().splitlines()]
    assert [(line["event"], line["from"], line["to"], line["reason"], line["requester"]) for line in lines[3:]] == [
        ("activate", None, ids[0], "first", "ada"),
        ("set_candidate", None, ids[1], "", ""),
        ("activate", ids[0], ids[1], "gate passed", "bo"),
        ("rollback", ids[1], ids[0], "cost over its limit", "ada"),
        ("gate_refused", ids[0], ids[2], "too slow", "bo"),
    ]
    assert [line["event"] for line in lines[:3]] == ["add"] * 3
    assert [line["number"] for line in lines] == list(range(1, 9))
    assert sorted(line["time"] for line in lines) == [line["time"] for line in lines]
    assert [event.as_json() for event in store.audit()] == lines


def test_a_long_reason_is_cut_and_the_log_still_completes(store: PolicyStore, ids: list[str]) -> None:
    for _ in range(3):
        store.record("note", reason="\N{SNOWMAN}" * 10_000, requester="\x00" * 10_000)
    assert [event.number for event in store.audit()] == list(range(1, 7))
    assert len(store.audit_path.read_text().splitlines()) == 6


def test_a_reason_that_is_no_utf_8_is_kept_as_far_as_it_is_and_the_store_stays_readable(
    store: PolicyStore, ids: list[str]
) -> None:
    latin_1 = b"h\xe4ngt".decode(errors="surrogateescape")  # as a shell of another encoding hands it over
    store.activate(ids[0], reason=latin_1, requester=latin_1)
    assert store.active().manifest.bundle_id == ids[0]
    assert (store.audit()[-1].reason, store.audit()[-1].requester) == ("h?ngt", "h?ngt")
    store.record("note", reason="hängt \N{SNOWMAN}")
    assert store.audit()[-1].reason == "hängt \N{SNOWMAN}"


def test_places_that_could_not_be_read_again_replace_nothing(store: PolicyStore, ids: list[str]) -> None:
    before = store.places_path.read_bytes()
    unreadable = store.places().model_copy(update={"candidate": "\udce4"})  # model_copy() asks no questions
    with pytest.raises(ValidationError):
        store._write(unreadable)
    assert store.places_path.read_bytes() == before


def test_an_audit_that_the_store_changes_meanwhile_is_of_one_moment(
    store: PolicyStore, ids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not a tampered log, for which it would pass where places and log are of different moments."""
    whole = reader.read_log
    changes = [lambda: store.activate(ids[0]), lambda: store.record("note")]

    def read_log(path: Path) -> bytes:
        earlier = whole(path)
        if changes:
            changes.pop(0)()
        return earlier if changes else whole(path)  # the log of before a change, then that of after one

    monkeypatch.setattr(reader, "read_log", read_log)
    assert [event.event for event in store.audit()] == ["add"] * 3 + ["activate", "note"]


def test_a_torn_or_lost_last_line_of_the_log_is_written_again(store: PolicyStore, ids: list[str]) -> None:
    store.activate(ids[0], reason="first")
    whole = store.audit_path.read_bytes()
    start = whole.rstrip(b"\n").rfind(b"\n") + 1
    for left in (whole[:-1], whole[: start + 10], whole[:start]):
        store.audit_path.write_bytes(left)
        assert [event.reason for event in store.audit()][-1] == "first"
        store.set_candidate(store.require("active"))
        assert store.audit_path.read_bytes().startswith(whole)
        assert len(store.audit_path.read_bytes().splitlines()) == len(whole.splitlines()) + 1
        store.places_path.write_bytes(places_with(store, whole))


def places_with(store: PolicyStore, log: bytes) -> bytes:
    """places.json whose latest event is the last of `log`."""
    fields = json.loads(store.places_path.read_bytes())
    return json.dumps(fields | {"latest": json.loads(log.splitlines()[-1])}).encode()


def test_a_log_that_is_rubbish_is_kept_aside_and_does_not_hinder_a_rollback(store: PolicyStore, ids: list[str]) -> None:
    store.activate(ids[0])
    store.activate(ids[1])
    store.audit_path.write_bytes(b"rubbish\n")
    with pytest.raises(StoreError, match=r"line 1 of .*audit\.jsonl is no event: b'rubbish'"):
        store.audit()
    store.rollback()
    assert [path.read_bytes() for path in store.root.glob("audit.jsonl.damaged-*")] == [b"rubbish\n"]
    assert [event.event for event in store.audit()] == ["activate", "rollback"]


@pytest.mark.parametrize(
    ("harm", "where"),
    [
        (lambda lines: [lines[0].replace("add", "odd"), *lines[1:]], "line 1 of .* does not follow"),
        (lambda lines: [*lines[:2], *lines[3:]], "line 3 of .* does not follow"),
        (lambda lines: [lines[0], lines[2], lines[1], lines[3]], "line 2 of .* does not follow"),
        (lambda lines: [lines[1], lines[0], *lines[2:]], "begins with event 2"),
        (lambda lines: [*lines[:-1], lines[-1].replace("first", "later")], "line 4 of .* does not follow"),
        (lambda lines: [*lines[:3], lines[2], lines[3]], "line 4 of .* does not follow"),
        (lambda lines: lines[1:], "begins with event 2"),
        (lambda lines: lines[-1:], "begins with event 4"),
        (lambda lines: [], "begins with event 4"),
    ],
)
def test_a_log_that_was_changed_by_hand_is_found_out(
    store: PolicyStore, ids: list[str], harm: Callable[[list[str]], list[str]], where: str
) -> None:
    store.activate(ids[0], reason="first")
    store.audit()
    lines = store.audit_path.read_text().splitlines()
    store.audit_path.write_text("".join(f"{line}\n" for line in harm(lines)))
    with pytest.raises(AuditError, match=where):
        store.audit()


def test_a_trial_that_fails_leaves_the_places_as_before_it(store: PolicyStore, ids: list[str]) -> None:
    first, second, third = ids
    store.activate(first)
    store.activate(second)
    store.activate(third, trial=True)
    assert places(store) == (third, second, None) and store.places().trial
    assert store.revert(reason="NaN") == second
    assert places(store) == (second, first, None) and not store.places().trial
    with pytest.raises(NoPolicyError, match="no policy on trial"):
        store.revert()
    store.activate(third, trial=True)
    store.prove_good(third)
    store.prove_good(third)
    assert places(store) == (third, second, None) and not store.places().trial
    assert [event.event for event in store.audit()][5:] == ["activate", "revert", "activate", "prove_good"]


def test_a_failed_trial_that_the_store_learns_of_late_undoes_nothing_else(store: PolicyStore, ids: list[str]) -> None:
    first, second, third = ids
    store.activate(first)
    store.activate(second, trial=True)
    store.prove_bad(third, reason="of another one")
    assert store.places().trial and places(store)[:2] == (second, first)
    store.prove_bad(second, reason="NaN", requester="ada")
    assert not store.places().trial and places(store)[:2] == (first, None)
    event = store.audit()[-1]
    assert (event.event, event.before, event.after, event.reason) == ("revert", second, first, "NaN")
    store.prove_bad(second, reason="again")
    store.activate(second)  # somebody else, from a shell
    store.prove_bad(second, reason="again")
    assert places(store)[:2] == (second, first) and store.audit()[-1].event == "activate"


def test_the_way_back_never_leads_to_a_policy_on_trial(store: PolicyStore, ids: list[str]) -> None:
    first, second, third = ids
    store.activate(first)
    store.activate(second, trial=True)
    store.activate(third, trial=True)
    assert places(store) == (third, first, None)
    assert store.rollback() == first
    assert places(store) == (first, None, None) and not store.places().trial


@pytest.mark.parametrize("named", [1, 2])
def test_what_acts_comes_back_from_a_trial_whatever_a_shell_has_made_active(
    store: PolicyStore, ids: list[str], named: int
) -> None:
    acting, wanted = ids[0], ids[2]
    store.activate(acting)
    store.activate(ids[named])  # from a shell: what acts goes on acting until the next start
    store.activate(wanted, trial=True, acting=acting)
    assert store.places().trial and places(store)[:2] == (wanted, acting)
    assert store.revert() == acting
    assert places(store) == (acting, ids[1] if named == 1 else None, None)


def test_a_trial_from_which_nothing_could_come_back_is_refused(store: PolicyStore, ids: list[str]) -> None:
    store.activate(ids[0])
    with pytest.raises(UnknownPolicyError, match="f" * 16):
        store.activate(ids[1], trial=True, acting="f" * 16)
    assert places(store) == (ids[0], None, None)


def test_a_policy_that_failed_its_trial_does_not_make_others_too_old(store: PolicyStore, ids: list[str]) -> None:
    first, second, third = ids
    store.activate(first)
    store.activate(third, trial=True)
    store.revert()
    store.activate(second)
    store.activate(third)
    with pytest.raises(VersionCounterError, match="has version 1"):
        store.activate(first)  # neither active nor previous any more


@pytest.fixture
def lab(tmp_path: Path, store: PolicyStore) -> PolicyStore:
    """Another machine's store, whose key the robot trusts."""
    made = PolicyStore(tmp_path / "lab" / "store").create()
    store.keys.trust("lab", made.signer().public)
    return made


def brought(store: PolicyStore, lab: PolicyStore, bundle_id: str, tmp_path: Path) -> str:
    file = tmp_path / f"{bundle_id}.saferule"
    if not file.exists():
        lab.export_archive(bundle_id, file)
    return store.import_archive(file)


def test_a_first_policy_of_another_maker_is_no_older_than_a_robot_with_many_patches(
    store: PolicyStore, ids: list[str], lab: PolicyStore, tmp_path: Path
) -> None:
    for bundle_id in ids:
        store.activate(bundle_id)
    first, second = (add_onnx(lab, scaled(factor), tmp_path).bundle_id for factor in (0.3, 0.4))
    store.activate(brought(store, lab, first, tmp_path))
    assert store.places().version_floor == 4 and store.next_version() == 5
    patched = add_onnx(store, scaled(0.2), tmp_path).bundle_id
    store.activate(patched)
    store.activate(brought(store, lab, second, tmp_path))
    assert store.places().version_floor == 6


@pytest.mark.parametrize("pruned", [False, True])
def test_a_policy_of_another_maker_that_was_replaced_stays_old_however_often_it_is_brought(
    store: PolicyStore, ids: list[str], lab: PolicyStore, tmp_path: Path, pruned: bool
) -> None:
    older, replaced = (add_onnx(lab, scaled(factor), tmp_path).bundle_id for factor in (0.3, 0.4))
    store.activate(brought(store, lab, replaced, tmp_path))
    for _ in range(3):
        store.activate(add_onnx(store, scaled(0.2), tmp_path).bundle_id)
    if pruned:
        store.prune(0)
    for bundle_id in (replaced, older):
        brought(store, lab, bundle_id, tmp_path)
        with pytest.raises(VersionCounterError, match=f"policy {bundle_id} has version"):
            store.activate(bundle_id)
        assert run_gate(store.root, bundle_id, SMALL, deadline_s=0.05).checks[-1].name == "version_counter"
    assert len(store.places().arrivals) <= 4, "of what is too old to serve only each maker's newest is kept"


def test_a_maker_that_counts_high_does_not_make_the_robots_next_patch_too_old(
    store: PolicyStore, ids: list[str], lab: PolicyStore, tmp_path: Path
) -> None:
    store.activate(ids[0])
    lab._write(lab.places().model_copy(update={"newest_version": 40}))  # after so many
    store.activate(brought(store, lab, add_onnx(lab, scaled(0.3), tmp_path).bundle_id, tmp_path))
    assert store.places().version_floor == 41
    store.activate(add_onnx(store, scaled(0.2), tmp_path).bundle_id)


def with_all_activated_before(store: PolicyStore, ids: list[str]) -> None:
    """A store of before arrivals were noted, in which each was active once."""
    for bundle_id in ids:
        store.activate(bundle_id)
    as_before_arrivals(store)


def as_before_arrivals(store: PolicyStore) -> None:
    """What a version that did not note them left."""
    store._write(store.places().model_copy(update={"arrivals": (), "format": 1}))


def test_a_store_of_before_arrivals_were_noted_goes_on_to_count(
    store: PolicyStore, ids: list[str], lab: PolicyStore, tmp_path: Path
) -> None:
    with_all_activated_before(store, ids)
    for number in (4, 5, 6):
        made = add_onnx(store, scaled(0.2), tmp_path)
        store.activate(made.bundle_id)
        assert (made.version, store.places().newest_version, store.places().version_floor) == (number,) * 3
    store.activate(brought(store, lab, add_onnx(lab, scaled(0.3), tmp_path).bundle_id, tmp_path))
    assert store.places().version_floor == 7


def test_the_first_policy_of_another_maker_is_new_to_a_store_of_before(
    store: PolicyStore, ids: list[str], lab: PolicyStore, tmp_path: Path
) -> None:
    with_all_activated_before(store, ids)
    store.activate(brought(store, lab, add_onnx(lab, scaled(0.3), tmp_path).bundle_id, tmp_path))


@pytest.mark.parametrize("first", ["own", "lab"])
def test_what_a_store_of_before_had_pruned_stays_old(
    store: PolicyStore, ids: list[str], lab: PolicyStore, tmp_path: Path, first: str
) -> None:
    of_lab = add_onnx(lab, scaled(0.3), tmp_path).bundle_id
    store.activate(brought(store, lab, of_lab, tmp_path))
    for factor in (0.1, 0.2):
        store.activate(add_onnx(store, scaled(factor), tmp_path).bundle_id)
    store.export_archive(ids[0], tmp_path / f"{ids[0]}.saferule")
    store.prune(0)
    as_before_arrivals(store)
    pruned = [ids[0], of_lab] if first == "own" else [of_lab, ids[0]]
    for bundle_id in pruned:
        assert store.import_archive(tmp_path / f"{bundle_id}.saferule") == bundle_id
        with pytest.raises(VersionCounterError, match="has version 1"):
            store.activate(bundle_id)


def test_places_of_a_version_to_come_are_told_as_such(store: PolicyStore, ids: list[str]) -> None:
    stored = json.loads(store.places_path.read_text())
    store.places_path.write_text(json.dumps(stored | {"format": 3, "of_tomorrow": 1}))
    with pytest.raises(StoreError, match=r"has format 3, this version reads up to 2.*A newer saferule_ros"):
        store.places()


def test_pruning_leaves_what_has_a_place_what_a_job_holds_and_the_newest(store: PolicyStore, tmp_path: Path) -> None:
    ids = [add_onnx(store, scaled(0.5), tmp_path).bundle_id for _ in range(8)]
    for bundle_id in ids[:3]:
        store.activate(bundle_id)
    store.activate(ids[3], trial=True)  # ids[1] is previous again if the trial fails
    store.set_candidate(ids[4])
    damaged = ids[5]
    damage(store, damaged)
    with store.holding(ids[0]):
        assert store.prune(1) == (ids[6],)
        assert store.prune(0, requester="ada") == (ids[7],)
    assert [entry.bundle_id for entry in store.list()] == [*ids[:5], damaged]
    assert store.prune(0) == (ids[0],)  # the job has ended
    assert store.prune(0) == () and not list(store.staging.iterdir())
    pruned = [event for event in store.audit() if event.event == "prune"]
    assert [(event.before, event.requester) for event in pruned] == [(ids[6], ""), (ids[7], "ada"), (ids[0], "")]
    assert store.revert() == ids[2] and store.active().manifest.bundle_id == ids[2]
    assert store.rollback() == ids[1]


def test_a_hold_ends_with_its_process(store: PolicyStore, ids: list[str]) -> None:
    program = (
        "import os, signal, sys\nfrom saferule_ros.policy.store import PolicyStore\n"
        "hold = PolicyStore(sys.argv[1]).holding(sys.argv[2])\nhold.__enter__()\n"
        "print('held', flush=True)\nsys.stdin.readline()\nos.kill(os.getpid(), signal.SIGKILL)\n"
    )
    job = subprocess.Popen(
        [sys.executable, "-P", "-c", program, str(store.root), ids[0]],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert job.stdout is not None and job.stdout.readline() == "held\n"
    assert store.prune(0) == tuple(ids[1:])
    job.communicate("die\n", timeout=30)
    assert store.prune(0) == (ids[0],)
    assert not list((store.root / "held").iterdir())


def test_a_bundle_travels_as_one_file(store: PolicyStore, ids: list[str], tmp_path: Path) -> None:
    other = PolicyStore(tmp_path / "elsewhere" / "store").create()
    path = tmp_path / f"{ids[0]}.saferule"
    store.export_archive(ids[0], path)
    first = path.read_bytes()
    store.export_archive(ids[0], path)
    assert path.read_bytes() == first
    with pytest.raises(CorruptBundleError, match=rf"^{path}: .* is not trusted here"):
        other.import_archive(path)
    other.keys.trust("robot", store.signer().public)
    assert other.import_archive(path, requester="ada") == ids[0]
    assert other.audit()[-1].reason == f"from {path.name}" and other.audit()[-1].requester == "ada"
    assert other.get(ids[0]).manifest == store.get(ids[0]).manifest


def rezipped(path: Path, names: dict[str, bytes], kind: int = zipfile.ZIP_STORED, link: bool = False) -> None:
    with zipfile.ZipFile(path, "w", kind) as packed, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # two of the same name are meant
        for name, content in names.items():
            member = zipfile.ZipInfo(name.rstrip("+"))
            member.compress_type = kind
            if link and name == "policy.onnx":
                member.external_attr = (stat.S_IFLNK | 0o777) << 16
            packed.writestr(member, content)


BAD_ARCHIVES: dict[str, tuple[Callable[[Path, dict[str, bytes]], object], str]] = {
    "no zip": (lambda path, files: path.write_bytes(b"no zip"), "is no exported bundle"),
    "nothing": (lambda path, files: path.write_bytes(b""), "is no exported bundle"),
    "a path that leaves the bundle": (lambda path, files: rezipped(path, {**files, "../x": b""}), r"foreign.*\.\./x"),
    "an absolute path": (lambda path, files: rezipped(path, {**files, "/etc/x": b""}), "foreign"),
    "a file twice": (lambda path, files: rezipped(path, {**files, "policy.onnx+": b""}), "a file twice"),
    "a compressed bomb": (lambda path, files: rezipped(path, files, zipfile.ZIP_DEFLATED), "not a regular file"),
    "a link": (
        lambda path, files: rezipped(path, files | {"policy.onnx": b"/etc/passwd"}, link=True), "not a regular file"
    ),
    "a pipe": (lambda path, files: (path.unlink(), os.mkfifo(path)), "is not a regular file"),
    "a missing file": (lambda path, files: rezipped(path, {"policy.onnx": b""}), "has no"),
    "a cut file": (lambda path, files: path.write_bytes(path.read_bytes()[:-30]), "."),
    "a flipped bit": (
        lambda path, files: path.write_bytes(path.read_bytes().replace(b"observation", b"observatioN", 1)), "CRC"
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD_ARCHIVES)
def test_a_file_that_is_no_bundle_is_not_imported(
    kind: str, store: PolicyStore, ids: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "given.saferule"
    store.export_archive(ids[0], path)
    with zipfile.ZipFile(path) as packed:
        files = {name: packed.read(name) for name in packed.namelist()}
    change, words = BAD_ARCHIVES[kind]
    change(path, files)
    with pytest.raises(BundleError, match=words):
        store.import_archive(path)
    assert [entry.bundle_id for entry in store.list()] == ids


def test_leftovers_of_a_killed_add_are_cleared(store: PolicyStore, ids: list[str]) -> None:
    (store.staging / "0123456789abcdef").mkdir()
    (store.staging / "0123456789abcdef" / "policy.onnx").write_bytes(b"half")
    (store.staging / "places.json").write_bytes(b"half")
    store.activate(ids[0])
    store.add(store.path(ids[0]))
    assert not list(store.staging.iterdir())


def test_a_lock_that_somebody_else_keeps_is_an_error_in_time(store: PolicyStore, ids: list[str]) -> None:
    with (store.root / "lock").open("r+") as held:
        assert try_lock(held.fileno())
        with pytest.raises(StoreBusyError, match=r"lock for 0\.05 s"):
            PolicyStore(store.root, lock_timeout=0.05).activate(ids[0])
        assert places(store) == (None, None, None)  # reading needs no lock
    store.activate(ids[0])


ACTIVATE = """
import random, sys
from saferule_ros.policy.refusals import VersionCounterError
from saferule_ros.policy.store import PolicyStore
root, seed, count, *ids = sys.argv[1:]
store, generator = PolicyStore(root), random.Random(int(seed))
print("ready", flush=True)
sys.stdin.readline()
for _ in range(int(count)):
    if generator.random() < 0.3:
        store.rollback(requester=seed)
    else:
        try:
            store.activate(generator.choice(ids), requester=seed)
        except VersionCounterError:
            store.rollback(requester=seed)
"""


def test_processes_that_activate_at_once_do_not_interleave(store: PolicyStore, ids: list[str]) -> None:
    store.activate(ids[0])
    store.activate(ids[1])
    count, seeds = 40, ("1", "2", "3")
    processes = [
        subprocess.Popen(
            [sys.executable, "-P", "-c", ACTIVATE, str(store.root), seed, str(count), *ids],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for seed in seeds
    ]  # fmt: skip
    for process in processes:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    finished, seen = threading.Event(), []

    def read() -> None:
        while not finished.is_set():
            seen.append(PolicyStore(store.root).active().manifest.bundle_id)

    reader = threading.Thread(target=read)
    reader.start()
    outputs = [process.communicate("go\n", timeout=60) for process in processes]
    finished.set()
    reader.join(timeout=60)
    assert [process.returncode for process in processes] == [0, 0, 0], outputs
    assert len(seen) > 10 and set(seen) <= set(ids)  # whoever reads meanwhile gets a verified policy
    events = [event for event in store.audit() if event.event in ("activate", "rollback")]
    assert {event.requester for event in events[2:]} == set(seeds)
    assert [event.number for event in store.audit()] == list(range(1, len(store.audit()) + 1))
    active, previous = None, None
    for event in events:  # every change began where the one before had ended
        assert event.before == active and event.after not in (None, active)
        assert event.event == "activate" or event.after == previous
        active, previous = event.after, active
    assert places(store)[:2] == (active, previous)
    assert len(store.audit_path.read_text().splitlines()) == len(store.audit())
