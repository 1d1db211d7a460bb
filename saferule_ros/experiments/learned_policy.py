"""A checkpoint's policy as a function from observation to action, which any simulator process loads for itself."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from saferule_ros.learning.checkpoint import load_checkpoint
from saferule_ros.learning.serving_policy import ServingPolicy
from saferule_ros.learning.trainer import limit_threads
from saferule_ros.sim.evaluate import Lazily
from saferule_ros.sim.rollout import Act


def policy_of(checkpoint: Path) -> Lazily:
    """The policy that a robot would serve; torch's rather than the ONNX file's, which differ by about 1e-6."""
    return Lazily(_load, checkpoint)


def _load(checkpoint: Path) -> Act:
    limit_threads(1)
    policy = ServingPolicy(load_checkpoint(checkpoint)[0]).eval().requires_grad_(False)

    def act(observation: NDArray[np.float32]) -> NDArray[Any]:
        action = policy(torch.from_numpy(np.ascontiguousarray(observation)).unsqueeze(0))  # (1, A)
        return action.squeeze(0).numpy()

    return act
