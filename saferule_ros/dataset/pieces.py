"""Episodes cut into pieces, so that single steps of one can be forgotten, or withheld, and the others kept."""

import dataclasses
import itertools
import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.dataset.episode import Episode

# How a piece's name ends; one of a piece has two such ends.
_CUT = re.compile(r"(\[\d+:\d+\])+$")


def is_piece(name: str) -> bool:
    """Whether an episode of this name is a piece of one."""
    return _CUT.search(name) is not None


def whole_name(name: str) -> str:
    """Name of the episode that a piece was cut from; that of a whole episode as it is."""
    return _CUT.sub("", name)


class Wholes(NamedTuple):
    """The W episodes that the records of a dataset are of, or pieces of; sums are over what of each is in it."""

    of_record: npt.NDArray[np.intp]  # (E,) number of the episode that each record is of
    lengths: npt.NDArray[np.int64]  # (W,)
    returns: npt.NDArray[np.float64]  # (W,)
    costs: npt.NDArray[np.float64]  # (W,)
    cut: npt.NDArray[np.bool_]  # (W,) only pieces of it are here
    terminated: npt.NDArray[np.bool_]  # (W,) ended by itself, as far as is known here


def wholes(dataset: EpisodeDataset) -> Wholes:
    """Which records belong together. Episodes are numbered in the order of their first record."""
    names = [whole_name(record.id) for record in dataset.records]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    of_record = np.array([numbers[name] for name in names])

    def summed(values: list[float]) -> npt.NDArray[np.float64]:
        return np.bincount(of_record, weights=values, minlength=len(numbers)).astype(np.float64)

    return Wholes(
        of_record,
        summed([record.length for record in dataset.records]).astype(np.int64),
        summed([record.episode_return for record in dataset.records]),
        summed([record.episode_cost for record in dataset.records]),
        summed([is_piece(record.id) for record in dataset.records]) > 0,
        summed([record.terminated for record in dataset.records]) > 0,
    )


def piece(episode: Episode, begin: int, end: int) -> Episode:
    """Steps begin … end-1 as an episode: truncated where the cut is, as the state went on.

    It is named ID[begin:end]. The end's `lost` goes with the last piece; how many of the episode's `fallbacks` are in
    it is not known, so none are counted.
    """
    if (begin, end) == (0, episode.length):
        return episode
    last = end == episode.length
    return dataclasses.replace(
        episode, id=f"{episode.id}[{begin}:{end}]", first_step=episode.first_step + begin,
        observations=episode.observations[begin : end + 1], actions=episode.actions[begin:end],
        rewards=episode.rewards[begin:end], costs=episode.costs[begin:end],
        stamps=None if episode.stamps is None else episode.stamps[begin:end],
        terminated=episode.terminated and last, truncated=episode.truncated or not last,
        fallbacks=0, lost=episode.lost if last else 0,
    )  # fmt: skip


def split_steps(dataset: EpisodeDataset, chosen: npt.NDArray[np.bool_]) -> tuple[EpisodeDataset, EpisodeDataset]:
    """Two datasets: the chosen transitions and the others, each in the dataset's order.

    An episode that lies wholly in one of them stays as it is; others are cut.

    Args:
        chosen: (N,), one for each transition.

    Raises:
        DatasetError: one part would be empty.
    """
    parts: tuple[list[Episode], list[Episode]] = ([], [])
    for index, record in enumerate(dataset.records):
        episode = dataset.episode(index)
        rows = chosen[record.start : record.start + record.length]
        for begin, end in _runs(rows):
            parts[0 if rows[begin] else 1].append(piece(episode, begin, end))
    return EpisodeDataset.from_episodes(parts[0]), EpisodeDataset.from_episodes(parts[1])


def true_runs(flags: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Begin and end of each stretch of True among flags (N,), in their order; N is 1 or more."""
    return [(begin, end) for begin, end in _runs(flags) if flags[begin]]


def _runs(flags: npt.NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """Begin and end of each stretch of equal flags (N,), in their order."""
    changes = np.flatnonzero(np.diff(flags)) + 1
    bounds = [0, *(int(change) for change in changes), len(flags)]
    yield from itertools.pairwise(bounds)
