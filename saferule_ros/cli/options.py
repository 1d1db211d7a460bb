"""Options that several verbs have, so that they mean the same everywhere."""

import getpass
from pathlib import Path
from typing import Annotated

import typer

from saferule_ros.device import Device
from saferule_ros.patching.judge_mode import JudgeMode

DEFAULT_WORKSPACE = Path("workspace")

WorkspaceOption = Annotated[
    Path,
    typer.Option(
        "--workspace", "-w", envvar="SAFERULE_WORKSPACE",
        help="The robot's folder: dataset, policy store, bags, checkpoints, forget sets, jobs.",
    ),
]  # fmt: skip
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on standard output, for other programs.")]
SeedOption = Annotated[int, typer.Option("--seed", min=0, max=2**32 - 1, help="Of every random draw.")]
WorkersOption = Annotated[int, typer.Option("--workers", min=1, help="Simulator processes.")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why: goes into the record.")]
SettingsOption = Annotated[
    Path | None, typer.Option("--settings", exists=True, dir_okay=False, help="YAML file; without: the defaults.")
]
TaskOption = Annotated[str, typer.Option("--task", help="Task of the simulator that the data is from.")]
RobotOption = Annotated[
    Path | None,
    typer.Option(
        "--robot", exists=True, dir_okay=False,
        help="Instead of --task: YAML file with horizon (steps) and spec (sizes, bounds, rate, cost limit).",
    ),
]  # fmt: skip


DeviceOption = Annotated[
    Device, typer.Option("--device", help="That learns. The same seed draws other numbers on each.")
]
AlgorithmOption = Annotated[
    str, typer.Option("--algorithm", help="bcq_lag, bear_lag, cpq or copti_dice. Default: the settings' or bcq_lag.")
]
JudgeOption = Annotated[
    JudgeMode,
    typer.Option(
        "--judge",
        help="Offline check. advise: it decides where its model can be trusted; require: without that, nothing passes.",
    ),
]
JudgingOption = Annotated[
    Path | None, typer.Option("--judging", exists=True, dir_okay=False, help="YAML with settings of that check.")
]


NewContractOption = Annotated[
    bool,
    typer.Option(
        "--new-contract", help="The robot was changed: do not hold the policy to the contract of the active one."
    ),
]


def user() -> str:
    """Name of who types, for the record; empty where that is unknown."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        return ""


YOU = user()
RequesterOption = Annotated[str, typer.Option("--requester", help="Who asks: goes into the record.")]
