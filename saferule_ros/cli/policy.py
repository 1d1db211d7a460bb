"""`saferule policy`: the policy store: what is in it, what may serve, what does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from saferule_ros.cli.choose import PolicyArgument, choose_policy
from saferule_ros.cli.options import (
    DEFAULT_WORKSPACE,
    YOU,
    JsonOption,
    NewContractOption,
    ReasonOption,
    RequesterOption,
    WorkspaceOption,
)
from saferule_ros.cli.teaching import CHECK_FAILED
from saferule_ros.workspace import Workspace

if TYPE_CHECKING:
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
        "--deadline", min=0.0, help="Largest 99th percentile of one action's time [s]; 0: half the control period."
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
        print_table(
            ("policy", "place", "algorithm", "patched from", "forgot", "created", "signed", "state"), map(_row, entries)
        )
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
        ("version", manifest.version), ("algorithm", manifest.algorithm), ("created", manifest.created),
        ("made by", f"saferule_ros {manifest.code_version}"),
        ("dataset", manifest.dataset_digest), ("checkpoint", manifest.checkpoint_id),
        ("patched from", manifest.parent or "–"), ("forgot", manifest.forget_set_id or "–"),
        *((f"certificate: {name}", value) for name, value in (manifest.certificate or {}).items()),
        *((name, f"{entry.size} bytes, sha256 {entry.sha256}") for name, entry in manifest.files.items()),
    ])  # fmt: skip


@app.command()
def verify(
    policy: PolicyArgument = "candidate",
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    deadline: DeadlineOption = 0.0,
    new_contract: NewContractOption = False,
    as_json: JsonOption = False,
) -> None:
    """Put a policy through the gate: size, signature, digests, ONNX, shapes, replay of torch's actions, bounds, time.

    Writes nothing. Exit status: 0 passed, 1 refused.

    \b
    Example:
      saferule policy verify candidate
    """
    from saferule_ros.cli.output import print_json

    store = _store(workspace)
    report = _gate(store, choose_policy(store, policy), deadline, new_contract)
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
    new_contract: NewContractOption = False,
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
    with store.reserving(bundle_id):
        report = _gate(store, bundle_id, deadline, new_contract)
        if not report.passed:
            store.record("refuse_activate", bundle_id, reason=report.summary, requester=requester)
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


@app.command()
def export(
    policy: PolicyArgument,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A folder, for POLICY.saferule; or a file to write, NAME.saferule.")
    ],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
) -> None:
    """Write a policy, with manifest and signature, as one file for another machine.

    \b
    Example:
      saferule policy export active /media/usb/
    """
    from saferule_ros.cli.output import note
    from saferule_ros.policy.archive import destination

    store = _store(workspace)
    bundle_id = choose_policy(store, policy)
    path = destination(file, bundle_id)
    store.export_archive(bundle_id, path)
    note(f"{path} holds {bundle_id}. On the other machine: saferule policy import {path.name}")


@app.command("import")
def import_policy(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `saferule policy export` wrote.")],
    candidate: Annotated[bool, typer.Option("--candidate", help="Make it the candidate.")] = False,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    reason: ReasonOption = "",
    requester: RequesterOption = YOU,
) -> None:
    """Add a policy that was exported on another machine. Its key must be trusted here: `saferule keys trust`.

    It serves nothing by itself: verify and activate it, or swap to it.

    \b
    Example:
      saferule policy import 9a70342399e08dc5.saferule --candidate
    """
    from saferule_ros.cli.output import note

    store = _store(workspace).create()
    bundle_id = store.import_archive(file, reason=reason, requester=requester)
    if candidate:
        store.set_candidate(bundle_id, reason=reason, requester=requester)
    note(f"{bundle_id} is in the store{' as candidate' if candidate else ''}")


@app.command()
def prune(
    keep: Annotated[
        int, typer.Option("--keep", min=0, help="How many of the newest to keep, beside those that are needed.")
    ] = 5,
    checkpoints: Annotated[
        bool,
        typer.Option(
            "--checkpoints",
            help="Also learners' checkpoints, older than an hour, that no policy left here was made of; and those that "
            "patches left along their way, but for the newest patch.",
        ),
    ] = False,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    requester: RequesterOption = YOU,
    as_json: JsonOption = False,
) -> None:
    """Remove old policies. Never: active, previous, candidate, what a running job needs, and damaged ones.

    \b
    Example:
      saferule policy prune --keep 3 --checkpoints
    """
    from saferule_ros.cli.output import note, print_json
    from saferule_ros.patching.cleaning import remove_unneeded_checkpoints

    removed = _store(workspace).prune(keep, requester=requester)
    cleaned = remove_unneeded_checkpoints(Workspace(workspace)) if checkpoints else None
    if as_json:
        print_json({"policies": list(removed)} | (cleaned._asdict() if cleaned else {}))
        return
    note(f"removed: {', '.join(removed) or 'nothing'}")
    if cleaned:
        note(
            f"and {len(cleaned.checkpoints)} checkpoints, and those along the way of {len(cleaned.jobs)} patches: "
            f"{cleaned.size / 1e6:.1f} MB"
        )


@app.command()
def replay(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="A log in flights/, of before a fault.")
    ],
    as_json: JsonOption = False,
) -> None:
    """Decide every tick of a failsafe log once more, and compare. Exit status: 0 the same, 1 some came out different.

    \b
    Example:
      saferule policy replay workspace/flights/20261121T164501.732149Z.jsonl
    """
    from saferule_ros.cli.output import note, print_json, print_table
    from saferule_ros.policy.flight import replay as decide_again

    replayed = decide_again(file)
    if as_json:
        print_json({"ticks": replayed.ticks, "reasons": replayed.reasons, "differing": list(replayed.differing)})
    else:
        print_table(("decided", ">ticks"), sorted(replayed.reasons.items()))
        lines = ", ".join(str(number) for number in replayed.differing[:10])
        note(f"{replayed.ticks} ticks, " + (f"different in lines {lines}" if lines else "all decided as they were"))
    if replayed.differing:
        raise typer.Exit(CHECK_FAILED)


def _store(workspace: Path) -> PolicyStore:
    from saferule_ros.policy.store import PolicyStore

    return PolicyStore(Workspace(workspace).store)


def _gate(store: PolicyStore, bundle_id: str, deadline: float, new_contract: bool) -> GateReport:
    """In a process of its own: a bad file may crash or hang what reads it. The active policy tells the contract."""
    from saferule_ros.policy.gate import usual_deadline
    from saferule_ros.policy.gate_process import run_gate_process

    if deadline <= 0:
        spec = store.contract_of(bundle_id)
        # Any where there is none: the gate refuses it before it measures time, and says what is wrong.
        deadline = usual_deadline(spec) if spec is not None else 1.0
    contract = None if new_contract else store.contract_of(store.place("active"))
    return run_gate_process(store.root, bundle_id, contract, deadline)


def _show_gate(report: GateReport) -> None:
    from saferule_ros.cli.output import note, print_table, verdict

    rows = [(check.name, check.value, check.limit, verdict(check.passed)) for check in report.checks]
    print_table(("check", "measured", "allowed", ""), rows)
    note(report.summary)


def _row(entry: StoreEntry) -> tuple[object, ...]:
    from saferule_ros.cli.output import verdict

    manifest = entry.manifest
    if manifest is None:
        return entry.bundle_id, entry.place or "", "", "", "", "", "", verdict(False, bad=f"damaged: {entry.problem}")
    created = manifest.created[:19].replace("T", " ")
    return (
        entry.bundle_id, entry.place or "", manifest.algorithm, manifest.parent or "", manifest.forget_set_id or "",
        created, entry.signed.removeprefix("signed by ").split(" (")[0], verdict(True, "intact"),
    )  # fmt: skip


def _as_json(entry: StoreEntry) -> dict[str, object]:
    manifest = entry.manifest.model_dump(mode="json") if entry.manifest else None
    return {
        "policy_id": entry.bundle_id,
        "place": entry.place,
        "problem": entry.problem,
        "signed": entry.signed,
        "manifest": manifest,
    }
