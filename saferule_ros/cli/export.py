"""`saferule export`: a learner's checkpoint as a policy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from saferule_ros.cli.options import (
    DEFAULT_WORKSPACE,
    YOU,
    JsonOption,
    ReasonOption,
    RequesterOption,
    RobotOption,
    SeedOption,
    TaskOption,
    WorkspaceOption,
)
from saferule_ros.cli.teaching import fail
from saferule_ros.workspace import Workspace

if TYPE_CHECKING:
    from saferule_ros.policy.spec import PolicySpec


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command()(export)


def export(
    checkpoint: Annotated[str, typer.Argument(metavar="CHECKPOINT", help="Id, as `train` and `unlearn` print it.")],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    task: TaskOption = "",
    robot_file: RobotOption = None,
    onnx: Annotated[
        Path | None, typer.Option("--onnx", dir_okay=False, help="Write this ONNX file instead; no gate, no store.")
    ] = None,
    seed: SeedOption = 0,
    reason: ReasonOption = "",
    requester: RequesterOption = YOU,
    as_json: JsonOption = False,
) -> None:
    """Make a policy of a checkpoint: a bundle in the policy store, which has passed the gate, or an ONNX file.

    Reads the checkpoint and, for a bundle, the dataset (for golden inputs). The contract is that of --task or --robot,
    or else the active policy's. Writes a bundle to the store, or the file. What serves is not touched.

    \b
    Examples:
      saferule export 5ca1ab1e5ca1ab1e
      saferule export 5ca1ab1e5ca1ab1e --task SafetyPointCircle1 --onnx policy.onnx
    """
    from saferule_ros.cli.output import note, print_facts, print_json

    if onnx is not None and (as_json or seed or reason or requester != YOU):
        raise fail(
            "--json, --seed, --reason and --requester are of a bundle, and --onnx writes a file alone",
            "Leave them out, or leave out --onnx",
        )  # fmt: skip
    place = Workspace(workspace)
    spec = _contract(place, task, robot_file)
    from saferule_ros.patching.export import export_bundle, export_file

    if onnx is not None:
        export_file(place, checkpoint, spec, onnx)
        note(f"{onnx}: observation ({spec.observation_size}) to action ({spec.action_size}), raw units")
        return
    manifest = export_bundle(place, checkpoint, spec, seed, reason, requester)
    if as_json:
        print_json(manifest.model_dump(mode="json"))
        return
    print_facts([
        ("policy", manifest.bundle_id), ("algorithm", manifest.algorithm), ("checkpoint", manifest.checkpoint_id),
        ("patched from", manifest.parent or "–"), ("forgot", manifest.forget_set_id or "–"), ("store", place.store),
    ])  # fmt: skip
    note(f"It passed the gate. Next: saferule evaluate {manifest.bundle_id}")


def _contract(place: Workspace, task: str, robot_file: Path | None) -> PolicySpec:
    from saferule_ros.cli.robot import robot
    from saferule_ros.policy.store import PolicyStore

    if task or robot_file:
        return robot(task, robot_file)[0]
    return PolicyStore(place.store).active().manifest.spec
