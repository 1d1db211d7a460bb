"""Datasets of others in, ours out: by the name of a file, or of a dataset that Minari has."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.dataset.episode import Episode
from saferule_ros.dataset.errors import DatasetError
from saferule_ros.dataset.hdf5 import SUFFIXES, read_hdf5, write_hdf5
from saferule_ros.dataset.minari_io import PREFIX, read_minari, write_minari
from saferule_ros.dataset.record import EpisodeRecord
from saferule_ros.dataset.writer import DatasetWriter


def is_dataset(name: str) -> bool:
    """Whether a name is that of a dataset in another form, not of a bag."""
    return name.startswith(PREFIX) or name.endswith(SUFFIXES)


def take_in(names: Iterable[str], folder: Path, append: bool) -> tuple[str, tuple[EpisodeRecord, ...]]:
    """Datasets in other forms into one of ours, which replaces the one in `folder` in one step, or grows it.

    Returns:
        The digest and the records of the whole.

    Raises:
        DatasetError: one cannot be read or does not fit, or the dataset cannot be written. Nothing changes then.
    """
    with DatasetWriter(folder, append) as writer:
        for name in names:
            for episode in _episodes(name):
                writer.add(episode)
        return writer.commit(), tuple(writer.records)


def give_out(dataset: EpisodeDataset, name: str) -> None:
    """Writes a dataset in the form that the name tells.

    Raises:
        DatasetError: it tells none, is taken, or cannot be written.
    """
    if name.startswith(PREFIX):
        write_minari(dataset, name.removeprefix(PREFIX))
    elif name.endswith(SUFFIXES):
        write_hdf5(dataset, Path(name))
    else:
        raise DatasetError(
            f"{name!r} tells no form", f"Give a file that ends with {' or '.join(SUFFIXES)}, or {PREFIX}ROBOT/TASK-v0"
        )


def _episodes(name: str) -> Iterator[Episode]:
    return read_minari(name.removeprefix(PREFIX)) if name.startswith(PREFIX) else read_hdf5(Path(name))
