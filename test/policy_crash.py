"""Runs one change of a policy store over and over, and interrupts it at every call into the operating system.

    python policy_crash.py STORE OPERATION MODE WORK

For the n-th call, n = 1, 2, … until the operation ends undisturbed: copies STORE, does OPERATION on the copy in a
forked child that is interrupted at that call, and prints one JSON line with what is left. Modes: "before" and "after"
(SIGKILL), "torn" (SIGKILL after half of a write), "full" (the call fails for want of space; the process lives on).
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from saferule_ros.errors import SaferuleError
from saferule_ros.policy.store import PolicyStore

CALLS = ("open", "write", "fsync", "replace", "rename", "mkdir", "unlink", "rmdir", "ftruncate")


def main(template: str, operation: str, mode: str, work: str) -> None:
    for number in range(1, 1000):
        root = Path(work) / f"{operation}-{mode}-{number}" / "store"
        shutil.copytree(template, root)
        shutil.copytree(Path(template).parent / "keys", root.parent / "keys")
        before, events = state(root), len(PolicyStore(root).audit())
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            tell = os.write  # the real one: what follows replaces it
            tell(write, json.dumps(attempt(root, operation, mode, number)).encode())
            os._exit(0)
        os.close(write)
        with os.fdopen(read) as pipe:
            said = json.loads(pipe.read() or "{}")
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status not in (0, -signal.SIGKILL):
            raise RuntimeError(f"call {number}: the child ended with {status}")
        killed = status != 0
        line = {"number": number, "killed": killed, "before": before, "after": state(root)} | said
        line["events_before"] = events
        PolicyStore(root).record("started", reason="after the interruption")
        line["events"] = [(event.number, event.event, event.after) for event in PolicyStore(root).audit()]
        line["log"] = (root / "audit.jsonl").read_text().splitlines()
        try:
            line["again"] = OPERATIONS[operation](PolicyStore(root)) or "done"
        except SaferuleError as error:  # done already, and not to be done twice
            line["again"] = str(error)
        line["finally"] = state(root)
        print(json.dumps(line), flush=True)
        shutil.rmtree(root.parent)
        if not killed and not said.get("call"):
            return


def attempt(root: Path, operation: str, mode: str, number: int) -> dict[str, Any]:
    """What the child tells when it was not killed: which call failed, and the error that came of it."""
    struck = interrupt(number, mode)
    try:
        OPERATIONS[operation](PolicyStore(root))
    except SaferuleError as error:
        return {"call": struck, "error": str(error)}
    return {"call": struck, "error": ""}


def interrupt(number: int, mode: str) -> list[str]:
    """Replaces the functions CALLS of os such that the `number`-th call from now on is interrupted."""
    struck: list[str] = []
    count = 0

    def wrapped(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **more: Any) -> Any:
            nonlocal count
            count += 1
            if count != number:
                return real(*arguments, **more)
            if mode == "full":
                struck.append(name)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            try:
                if mode == "torn" and name == "write":
                    return real(arguments[0], arguments[1][: len(arguments[1]) // 2])
                return None if mode == "before" else real(*arguments, **more)
            finally:
                os.kill(os.getpid(), signal.SIGKILL)

        return call

    for name in CALLS:
        setattr(os, name, wrapped(name, getattr(os, name)))
    return struck


def state(root: Path) -> dict[str, Any]:
    """Places, with every bundle in a place verified."""
    store = PolicyStore(root)
    places = store.places()
    for bundle_id in (places.active, places.previous, places.candidate):
        if bundle_id is not None:
            store.get(bundle_id)
    return {"active": places.active, "previous": places.previous, "candidate": places.candidate,
            "trial": places.trial,
            "bundles": [entry.bundle_id for entry in store.list() if not entry.problem]}  # fmt: skip


# Where the store of the test has a bundle that is not in it yet, beside the store's folder.
NEW = "new_bundle"

OPERATIONS: dict[str, Callable[[PolicyStore], Any]] = {
    "add": lambda store: store.add(Path(sys.argv[1]).parent / NEW),
    "set_candidate": lambda store: store.set_candidate(store.list()[0].bundle_id),
    "activate": lambda store: store.activate(store.list()[2].bundle_id),
    "rollback": lambda store: store.rollback(),
    "trial": lambda store: store.activate(store.list()[2].bundle_id, trial=True),
    "prove_good": lambda store: store.prove_good(store.require("active")),
    "revert": lambda store: store.revert(),
    "prune": lambda store: store.prune(0),
}


if __name__ == "__main__":
    main(*sys.argv[1:])
