"""The command `saferule`: see `saferule --help`.

Only what the help needs is imported here; torch, the simulator and matplotlib are imported by the verb that is
used. So `saferule --help` answers at once on a small computer too.
"""

import typer

from saferule_ros import __version__
from saferule_ros.cli import (
    audit,
    checkpoints,
    collect,
    compare,
    contract,
    data,
    demo,
    evaluate,
    export,
    forget,
    keys,
    patch,
    poison,
    policy,
    safeguard,
    train,
    unlearn,
)
from saferule_ros.cli.teaching import TeachingGroup

app = typer.Typer(
    cls=TeachingGroup, no_args_is_help=True, rich_markup_mode="rich", pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]}, add_completion=False,
    help="""Patch a robot's learned policy: unlearn bad data from it, without retraining and without a simulator.

A robot's files lie in one folder, the [bold]workspace[/bold] (option -w, or SAFERULE_WORKSPACE). The way through it:

\b
  saferule collect SafetyPointCircle1        data; from a robot: data ingest
  saferule train --task SafetyPointCircle1   a policy learned from it, active
  saferule forget new --bag BAD              what is to be forgotten
  saferule patch FORGET_SET                  a repaired policy: the candidate
  saferule policy activate candidate         … into service
  saferule policy rollback                   … and the way back

All of it at once, on a simulated robot: [bold]saferule demo[/bold]. Methods compared: [bold]saferule compare[/bold].

[dim]Exit status: 0 done, 1 a check failed, 2 wrong input, 130 cancelled.[/dim]""",
)  # fmt: skip


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"saferule_ros {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """See `help` above: this only holds the option --version."""


for module in (collect, poison, train, evaluate, unlearn, checkpoints, export, compare, patch, audit, demo):
    module.register(app)
for name, group in (("data", data.app), ("forget", forget.app), ("policy", policy.app), ("keys", keys.app),
                    ("contract", contract.app), ("safeguard", safeguard.app)):  # fmt: skip
    app.add_typer(group, name=name)
