"""`saferule checkpoints`: the learners that policies were made of, and that could be gone on from."""

from __future__ import annotations

import time

import typer

from saferule_ros.cli.options import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption
from saferule_ros.workspace import Workspace


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command()(checkpoints)


def checkpoints(workspace: WorkspaceOption = DEFAULT_WORKSPACE, as_json: JsonOption = False) -> None:
    """Show the learners' checkpoints, oldest first: what each had to forget, and which policies were made of it.

    A patch goes on from the active policy's; `saferule export` makes a policy of any. Writes nothing; `saferule policy
    prune --checkpoints` removes those that no policy needs.

    \b
    Example:
      saferule checkpoints
    """
    from saferule_ros.cli.output import note, print_json, print_table, verdict
    from saferule_ros.patching.checkpoints import stored_checkpoints

    found = stored_checkpoints(Workspace(workspace))
    if as_json:
        print_json([one._asdict() for one in found])
        return
    rows = [
        (one.id, one.algorithm, one.steps, one.forget_set_id or "–", ", ".join(one.policies) or "–",
         f"{one.size / 1e6:.1f}", time.strftime("%Y-%m-%d %H:%M", time.gmtime(one.written)),
         verdict(not one.problem, "readable", one.problem))
        for one in found
    ]  # fmt: skip
    print_table(("checkpoint", "algorithm", ">steps", "forgot", "policies", ">MB", "written (UTC)", ""), rows)
    note(f"{len(found)} checkpoints, {sum(one.size for one in found) / 1e6:.1f} MB")
