"""`saferule policy`: the policy store: what is in it, what may serve, what does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from saferule_ros.cli.choose import PolicyArgument, choose_policy
from saferule_ros.cli.options import (
    DEFAULT_WORKSPACE,
    YOU,
    JsonOption,
    ReasonOption,
    RequesterOption,
    WorkspaceOption,
)
from saferule_ros.cli.teaching import CHECK_FAILED
from saferule_ros.workspace import Workspace

if TYPE_CHECKING:
    from pathlib import Path

    from saferule_ros.policy.gate import GateReport
    from saferule_ros.policy.reader import StoreEntry
    from saferule_ros.policy.store import PolicyStore

app = typer.Typer(
    no_args_is_help=True,
    help="""The policy store: what is in it, what may serve, what does.

A running policy_server goes on with what it serves: swap there with its services (policy_server/swap,
policy_server/rollback). These verbs set what it starts with.""",
)

DeadlineOption = Annotated[
    float,
    typer.Option(
        "--deadline", min=0.0, help="Largest 99th percentile of one action's time [s]; 0: the control period."
    ),
]


@app.command("list")
def list_policies(workspace: WorkspaceOption = DEFAULT_WORKSPACE, as_json: JsonOption = False) -> None:
    """List all policies, oldest first, each checked against its digests.

    \b
    Example:
      saferule policy list --json
    """
    from saferule_ros.cli.output import note, print_json, print_table

    store = _store(workspace)
    entries = store.list()
    if as_json:
        print_json([_as_json(entry) for entry in entries])
    elif entries:
        print_table(("policy", "place", "algorithm", "patched from", "forgot", "created", "state"), map(_row, entries))
    else:
        note(f"The store {store.root} is empty. Learn a policy: saferule train")


@app.command()
def show(
    policy: PolicyArgument = "active", workspace: WorkspaceOption = DEFAULT_WORKSPACE, as_json: JsonOption = False
) -> None:
    """Show a policy's manifest: what it is for, where it comes from, what was forgotten.

    \b
    Example:
      saferule policy show candidate
    """
    from saferule_ros.cli.output import print_facts, print_json

    store = _store(workspace)
    path, manifest = store.get(choose_policy(store, policy))
    if as_json:
        print_json({**manifest.model_dump(mode="json"), "path": str(path)})
        return
    spec = manifest.spec
    print_facts([
        ("policy", manifest.bundle_id), ("place", store.places().of(manifest.bundle_id) or "–"), ("folder", path),
        ("task", spec.task), ("observation", f"{spec.observation_size} numbers"),
        ("action", f"{spec.action_size} numbers, {list(spec.action_low)} to {list(spec.action_high)}"),
        ("control rate", f"{spec.control_rate:g} Hz"), ("cost limit", f"{spec.cost_limit:g}"),
        ("algorithm", manifest.algorithm), ("created", manifest.created),
        ("made by", f"saferule_ros {manifest.code_version}"),
        ("dataset", manifest.dataset_digest), ("checkpoint", manifest.checkpoint_id),
        ("patched from", manifest.parent or "–"), ("forgot", manifest.forget_set_id or "–"),
        *((f"certificate: {name}", value) for name, value in (manifest.certificate or {}).items()),
        *((name, f"{entry.size} bytes, sha256 {entry.sha256}") for name, entry in manifest.files.items()),
    ])  # fmt: skip


@app.command()
def verify(
    policy: PolicyArgument = "active",
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    deadline: DeadlineOption = 0.0,
    as_json: JsonOption = False,
) -> None:
    """Put a policy through the gate: size, digests, ONNX, shapes, replay of torch's actions, bounds, time.

    Writes nothing. Exit status: 0 passed, 1 refused.

    \b
    Example:
      saferule policy verify candidate
    """
    from saferule_ros.cli.output import print_json

    store = _store(workspace)
    report = _gate(store, choose_policy(store, policy), deadline)
    if as_json:
        print_json(report.model_dump(mode="json"))
    else:
        _show_gate(report)
    if not report.passed:
        raise typer.Exit(CHECK_FAILED)


@app.command()
def activate(
    policy: PolicyArgument,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    deadline: DeadlineOption = 0.0,
    reason: ReasonOption = "",
    requester: RequesterOption = YOU,
) -> None:
    """Put a policy through the gate and, if it passes, make it the active one; the active one becomes previous.

    \b
    Example:
      saferule policy activate candidate --reason "tuesday's data forgotten"
    """
    from saferule_ros.cli.output import note

    store = _store(workspace)
    bundle_id = choose_policy(store, policy)
    report = _gate(store, bundle_id, deadline)
    if not report.passed:
        _show_gate(report)
        raise typer.Exit(CHECK_FAILED)
    store.activate(bundle_id, reason=reason, requester=requester)
    note(f"{bundle_id} is active ({report.summary}). The way back: saferule policy rollback")


@app.command()
def rollback(
    workspace: WorkspaceOption = DEFAULT_WORKSPACE, reason: ReasonOption = "", requester: RequesterOption = YOU
) -> None:
    """Swap active and previous. Twice brings back what was active first.

    \b
    Example:
      saferule policy rollback --reason "drives into walls"
    """
    from saferule_ros.cli.output import note

    note(f"{_store(workspace).rollback(reason=reason, requester=requester)} is active")


def _store(workspace: Path) -> PolicyStore:
    from saferule_ros.policy.store import PolicyStore

    return PolicyStore(Workspace(workspace).store)


def _gate(store: PolicyStore, bundle_id: str, deadline: float) -> GateReport:
    """In a process of its own: a bad file may crash or hang what reads it."""
    from saferule_ros.policy.errors import CorruptBundleError
    from saferule_ros.policy.gate_process import run_gate_process
    from saferule_ros.policy.manifest import read_manifest

    if deadline <= 0:
        try:
            deadline = 1.0 / read_manifest(store.path(bundle_id)).spec.control_rate
        except CorruptBundleError:
            deadline = 1.0  # any: the gate refuses it before it measures time, and says what is wrong
    return run_gate_process(store.root, bundle_id, None, deadline)


def _show_gate(report: GateReport) -> None:
    from saferule_ros.cli.output import note, print_table, verdict

    rows = [(check.name, check.value, check.limit, verdict(check.passed)) for check in report.checks]
    print_table(("check", "measured", "allowed", ""), rows)
    note(report.summary)


def _row(entry: StoreEntry) -> tuple[object, ...]:
    from saferule_ros.cli.output import verdict

    manifest = entry.manifest
    if manifest is None:
        return entry.bundle_id, entry.place or "", "", "", "", "", verdict(False, bad=f"damaged: {entry.problem}")
    created = manifest.created[:19].replace("T", " ")
    return (
        entry.bundle_id, entry.place or "", manifest.algorithm, manifest.parent or "", manifest.forget_set_id or "",
        created, verdict(True, "intact"),
    )  # fmt: skip


def _as_json(entry: StoreEntry) -> dict[str, object]:
    manifest = entry.manifest.model_dump(mode="json") if entry.manifest else None
    return {"policy_id": entry.bundle_id, "place": entry.place, "problem": entry.problem, "manifest": manifest}
