"""A store change that is interrupted at any call into the operating system leaves the old places or the new ones."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from policy_crash import NEW
from policy_samples import add_onnx, scaled

from saferule_ros.policy.errors import StoreError
from saferule_ros.policy.runtime import PolicyRuntime
from saferule_ros.policy.store import PolicyStore


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with three bundles: previous, active, candidate (oldest first); and a bundle that is not in it.

    Beside it: the same store with its candidate on trial (`trial`), and with a fourth bundle (`prunable`).
    """
    folder = tmp_path_factory.mktemp("crash")
    store = PolicyStore(folder / "store").create()
    ids = [add_onnx(store, scaled(0.5), folder).bundle_id for _ in range(3)]
    store.activate(ids[0])
    store.activate(ids[1])
    store.set_candidate(ids[2])
    trial = PolicyStore(shutil.copytree(store.root, folder / "trial"))
    trial.activate(ids[2], trial=True)
    prunable = PolicyStore(shutil.copytree(store.root, folder / "prunable"))
    add_onnx(prunable, scaled(0.5), folder)
    other = PolicyStore(folder / "other").create()
    shutil.copytree(other.path(add_onnx(other, scaled(0.5), folder).bundle_id), folder / NEW)
    for bundle_id in ids:
        assert np.isfinite(PolicyRuntime(*store.get(bundle_id)).act(np.ones(1, np.float32))).all()
    return store.root


def interrupted(template: Path, operation: str, mode: str, work: Path) -> list[dict[str, Any]]:
    program = Path(__file__).with_name("policy_crash.py")
    memory = Path("/dev/shm")  # the same calls, and no waiting for a disk
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else work) as folder:
        line = [sys.executable, str(program), str(template), operation, mode, folder]
        done = subprocess.run(line, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    return [json.loads(text) for text in done.stdout.splitlines()]


# Fewest calls into the system that each operation makes: fewer would mean that something is not synced any more.
LEAST = {
    "add": 34, "set_candidate": 10, "activate": 10, "rollback": 10, "trial": 10, "prove_good": 10, "revert": 10,
    "prune": 20,
}  # fmt: skip
TEMPLATES = {"prove_good": "trial", "revert": "trial", "prune": "prunable"}
EVENTS = {"trial": "activate"}
MODES = ("before", "after", "torn", "full")
# In all, each of them with a store that is verified afterwards.
assert len(MODES) * sum(LEAST.values()) >= 300


def expected(operation: str, before: dict[str, Any]) -> dict[str, Any]:
    """Places after the operation."""
    active, previous, candidate = (before[place] for place in ("active", "previous", "candidate"))
    swapped = {"active": candidate, "previous": active, "candidate": None}
    return {
        "add": {},
        "set_candidate": {"candidate": before["bundles"][0]},
        "activate": swapped,
        "trial": swapped | {"trial": True},
        "prove_good": {"trial": False},
        "revert": {"active": previous, "previous": before["bundles"][0], "trial": False},
        "rollback": {"active": previous, "previous": active},
        "prune": {},
    }[operation]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("operation", list(LEAST))
def test_an_interrupted_change_is_made_whole_or_not_at_all(
    operation: str, mode: str, template: Path, tmp_path: Path
) -> None:
    points = interrupted(template.parent / TEMPLATES.get(operation, "store"), operation, mode, tmp_path)
    assert len(points) - 1 >= LEAST[operation]
    assert all(point["killed"] == (mode != "full") for point in points[:-1])
    moves_bundles = operation in ("add", "prune")
    outcomes = set()
    for point in points:
        before, after = point["before"], point["after"]
        places = {name: value for name, value in after.items() if name != "bundles"}
        old = {name: value for name, value in before.items() if name != "bundles"}
        new = old | expected(operation, before)
        assert places in (old, new), point
        kept = before["bundles"][:3] if operation == "prune" else before["bundles"]
        assert set(kept) <= set(after["bundles"]), point  # each verified in the process that looked
        outcomes.add(len(after["bundles"]) != len(before["bundles"]) if moves_bundles else places == new)
        if mode == "full" and point.get("error") and places == old and not moves_bundles:
            assert "No space left on device" in point["error"], point
        # The log: numbered without gaps, one line per event, and the change is in it exactly if it was made.
        assert [number for number, _, _ in point["events"]] == list(range(1, len(point["events"]) + 1)), point
        assert len(point["log"]) == len(point["events"]) and all(json.loads(line) for line in point["log"]), point
        made = [event for _, event, _ in point["events"][point["events_before"] : -1]]
        if not moves_bundles:
            assert made == ([EVENTS.get(operation, operation)] if places == new else []), point
        elif operation == "prune" and len(after["bundles"]) < len(before["bundles"]):
            assert made == ["prune"], point  # no bundle goes without a trace
    assert outcomes == {False, True}  # the table reaches from before the change to after it
    last = points[-1]
    assert not last["killed"] and last["error"] == "" and last["after"] != last["before"]


SMALL_DISK = 96 << 10  # bytes: a store, and no room for many bundles


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own that is soon full."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK}", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a tmpfs needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_refuses_changes_and_keeps_the_policy_that_serves(small_disk: Path, tmp_path: Path) -> None:
    store = PolicyStore(small_disk / "store").create()
    first = add_onnx(store, scaled(0.5), tmp_path).bundle_id
    store.activate(first)
    added = [first]
    with pytest.raises(StoreError, match="No space left on device"):
        for _ in range(100):
            added.append(add_onnx(store, scaled(0.5), tmp_path).bundle_id)
    (small_disk / "rest").write_bytes(b"")
    with contextlib.suppress(OSError), (small_disk / "rest").open("wb", buffering=0) as rest:
        while True:
            rest.write(b"x" * 512)  # not a byte is left
    with pytest.raises(StoreError, match="No space left on device"):
        store.activate(added[-1])
    assert PolicyStore(store.root).active().manifest.bundle_id == first
    assert {entry.problem for entry in store.list()} == {""}
    assert {entry.bundle_id for entry in store.list()} >= set(added)  # what was refused last may be there: it is whole
    (small_disk / "rest").unlink()
    store.prune(0)  # makes room
    store.activate(add_onnx(store, scaled(0.5), tmp_path).bundle_id)
    assert store.places().previous == first and store.audit()[-1].event == "activate"


Call = tuple[str, Path]


def traced(monkeypatch: pytest.MonkeyPatch, change: Callable[[], object]) -> list[Call]:
    """The durable calls that a change makes: what was done, to which path."""
    paths: dict[int, Path] = {}
    calls: list[Call] = []
    real = {name: getattr(os, name) for name in ("open", "write", "fsync", "replace", "rename", "ftruncate")}

    def opened(path: Any, *arguments: Any, **more: Any) -> int:
        handle = real["open"](path, *arguments, **more)
        if more.get("dir_fd") is None:
            paths[handle] = Path(path)
        return handle

    def on_handle(name: str) -> Callable[..., Any]:
        def call(handle: int, *arguments: Any) -> Any:
            calls.append((name, paths[handle]))
            return real[name](handle, *arguments)

        return call

    def moved(source: Any, target: Any) -> None:
        calls.append(("move_from", Path(source)))
        calls.append(("move", Path(target)))
        real["rename"](source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", opened)
        for name in ("write", "fsync", "ftruncate"):
            patch.setattr(os, name, on_handle(name))
        for name in ("replace", "rename"):
            patch.setattr(os, name, moved)
        change()
    return calls


@pytest.mark.parametrize("operation", ["add", "activate", "rollback"])
def test_content_is_synced_before_its_name_and_the_name_before_the_call_returns(
    operation: str, template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut keeps only what was synced; this order is what makes the places survive one."""
    store = PolicyStore(shutil.copytree(template, tmp_path / "store"), keys=template.parent / "keys")
    changes: dict[str, Callable[[], object]] = {
        "add": lambda: store.add(template.parent / NEW),
        "activate": lambda: store.activate(store.require("candidate")),
        "rollback": store.rollback,
    }
    calls = traced(monkeypatch, changes[operation])
    moves = [index for index, (name, _) in enumerate(calls) if name == "move"]
    assert moves and calls[moves[-1]][1] == store.places_path
    for index in moves:
        source, target = calls[index - 1][1], calls[index][1]
        written = [i for i, (name, path) in enumerate(calls[:index]) if name == "write" and path.is_relative_to(source)]
        assert written
        for write in written:
            assert ("fsync", calls[write][1]) in calls[write:index]
            if calls[write][1] != source:  # a file in a folder that is moved: its name in there, too
                assert ("fsync", source) in calls[write:index]
        assert ("fsync", target.parent) in calls[index:]
    appended = [i for i, (name, path) in enumerate(calls) if name == "write" and path == store.audit_path]
    assert appended and appended[0] > moves[-1] and ("fsync", store.audit_path) in calls[appended[-1] :]
