"""Datasets in and out of Minari (https://minari.farama.org), where it is installed. Costs stand in infos["cost"].

Minari is no dependency of the package. Version 0.5.0 is locked beside the simulator (requirements/sim.in): newer ones
need a newer Gymnasium than Safety-Gymnasium does.
"""

from collections.abc import Iterator

import numpy as np

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.dataset.episode import Episode
from saferule_ros.dataset.errors import DatasetError

PREFIX = "minari:"
_COST = "cost"


def write_minari(dataset: EpisodeDataset, name: str) -> None:
    """Makes a new dataset in Minari's own folder ($MINARI_DATASETS_PATH).

    Args:
        dataset: what to write. Names of episodes, bags and policies have no place there.
        name: as Minari wants it: "robot/task-v0".

    Raises:
        DatasetError: Minari refuses the name, or has it already.
    """
    import gymnasium
    import minari
    from minari.data_collector import EpisodeBuffer

    def box(size: int) -> gymnasium.Space:
        return gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float32)

    buffers = []
    for number in range(dataset.episodes):
        episode = dataset.episode(number)
        last = np.zeros(episode.length, np.bool_)
        last[-1] = True
        # Minari has one info more than steps: that of the reset, which costs nothing.
        costs = np.concatenate([np.zeros(1, np.float32), episode.costs])
        buffers.append(
            EpisodeBuffer(
                id=number, observations=episode.observations, actions=episode.actions,
                rewards=list(episode.rewards), terminations=list(last & episode.terminated),
                truncations=list(last & episode.truncated), infos={_COST: costs},
            )
        )  # fmt: skip
    try:
        minari.create_dataset_from_buffers(
            name, buffers, observation_space=box(dataset.observation_size), action_space=box(dataset.action_size),
            algorithm_name="recorded", description=f"saferule_ros dataset {dataset.digest}",
        )  # fmt: skip
    except (ValueError, OSError) as error:
        raise DatasetError(f"Minari refuses {name!r}: {error}", "Names are NAMESPACE/NAME-vN, new ones") from error


def read_minari(name: str) -> Iterator[Episode]:
    """The episodes of a dataset that Minari has on this machine, one after the other.

    Raises:
        DatasetError: it has none of this name, without costs, or with other than flat vectors.
    """
    import minari

    try:
        found = minari.load_dataset(name)
    except (FileNotFoundError, ValueError, KeyError) as error:
        raise DatasetError(f"Minari has no dataset {name!r}: {error}", "See `minari list local`") from error
    label = name.replace("/", "-")
    for number, episode in enumerate(found.iterate_episodes()):
        infos = episode.infos or {}
        if _COST not in infos:
            raise DatasetError(f"episode {number} of {name!r} has no costs", f'They stand in infos["{_COST}"]')
        length = len(episode.rewards)
        terminated = bool(episode.terminations[-1])
        yield Episode(
            id=f"{label}-{number:06d}", bag_id=label, observations=episode.observations, actions=episode.actions,
            rewards=episode.rewards, costs=np.asarray(infos[_COST])[-length:], terminated=terminated,
            truncated=bool(episode.truncations[-1]) or not terminated,
        )  # fmt: skip
