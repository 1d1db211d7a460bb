"""What data a judge needs. Without torch, so that it can be asked before anything slow begins."""

import numpy as np
import numpy.typing as npt

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.dataset.pieces import wholes
from saferule_ros.errors import SaferuleError

# A model that knows nothing ranks two or three episodes well in every second case; ten, with a correlation of 0.8 or
# more, in one of 270.
LEAST_HELD_OUT = 10
# As many again to learn from.
LEAST_EPISODES = 2 * LEAST_HELD_OUT


class CannotJudge(SaferuleError):
    """No model can be learned and checked with such data."""


def episodes_to_judge_by(dataset: EpisodeDataset) -> npt.NDArray[np.int64]:
    """The number of each record's episode, (records,): pieces of one have the same.

    Raises:
        CannotJudge: fewer than LEAST_EPISODES.
    """
    episode_of = wholes(dataset).of_record
    episodes = int(episode_of.max()) + 1
    if episodes < LEAST_EPISODES:
        raise CannotJudge(
            f"there are {episodes} episodes to learn from",
            f"A judge needs {LEAST_EPISODES} or more, to learn from and to be checked by",
        )
    return episode_of
