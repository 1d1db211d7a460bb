"""`saferule unlearn`: any method, from a learner's checkpoint to another one. `patch` is the whole way on a robot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from saferule_ros.cli.options import (
    DEFAULT_WORKSPACE,
    DeviceOption,
    JsonOption,
    SeedOption,
    SettingsOption,
    WorkspaceOption,
)
from saferule_ros.cli.teaching import CANCELLED, fail
from saferule_ros.device import Device
from saferule_ros.unlearning.settings import MOST_STEPS
from saferule_ros.workspace import Workspace

if TYPE_CHECKING:
    from saferule_ros.learning.unfinished import Unfinished
    from saferule_ros.patching.origin import Origin
    from saferule_ros.patching.unlearning import Unlearning


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command()(unlearn)


def unlearn(
    forget_set: Annotated[
        str, typer.Argument(metavar="FORGET_SET", help="Id of a stored forget set: see `saferule forget list`.")
    ],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    checkpoint: Annotated[
        str, typer.Option(help="Of the learner that is to forget. Default: the active policy's.")
    ] = "",
    method: Annotated[
        str, typer.Option(help="safe_rule, reward_only, traj_deleter, fine_tune, or retrain (from scratch, on D_k).")
    ] = "safe_rule",
    steps: Annotated[int, typer.Option(min=0, max=MOST_STEPS, help="Gradient steps; 0: as the settings say.")] = 0,
    seed: SeedOption = 0,
    settings: SettingsOption = None,
    threads: Annotated[int, typer.Option(min=1, max=256, help="Of torch: small networks gain nothing.")] = 1,
    device: DeviceOption = Device.CPU,
    as_json: JsonOption = False,
) -> None:
    """Unlearn a forget set from a checkpoint with any method, to compare them.

    Reads a checkpoint, the dataset that it was learned from and the forget set. Writes a checkpoint, with what it comes
    from, its certificate and what it cost (origin.json). The policy store is not touched: `saferule export` makes a
    policy of it.

    Ctrl-C stops, and the same command goes on from there, with the same result as if it had not stopped.

    \b
    Examples:
      saferule unlearn 00c0ffee00c0ffee --method fine_tune --steps 5000
      saferule unlearn 00c0ffee00c0ffee --method retrain --checkpoint 5ca1ab1e5ca1ab1e --json
    """
    from saferule_ros.cli.output import note, print_json
    from saferule_ros.policy.store import PolicyStore
    from saferule_ros.reporting.provenance import machine, versions

    place = Workspace(workspace)
    chosen = checkpoint or PolicyStore(place.store).active().manifest.checkpoint_id
    # Only now: torch takes seconds to load, and what is wrong should be said at once.
    from saferule_ros.learning.trainer import limit_threads
    from saferule_ros.patching.lock import only_worker
    from saferule_ros.patching.origin import Origin
    from saferule_ros.patching.unlearning import Unlearning
    from saferule_ros.settings import load_settings

    limit_threads(threads)
    unlearning = Unlearning(
        place, chosen, forget_set, method, lambda kind: load_settings(kind, settings), steps, seed, device
    )
    unfinished = unlearning.unfinished
    with only_worker(unfinished.folder):
        _run(unlearning, method, unfinished)
        checkpoint_id = unlearning.save(unlearning.certified.certify())
        unfinished.discard()
    origin = Origin.load(place.checkpoint(checkpoint_id))
    assert origin is not None
    if as_json:
        print_json({
            "checkpoint_id": checkpoint_id, **origin.model_dump(mode="json"), "device": device, "versions": versions(),
            "machine": machine(),
        })  # fmt: skip
        return
    _show(checkpoint_id, origin)
    note(f"Next: saferule export {checkpoint_id}")


def _run(unlearning: Unlearning, method: str, unfinished: Unfinished) -> None:
    from saferule_ros.cli.bars import bar, losses
    from saferule_ros.cli.stopping import stop_asked
    from saferule_ros.unlearning.resumable import unlearn_resumably
    from saferule_ros.unlearning.run import UnlearnProgress

    with stop_asked() as stopped, bar(method) as advance:

        def show(at: UnlearnProgress) -> None:
            advance(at.step, at.steps, losses(at.losses), at.time_left)

        run = unlearning.certified.run
        done = unlearn_resumably(run, unfinished, show, stopped)
    if done < run.steps:
        raise fail(f"cancelled after {done} of {run.steps} steps", "The same command goes on from there", CANCELLED)


def _show(checkpoint_id: str, origin: Origin) -> None:
    from saferule_ros.cli.output import print_facts, verdict
    from saferule_ros.reporting.wording import duration, measured_on

    budget, certificate = origin.budget, origin.certificate
    facts: list[tuple[str, object]] = [
        ("checkpoint", checkpoint_id), ("unlearned from", origin.parent_checkpoint), ("method", origin.method),
        ("steps", origin.steps), ("took", f"{duration(budget['seconds'])}, {budget['flops']:.3g} FLOPs"),
    ]  # fmt: skip
    if certificate is not None:
        holds = certificate["reward_suppressed"] and certificate["cost_separated"]
        facts += [
            ("certificate", verdict(holds, "holds", "does not hold")), ("  measured on", measured_on(certificate)),
        ]  # fmt: skip
    print_facts(facts)
