"""`saferule audit`: what was done to the policy store, by whom and why."""

from __future__ import annotations

from typing import Annotated

import typer

from saferule_ros.cli.options import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption
from saferule_ros.workspace import Workspace


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command()(audit)


def audit(
    last: Annotated[int, typer.Option("--last", min=0, help="Only so many of the newest events; 0: all.")] = 0,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Show every change of the policy store, oldest first, and check that the log is whole.

    Each event carries a digest over all before it. Writes nothing. Exit status: 0 whole, 2 a line was changed or is
    missing.

    \b
    Examples:
      saferule audit --last 20
      saferule audit --json
    """
    from saferule_ros.cli.output import note, print_json, print_table
    from saferule_ros.policy.reader import StoreReader

    events = StoreReader(Workspace(workspace).store).audit()
    shown = events[-last:] if last else events
    if as_json:
        print_json([event.as_json() for event in shown])
        return
    rows = [
        (event.number, event.time[:19].replace("T", " "), event.event, event.before or "–", event.after or "–",
         event.requester, event.reason)
        for event in shown
    ]  # fmt: skip
    print_table((">", "time (UTC)", "event", "from", "to", "by", "why"), rows)
    first = events[0].number if events else 1
    before = f" from event {first} on; the log before it was damaged, and lies aside in the store" if first > 1 else ""
    note(f"{len(events)} events, the chain is whole{before}")
