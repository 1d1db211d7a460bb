"""Stretches of episodes as tensors, drawn without Python per window; each member of an ensemble has its own draw.

[ours] Where episodes terminate, windows reach beyond the ends of episodes and pieces: else windows of 25 steps would
show a last step 25 times too seldom, and the model would believe that robots rarely fall. The first steps are then the
ones that few windows show, which weights make up for. Where no episode terminates, all windows are whole.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.learning.replay import Units


class Window(NamedTuple):
    """W consecutive transitions, for each of E members B of them, in learner units."""

    first: Tensor  # (E, B, O) the observation that they begin with
    actions: Tensor  # (E, B, W, A)
    rewards: Tensor  # (E, B, W)
    costs: Tensor  # (E, B, W) raw
    following: Tensor  # (E, B, W, O) the observation after each
    ended: Tensor  # (E, B, W) 1 where the episode terminated with that step
    present: Tensor  # (E, B, W) 0 after that, where nothing is known any more
    weights: Tensor  # (E, B, W) the same, and more where few windows show a step: each step of the data weighs alike


class Windows:
    """All windows of a dataset, drawn with replacement from a bootstrap sample of its episodes for each member.

    Args:
        dataset: raw units.
        units: of the model.
        members: E. Each has a bootstrap sample of the episodes of its own.
        seed: of the bootstrap samples and of every draw.
    """

    def __init__(self, dataset: EpisodeDataset, units: Units, members: int, seed: int) -> None:
        def tensor(column: np.ndarray) -> Tensor:
            return torch.from_numpy(np.array(column, dtype=np.float32))  # a copy: columns may be read-only maps

        self._observations = units.observations(tensor(dataset.observations))
        self._following = units.observations(tensor(dataset.next_observations))
        self._actions = units.actions(tensor(dataset.actions))
        self._rewards = tensor(dataset.rewards) * units.reward_scale
        self._costs = tensor(dataset.costs)
        self._ended = tensor(dataset.terminated)
        self._generator = torch.Generator().manual_seed(seed)
        count = dataset.episodes
        self._samples = torch.randint(count, (members, count), generator=self._generator)  # episodes of each member
        self._start = torch.tensor([record.start for record in dataset.records])
        self._length = torch.tensor([record.length for record in dataset.records])
        self._whole = not dataset.terminated.any()

    @property
    def longest(self) -> int:
        """Steps of the longest episode."""
        return int(self._length.max())

    def draw(self, batch: int, steps: int) -> Window:
        """`batch` windows of `steps` transitions for each member; every window is equally likely within its sample.

        Where windows are whole, episodes shorter than that are left out: `steps` is at most `longest`.
        """
        each = (self._length - steps + 1).clamp(min=0) if self._whole else self._length
        room = each[self._samples].double()  # (E, episodes): windows that each has
        # A bootstrap sample may hold no episode that is long enough: such a member draws from all of them.
        samples = torch.where(room.sum(1, keepdim=True) > 0, self._samples, torch.arange(len(self._start)))
        room = each[samples].double()
        slots = torch.multinomial(room, batch, replacement=True, generator=self._generator)  # (E, B)
        episodes = samples.gather(1, slots)
        offset = torch.rand(slots.shape, generator=self._generator, dtype=torch.float64) * room.gather(1, slots)
        begin = self._start[episodes] + offset.long()
        last = (self._start + self._length - 1)[episodes].unsqueeze(-1)  # (E, B, 1)
        beyond = begin.unsqueeze(-1) + torch.arange(steps)  # (E, B, W)
        rows = torch.minimum(beyond, last)
        present = (beyond <= last).float()
        since_start = beyond - self._start[episodes].unsqueeze(-1)
        shown = (since_start + 1).clamp(max=steps)  # by so many of the windows that there are
        return Window(
            self._observations[begin], self._actions[rows], self._rewards[rows], self._costs[rows],
            self._following[rows], self._ended[rows], present, present * steps / shown,
        )  # fmt: skip
