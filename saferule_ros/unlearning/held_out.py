"""Part of D_f and of D_k that a run does not train on, so that its certificate is measured on pairs it never saw.

Whole episodes are withheld, with all of their pieces, as steps of one episode resemble each other. Where the share is
less than one episode (D_f is often a single one), stretches of steps are withheld instead, from all over the episodes.

What withholding costs [ours], measured once: one BCQ-Lag agent on Circle with injected episodes, Safe-RULE of 600
steps, four seeds, mean simulated cost with limit 25: 7 with nothing withheld (seeds 0 to 23), 8 with a fifth (0 to 16),
18 with half of both (0 to 36: two seeds over the limit), 0 to 3 with half of D_f alone. The certificate held in
all of them. A fifth is the default: as safe as none there, and some hundred pairs of a single forgotten episode remain
to judge by. Withhold more where D_f is large, nothing where every step of it must be shown to the run.
"""

from typing import NamedTuple

import numpy as np

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.dataset.pieces import split_steps, wholes

# An episode is withheld from in so many stretches: long enough that most steps have their neighbours on the same
# side, and enough of them that beginning, middle and end are likely on both.
STRETCHES = 10


class Parts(NamedTuple):
    """A dataset in two."""

    used: EpisodeDataset
    held_out: EpisodeDataset | None  # None: nothing was withheld


def hold_out(dataset: EpisodeDataset, share: float, seed: int) -> Parts:
    """Withholds a share of a dataset.

    Args:
        share: of the episodes, 0 to 0.5; 0 withholds nothing. At least one episode, or stretch of steps, is withheld
            otherwise, and one is always left; a dataset of one transition cannot be divided.
        seed: of which ones.
    """
    if share == 0.0 or len(dataset) < 2:
        return Parts(dataset, None)
    generator = np.random.default_rng(seed)
    episodes = wholes(dataset).of_record[dataset.episode_index]  # (N,)
    units = episodes if share * (int(episodes.max()) + 1) >= 1.0 else _stretches(dataset)
    count = int(units.max()) + 1
    withheld = generator.permutation(count)[: min(max(round(share * count), 1), count - 1)]
    held_out, used = split_steps(dataset, np.isin(units, withheld))
    return Parts(used, held_out)


def _stretches(dataset: EpisodeDataset) -> np.ndarray:
    """Number (N,) of the stretch that each transition is in, counted through all episodes."""
    numbers, first = [], 0
    for record in dataset.records:
        count = min(STRETCHES, record.length)
        numbers.append(first + np.arange(record.length) * count // record.length)
        first += count
    return np.concatenate(numbers)
