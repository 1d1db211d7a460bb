"""Gradient steps of OSRL itself, from a checkout of it, to be timed beside ours.

Of OSRL only its algorithms and networks are imported, so that nothing has to be installed that these do not use.
"""

import importlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

# All that OSRL's example configurations (examples/configs/*_configs.py) set otherwise than its constructors do.
WIDTHS = {"a_hidden_sizes": [256, 256], "c_hidden_sizes": [256, 256], "max_action": 1.0}
WITH_MODEL = {"vae_hidden_sizes": 400, "num_q": 2, "num_qc": 2}
EPISODE_LENGTH = 300  # OSRL's tasks have 200 to 500
MODELS: dict[str, tuple[str, str, dict[str, Any]]] = {  # our name: OSRL's module, class and settings
    "bcq_lag": ("bcql", "BCQL", WITH_MODEL),
    "bear_lag": ("bearl", "BEARL", WITH_MODEL | {"start_update_policy_step": 0}),
    "cpq": ("cpq", "CPQ", WITH_MODEL),
    "copti_dice": ("coptidice", "COptiDICE", {
        "f_type": "softchi", "num_nu": 2, "num_chi": 2, "init_state_propotion": 1 / EPISODE_LENGTH,
    }),
}  # fmt: skip
COST_SHARE = 0.02  # of transitions, as in the data that ours learn from


class _NoLogger:
    """Takes what a trainer stores, and keeps nothing of it."""

    def store(self, **values: float) -> None:
        """As OSRL's loggers."""


def osrl_steps(
    checkout: Path, observation_size: int, action_size: int, batch: int, seed: int
) -> dict[str, Callable[[], Any]]:
    """Our algorithms' names to functions that take one step of OSRL's trainer, always on the same random batch."""
    _make_importable(checkout)
    torch.manual_seed(seed)
    observations, following = torch.randn(2, batch, observation_size)
    actions = torch.rand(batch, action_size) * 2 - 1
    costs = (torch.rand(batch) < COST_SHARE).float()
    transitions = (observations, following, actions, torch.rand(batch), costs, torch.zeros(batch))
    initial = (torch.rand(batch) < 1 / EPISODE_LENGTH).float()
    steps: dict[str, Callable[[], Any]] = {}
    for name, (module, model, values) in MODELS.items():
        osrl = importlib.import_module(f"osrl.algorithms.{module}")
        settings, arguments = WIDTHS | values, transitions
        if name == "copti_dice":
            settings |= {"observations_std": observations.std(0).numpy(), "actions_std": actions.std(0).numpy()}
            arguments = ((*transitions, initial),)
        made = getattr(osrl, model)(state_dim=observation_size, action_dim=action_size, **settings)
        trainer = getattr(osrl, f"{model}Trainer")(made, env=None, logger=_NoLogger())
        steps[name] = lambda trainer=trainer, arguments=arguments: trainer.train_one_step(*arguments)
    return steps


def commit_of(checkout: Path) -> str:
    """The commit that is checked out."""
    command = ["git", "-C", str(checkout), "rev-parse", "--short=12", "HEAD"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _make_importable(checkout: Path) -> None:
    """Lets osrl.algorithms.NAME be imported without what its packages import for data and logging."""
    if not (checkout / "osrl" / "algorithms" / "bcql.py").is_file():
        raise SystemExit(f"{checkout} is no checkout of OSRL: it has no osrl/algorithms/bcql.py")
    for name in ("osrl", "osrl.algorithms", "osrl.common"):
        package = ModuleType(name)
        package.__path__ = [str(checkout.joinpath(*name.split(".")))]
        sys.modules[name] = package
    utils: Any = ModuleType("fsrl.utils")
    utils.DummyLogger = utils.WandbLogger = _NoLogger
    sys.modules |= {"fsrl": ModuleType("fsrl"), "fsrl.utils": utils}
