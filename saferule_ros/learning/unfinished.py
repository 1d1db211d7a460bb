"""Learning, or unlearning, that was stopped, on disk: the same call goes on from there, bit for bit."""

import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from saferule_ros.dataset.durable import write_atomically
from saferule_ros.learning.checkpoint import CheckpointError, load_checkpoint, save_checkpoint, steps_of
from saferule_ros.learning.learner import Learner

# A kill without warning costs at most this much work [s].
SAVE_EVERY = 60.0
POINTER = "latest.json"


class Kept(NamedTuple):
    """What was saved."""

    learner: Learner
    more: dict[str, Any]
    tensors: dict[str, Tensor]


class Unfinished:
    """A folder with the learner as it last was, and nothing while nothing was saved.

    Args:
        folder: of this learning alone: whatever it depends on belongs into its name.
        save_every: seconds.
    """

    def __init__(self, folder: Path, save_every: float = SAVE_EVERY) -> None:
        self.folder, self._save_every = folder, save_every
        self._saved = time.monotonic()

    @property
    def due(self) -> bool:
        """Whether it should be saved again, should it be killed without warning."""
        return time.monotonic() - self._saved > self._save_every

    @property
    def steps(self) -> int:
        """How many steps are behind what was saved last; 0 if nothing is there."""
        pointer = self.folder / POINTER
        return steps_of(self.folder / json.loads(pointer.read_bytes())["checkpoint_id"]) if pointer.exists() else 0

    def load(self, device: torch.device | str = "cpu") -> Kept | None:
        """What was saved last; None if nothing is there.

        Raises:
            CheckpointError: what is there is damaged.
        """
        pointer = self.folder / POINTER
        if not pointer.exists():
            return None
        stored = json.loads(pointer.read_bytes())
        checkpoint_id = stored.pop("checkpoint_id")
        learner, _ = load_checkpoint(self.folder / checkpoint_id, device)
        beside = self._beside(checkpoint_id)
        try:
            tensors = load_file(beside, torch.device(device).type) if beside.exists() else {}
        except SafetensorError as error:
            raise CheckpointError(f"{beside} is no safetensors file: {error}", "Remove its folder") from error
        return Kept(learner, stored, tensors)

    def save(self, learner: Learner, tensors: Mapping[str, Tensor] | None = None, **more: Any) -> None:
        """Keeps it in place of what was there, durably, with tensors and, as JSON, whatever else is given."""
        checkpoint_id = save_checkpoint(learner, self.folder, dataset_digest="")
        beside = self._beside(checkpoint_id)
        if tensors:
            write_atomically(beside, save({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}))
        content: Mapping[str, Any] = {"checkpoint_id": checkpoint_id, **more}
        write_atomically(self.folder / POINTER, json.dumps(content).encode())
        for older in self.folder.iterdir():
            if older.is_dir() and older.name != checkpoint_id:
                shutil.rmtree(older)
            elif older.suffix == beside.suffix and older != beside:
                older.unlink()
        self._saved = time.monotonic()

    def _beside(self, checkpoint_id: str) -> Path:
        return self.folder / f"{checkpoint_id}.safetensors"

    def discard(self) -> None:
        """Removes it; to be called once the result is saved elsewhere."""
        shutil.rmtree(self.folder, ignore_errors=True)
