"""Everything that learning needs to go on, on disk: tensors in safetensors, the rest in JSON. No pickle."""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from saferule_ros.dataset.durable import temporary_name
from saferule_ros.errors import SaferuleError
from saferule_ros.learning.algorithms import ALGORITHMS, make_learner, settings_from
from saferule_ros.learning.learner import Learner
from saferule_ros.learning.replay import Units
from saferule_ros.learning.settings import TaskLimits
from saferule_ros.syncing import make_folder, sync_file, sync_folder

TENSORS = "tensors.safetensors"
DESCRIPTION = "checkpoint.json"
SCHEMA = 2

# Sixteen hex digits of a SHA-256: short enough to type, and no robot stores the 2^32 checkpoints at which two
# could be expected to collide.
ID_LENGTH = 16
# What settings that were not there yet came to: COptiDICE's before its critics chose, two of each that judged the mode.
BEFORE = {"copti_dice": {"serving_candidates": 1, "critics": 2, "return_steps": 1, "choice_multiplier": 0.0}}
MOST_NAMED = 5  # checkpoints in one message


class CheckpointError(SaferuleError):
    """A checkpoint is missing, damaged or of another kind."""


def save_checkpoint(
    learner: Learner, folder: Path, dataset_digest: str, made_for: Mapping[str, Any] | None = None
) -> str:
    """Writes a learner below `folder`, durably: file and folder synced before it gets its name.

    Args:
        learner: networks, targets, optimisers, multiplier, units, settings, generator and step are all kept.
        folder: parent of all checkpoints.
        dataset_digest: digest of the EpisodeDataset it learned from.
        made_for: what tells it from others that learned the same to the bit for something else, as JSON.

    Returns:
        The checkpoint's id, which is its folder's name and a digest of its content. One of that id that was damaged
        meanwhile is mended.
    """
    tensors = _tensors_of(learner)
    description: dict[str, Any] = {
        "schema": SCHEMA, "algorithm": learner.NAME, "seed": learner.seed, "steps_done": learner.steps_done,
        "device": learner.device.type,
        "state": learner.state(), "reward_scale": learner.units.reward_scale,
        "cost_scale": learner.units.cost_scale,
        "settings": learner.settings.model_dump(), "limits": learner.limits.model_dump(),
        "dataset_digest": dataset_digest,
    }  # fmt: skip
    if made_for is not None:
        description["made_for"] = dict(made_for)
    working = _working_folder(folder)
    save_file(tensors, working / TENSORS)
    description["tensors_sha256"] = _sha256(working / TENSORS)
    text = json.dumps(description, indent=1, sort_keys=True)
    (working / DESCRIPTION).write_text(text)
    sync_file(working / TENSORS)
    sync_file(working / DESCRIPTION)
    checkpoint_id = _id_of(text.encode())
    _put_in_place(working, folder / checkpoint_id)
    return checkpoint_id


def copy_checkpoint(folder: Path, parent: Path) -> str:
    """Copies a checkpoint as it is below `parent`, durably; returns its id, which stays the same."""
    working = _working_folder(parent)
    for name in (TENSORS, DESCRIPTION):
        shutil.copyfile(folder / name, working / name)
        sync_file(working / name)
    _put_in_place(working, parent / folder.name)
    return folder.name


def load_checkpoint(folder: Path, device: torch.device | str = "cpu") -> tuple[Learner, str]:
    """Reads what `save_checkpoint` wrote.

    Returns:
        The learner, ready to go on exactly where it stopped, and the digest of the dataset it learned from.

    Raises:
        CheckpointError: missing, damaged, changed, or written by another algorithm or schema.
    """
    description = _description(folder)
    actual = _sha256(folder / TENSORS)
    if actual != description["tensors_sha256"]:
        raise CheckpointError(
            f"{folder / TENSORS} has SHA-256 {actual}, its description says {description['tensors_sha256']}",
            "The file was changed or torn: restore it from a backup, or train again with `saferule train`",
        )
    try:
        tensors = load_file(folder / TENSORS)
    except SafetensorError as error:
        raise CheckpointError(f"{folder / TENSORS} is no safetensors file: {error}", "Restore it") from error
    units = Units(
        tensors["units.observation_mean"], tensors["units.observation_std"],
        tensors["units.action_low"], tensors["units.action_high"], description["reward_scale"],
        description.get("cost_scale", 1.0),  # earlier versions had none
    )  # fmt: skip
    settings = settings_from(BEFORE.get(description["algorithm"], {}) | description["settings"])
    learner = make_learner(units, TaskLimits(**description["limits"]), settings, description["seed"], device)
    for name, network in learner.networks().items():
        network.load_state_dict(_below(tensors, f"networks.{name}."))
    for name, optimiser in learner.optimisers.items():
        optimiser.restore_state(_below(tensors, f"optimisers.{name}."))
    learner.restore_constants(_below(tensors, "constants."))
    learner.restore_state(description["state"])
    if learner.device.type == description["device"]:  # another kind of device has another kind of generator
        learner.generator.set_state(tensors["generator"])
    learner.steps_done = description["steps_done"]
    return learner, description["dataset_digest"]


def steps_of(folder: Path) -> int:
    """How many gradient steps are behind a checkpoint; raises CheckpointError as load_checkpoint does."""
    return int(_description(folder)["steps_done"])


def _working_folder(parent: Path) -> Path:
    """A fresh folder to write in, on the file system that the result will be on. What a kill leaves of one is no
    checkpoint, by its name."""
    make_folder(parent)
    working = temporary_name(parent / "checkpoint")
    working.mkdir()
    return working


def _put_in_place(working: Path, checkpoint: Path) -> None:
    """Gives a complete folder its name."""
    sync_folder(working)
    if not checkpoint.exists():
        working.rename(checkpoint)
        sync_folder(checkpoint.parent)
        return
    # Content-addressed: the same content is there already, or was before it was damaged. What lies beside it stays.
    for name in (TENSORS, DESCRIPTION):
        if not (checkpoint / name).is_file() or _sha256(checkpoint / name) != _sha256(working / name):
            (working / name).replace(checkpoint / name)
    sync_folder(checkpoint)
    shutil.rmtree(working)
    os.utime(checkpoint)  # it was wanted again just now, for those who remove what is old


def _tensors_of(learner: Learner) -> dict[str, Tensor]:
    tensors = {
        "generator": learner.generator.get_state(),
        "units.observation_mean": learner.units.observation_mean,
        "units.observation_std": learner.units.observation_std,
        "units.action_low": learner.units.action_low, "units.action_high": learner.units.action_high,
    }  # fmt: skip
    for name, tensor in learner.constants().items():
        tensors[f"constants.{name}"] = tensor
    for name, network in learner.networks().items():
        for key, value in network.state_dict().items():
            tensors[f"networks.{name}.{key}"] = value.detach()
    for name, optimiser in learner.optimisers.items():
        for key, value in optimiser.state().items():
            tensors[f"optimisers.{name}.{key}"] = value
    return {key: value.cpu().contiguous() for key, value in tensors.items()}


def _description(folder: Path) -> dict[str, Any]:
    path = folder / DESCRIPTION
    if not path.is_file() or not (folder / TENSORS).is_file():
        raise CheckpointError(
            f"there is no checkpoint in {folder}",
            f"A checkpoint is a folder with {TENSORS} and {DESCRIPTION}; `saferule train` writes one{_newest(folder)}",
        )
    content = path.read_bytes()
    try:
        description = json.loads(content)
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path} is not JSON: {error}", "Restore it, or train again") from error
    if not isinstance(description, dict) or description.get("schema") != SCHEMA:
        found = description.get("schema") if isinstance(description, dict) else description
        raise CheckpointError(f"{path} has schema {found!r}, this version reads {SCHEMA}", "Train again")
    if description.get("algorithm") not in ALGORITHMS:
        raise CheckpointError(
            f"{path} is of algorithm {description.get('algorithm')!r}", f"Known: {', '.join(sorted(ALGORITHMS))}"
        )
    if _id_of(content) != folder.name:
        raise CheckpointError(
            f"{path} is not what the name of its folder says: its content hashes to {_id_of(content)}",
            "It was changed after it was made: restore it, or train again",
        )
    return description


def _newest(missing: Path) -> str:
    """Which checkpoints lie where one was looked for."""
    found = [path.parent for path in missing.parent.glob(f"*/{DESCRIPTION}")]
    found.sort(key=lambda folder: folder.stat().st_mtime, reverse=True)
    return f". The newest there: {', '.join(folder.name for folder in found[:MOST_NAMED])}" if found else ""


def _id_of(description: bytes) -> str:
    """Of a checkpoint, from its description, which has the digest of the tensors."""
    return hashlib.sha256(description).hexdigest()[:ID_LENGTH]


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
