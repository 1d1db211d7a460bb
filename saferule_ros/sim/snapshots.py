"""Policies that random search kept on its way, and the cache that holds them: learned once, used ever after."""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from saferule_ros.dataset.durable import write_atomically
from saferule_ros.errors import SaferuleError
from saferule_ros.sim.recipes import Recipe

# Part of every name in the cache: what is learned in another way gets another name.
CACHE_SCHEMA = 1
_NAME_LENGTH = 16  # hex digits of a SHA-256: two recipes of a task do not meet by chance


@dataclass(frozen=True)
class Snapshots:
    """K policies of one task.

    Attributes:
        controller: name of their kind.
        parameters: (K, …).
        mean, std: (K, O), by which each sees observations.
        returns, costs: (K,), what each brought in full episodes without noise.
    """

    controller: str
    parameters: NDArray[np.float64]
    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    returns: NDArray[np.float64]
    costs: NDArray[np.float64]

    @classmethod
    def of(
        cls, controller: str, kept: Sequence[tuple[NDArray[np.float64], tuple[NDArray, NDArray], float, float]]
    ) -> Snapshots:
        """From (parameters, (mean, std), return, cost) of each."""
        parameters, scales, returns, costs = zip(*kept, strict=True)
        mean, std = zip(*scales, strict=True)
        return cls(controller, np.stack(parameters), np.stack(mean), np.stack(std), np.array(returns), np.array(costs))

    def save(self, path: Path) -> None:
        """Writes it in one step; durable on return."""
        content = io.BytesIO()
        np.savez(content, controller=np.array(self.controller), **{name: getattr(self, name) for name in _ARRAYS})
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content.getvalue())

    @classmethod
    def load(cls, path: Path) -> Snapshots:
        """Reads what `save` wrote.

        Raises:
            SaferuleError: it cannot be read.
        """
        try:
            with np.load(path, allow_pickle=False) as stored:
                return cls(str(stored["controller"]), **{name: stored[name] for name in _ARRAYS})
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise SaferuleError(
                f"the learned drivers in {str(path)!r} cannot be read: {error}",
                "Delete that file: `saferule collect` learns them again",
            ) from error


_ARRAYS = ("parameters", "mean", "std", "returns", "costs")


def cached_at(task_id: str, recipe: Recipe) -> Path:
    """Where the drivers of a task lie once they are learned: below XDG_CACHE_HOME, or ~/.cache."""
    content = json.dumps([CACHE_SCHEMA, task_id, recipe.learned_from()], sort_keys=True)
    name = hashlib.sha256(content.encode()).hexdigest()[:_NAME_LENGTH]
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "saferule_ros" / "drivers" / f"{task_id}-{name}.npz"
