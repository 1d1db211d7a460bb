"""`saferule contract`: what a robot's own topics mean."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from saferule_ros.cli.options import JsonOption
from saferule_ros.cli.teaching import CHECK_FAILED

if TYPE_CHECKING:
    from saferule_ros.contract.check_result import ContractCheck
    from saferule_ros.contract.model import Guarded

app = typer.Typer(no_args_is_help=True, help="What a robot's own topics mean: observation, action, reward, cost.")


@app.callback()
def contract() -> None:
    """Makes `check` a verb of its own."""


@app.command()
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Contract, YAML; ready ones are in config/contracts/.")],
    bag: Annotated[Path | None, typer.Option("--bag", metavar="BAG", help="A recording to try it on.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Explain what a contract reads and what is wrong with it, with a suggestion for each problem.

    Reads the file, and the bag if one is given. Writes nothing. Exit status: 0 nothing is wrong, 1 something is,
    2 the file is no contract.

    \b
    Examples:
      saferule contract check config/contracts/arm.yaml
      saferule contract check my_robot.yaml --bag /media/usb/monday
    """
    from saferule_ros.cli.output import print_json
    from saferule_ros.contract.check import check_contract
    from saferule_ros.contract.model import load_contract

    result = check_contract(load_contract(file), bag)
    if as_json:
        print_json(result.to_dict())
    else:
        _show(result, bag is not None)
    if result.problems:
        raise typer.Exit(CHECK_FAILED)


def _show(result: ContractCheck, with_bag: bool) -> None:
    from saferule_ros.cli.output import note, print_facts, print_table

    made = result.contract
    rows = [
        [name, source.topic, source.type, ", ".join(source.fields) or "-", _size(result.sizes.get(name)), source.unit,
         source.align, "any" if source.max_age is None else f"{source.max_age:g} s",
         f"{result.topics[source.topic].rate:.1f} Hz" if source.topic in result.topics else "-"]
        for name, source in made.sources.items()
    ]  # fmt: skip
    rows.append(["(action)", made.action.topic, made.action.type, ", ".join(made.action.fields),
                 str(made.action_size), made.action.unit, "-", "-", "-"])  # fmt: skip
    headings = ("source", "topic", "type", "fields", ">size", "unit", "align", ">max age", ">in bag")
    print_table(headings if with_bag else headings[:-1], rows if with_bag else [row[:-1] for row in rows])
    history = made.history
    ends = (("terminated", made.episode.terminated), ("truncated", made.episode.truncated))
    print_facts([
        ("contract", f"{made.name}, digest {made.digest[:16]}"),
        ("tick", f"each message of {made.tick.source}" if made.tick.source else f"{made.tick.rate:g} Hz"),
        ("observation", f"{_size(result.observation_size)} numbers: {' '.join(made.observed)}, the newest "
                        f"{history.observations}; then the last {history.actions} actions"),
        ("reward", _judge(made.reward)), ("cost", _judge(made.cost)),
        *((name, text) for name, text in ends if text),
        *([("ticks", ", ".join(f"{count} {name}" for name, count in result.ticks.values.items() if count)),
           ("made late by", f"median {result.delay.median:.3f} s, worst {result.delay.worst:.3f} s; "
                            f"a period is {result.delay.period:.3f} s"),
           ("episodes", f"{len(result.episodes)}, of {sum(result.episodes)} transitions")] if with_bag else []),
    ])  # fmt: skip
    for warning in result.warnings:
        note(f"warning: {warning.where}: {warning.what}. {warning.hint}")
    for problem in result.problems:
        note(f"{problem.where}: {problem.what}. {problem.hint}")
    note("nothing is wrong" if not result.problems else f"{len(result.problems)} problem(s)")


def _judge(given: str | Guarded) -> str:
    return given if isinstance(given, str) else f"of safeguard {given.safeguard.name}: {given.safeguard.description}"


def _size(size: int | None) -> str:
    return "?" if size is None else str(size)
