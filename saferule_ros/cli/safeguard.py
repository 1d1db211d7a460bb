"""`saferule safeguard`: what a robot must not do, as a finite-state machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from saferule_ros.cli.options import JsonOption
from saferule_ros.cli.teaching import CHECK_FAILED

if TYPE_CHECKING:
    from saferule_ros.safeguard.labelling import Audit
    from saferule_ros.safeguard.model import Safeguard

app = typer.Typer(no_args_is_help=True, help="What a robot must not do, as a finite-state machine.")

# Episodes that are named; `--json` has all of them.
_SHOWN = 5


@app.callback()
def safeguard() -> None:
    """Makes `check` a verb of its own."""


@app.command()
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Safeguard, YAML; one is in config/safeguards/.")],
    dataset: Annotated[
        Path | None, typer.Option("--dataset", metavar="DIR", help="A dataset whose costs are audited.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Explain a safeguard: its states, transitions and costs, with a drawing (Mermaid).

    With a dataset it labels every transition, and tells how that differs from the costs that are stored. Writes
    nothing. Exit status: 0 nothing is wrong, 1 stored costs differ, 2 the file is no safeguard, or not of this data.

    \b
    Examples:
      saferule safeguard check config/safeguards/differential_drive.yaml
      saferule safeguard check my_robot.yaml --dataset /var/lib/robot/dataset
    """
    from saferule_ros.cli.output import print_json
    from saferule_ros.dataset.dataset import EpisodeDataset
    from saferule_ros.safeguard.drawing import mermaid
    from saferule_ros.safeguard.labelling import audit_dataset
    from saferule_ros.safeguard.model import load_safeguard

    made = load_safeguard(file)
    audit = audit_dataset(made, EpisodeDataset.load(dataset)) if dataset is not None else None
    if as_json:
        content = made.model_dump(mode="json", by_alias=True)
        print_json({"safeguard": content, "drawing": mermaid(made), "audit": audit and audit.to_dict()})
    else:
        _explain(made)
        print(f"\n{mermaid(made)}")
        if audit is not None:
            _show(audit)
    if audit is not None and audit.differing_episodes:
        raise typer.Exit(CHECK_FAILED)


def _explain(made: Safeguard) -> None:
    from saferule_ros.cli.output import print_facts, print_table

    print_facts([
        ("safeguard", f"{made.name}: {made.description}" if made.description else made.name),
        ("reads", f"an observation of {made.observation_size} numbers, and the action of {made.action_size} before it"),
        *((f"input {name}", text) for name, text in made.inputs.items()),
        *((f"label {name}", text) for name, text in made.labels.items()),
    ])  # fmt: skip
    rows = [
        [f"{name} (initial)" if name == made.initial else name, "UNSAFE" if state.unsafe else "-",
         f"{state.tick_cost:g}", f"{state.entry_cost:g}", state.meaning]
        for name, state in made.states.items()
    ]  # fmt: skip
    print_table(("state", "", ">cost a tick", ">cost of entry", "meaning"), rows)
    print_table(("transitions, the first that holds is taken",), [[transition] for transition in made.transitions])


def _show(audit: Audit) -> None:
    from saferule_ros.cli.output import note, print_facts

    entered = ", ".join(f"{name} {count} x" for name, count in audit.entered.items() if count)
    print_facts([
        ("labelled", f"{audit.steps} steps of {audit.episodes} episodes"),
        ("unsafe", f"{audit.unsafe_steps} steps of {audit.unsafe_episodes} episodes"),
        ("entered", entered or "no state but the initial one"),
        ("cost", f"{audit.labelled_cost:g} labelled, {audit.stored_cost:g} stored"),
        ("stored too low", f"{audit.missing_steps} steps"), ("stored too high", f"{audit.surplus_steps} steps"),
    ])  # fmt: skip
    if audit.unjudged_steps:
        note(f"{audit.unjudged_steps} steps have a label that cannot be computed; they count as unsafe")
    differing = audit.differing_episodes
    more = f" and {len(differing) - _SHOWN} more" if len(differing) > _SHOWN else ""
    note(f"costs differ in {len(differing)} episodes: {', '.join(differing[:_SHOWN])}{more}" if differing
         else "the stored costs are those of the safeguard")  # fmt: skip
