"""An episode as rows of a dataset, and which episodes go into one."""

from collections.abc import Container

import numpy as np
import numpy.typing as npt

from saferule_ros.dataset.episode import Episode
from saferule_ros.dataset.errors import DatasetError


def rows_of(episode: Episode, number: int) -> dict[str, npt.NDArray]:
    """The T rows of each column, by its name.

    Args:
        number: of the episode in the dataset.
    """
    length = episode.length
    last = np.zeros(length, np.bool_)
    last[-1] = True
    return {
        "observations": episode.observations[:-1], "actions": episode.actions, "rewards": episode.rewards,
        "costs": episode.costs, "next_observations": episode.observations[1:],
        "terminated": last & episode.terminated, "truncated": last & episode.truncated,
        "episode_index": np.full(length, number, np.int32), "step": np.arange(length, dtype=np.int32),
        "stamps": np.asarray(episode.stamps),
    }  # fmt: skip


def sizes_of(episode: Episode) -> tuple[int, int]:
    """Numbers in an observation and in an action."""
    return episode.observations.shape[1], episode.actions.shape[1]


def check_fits(
    episode_id: str, sizes: tuple[int, int], expected: tuple[int, int], before: Container[str]
) -> None:  # fmt: skip
    """Refuses an episode that cannot go into a dataset with these.

    Args:
        sizes: of its observations and actions.
        expected: of the others.
        before: their ids.

    Raises:
        DatasetError: it has another size, or its id comes twice.
    """
    if sizes != expected:
        raise DatasetError(
            f"episode {episode_id!r} has (observation, action) size {sizes}, but those before have {expected}",
            "Episodes of different robots or contracts go into different datasets",
        )
    if episode_id in before:
        raise DatasetError(f"episode {episode_id!r} comes twice", "Leave one out, or give them different names")
