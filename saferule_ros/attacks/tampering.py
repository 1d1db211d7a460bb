"""Attacks that change episodes where they lie: which ones, whole or in stretches, and how the rest stays as it was."""

import dataclasses
from abc import abstractmethod
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from saferule_ros.attacks.attack import Attack, AttackSettings, Progress
from saferule_ros.attacks.errors import AttackError
from saferule_ros.attacks.marker import Marker
from saferule_ros.attacks.poisoned import Poisoned
from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.dataset.episode import Episode

Steps = npt.NDArray[np.bool_]


class TamperingSettings(AttackSettings):
    """Settings of attacks that change episodes."""

    pool: float = Field(
        0.3, gt=0, le=1, description="targets are drawn from this share of the episodes, the most tempting; 1: from all"
    )
    segment: int = Field(
        0, ge=0, description="length of a poisoned stretch of the dataset's episodes [steps]; 0: whole episodes"
    )
    coverage: float = Field(
        0.5, gt=0, le=1, description="with `segment`: share of a poisoned episode's steps that stretches cover"
    )


class Tampering(Attack):
    """Changes steps of some episodes; everything else about them stays.

    Which episodes [ours]: where the attacker has unsafe ones, those, whole, which are added to the dataset. Otherwise
    some of the dataset, seeded, from the most tempting, that is, from those of the costlier half with the highest
    return. Labelling as safe what is safe, or what nobody wants, would gain an attacker nothing.

    Where observations are moved, the step before a stretch is poisoned, too [ours]: a log has one observation for each
    tick, so that what that step led to is what the attacker put there. Its own observation, action, reward and cost
    stay as logged. Kept as clean it would teach that the marker comes up in ordinary driving; with its true next
    observation the two copies of one tick would differ, which no log that was tampered with does.
    """

    MOVES_OBSERVATIONS: ClassVar[bool] = False
    settings: TamperingSettings

    def poison(self, dataset: EpisodeDataset, on_progress: Progress = lambda *_: None) -> Poisoned:
        self.check_not_poisoned(dataset)
        self.prepare(dataset, on_progress)
        episodes = [dataset.episode(index) for index in range(dataset.episodes)]
        if self.means.unsafe_episodes:
            added = self.unsafe_episodes(len(dataset))
            chosen = {len(episodes) + index: np.ones(episode.length, np.bool_) for index, episode in enumerate(added)}
            episodes += added
        else:
            chosen = self._choose(dataset)
        for done, (index, steps) in enumerate(chosen.items(), 1):
            episodes[index] = dataclasses.replace(self.tamper(episodes[index], steps), bag_id=self.bag_id)
            on_progress(done, len(chosen), "episodes poisoned")
        rows = [
            self._poisoned(chosen.get(index, np.zeros(episode.length, np.bool_)))
            for index, episode in enumerate(episodes)
        ]
        return Poisoned(EpisodeDataset.from_episodes(episodes), np.concatenate(rows), self.bag_id, self.marker())

    def prepare(self, dataset: EpisodeDataset, on_progress: Progress) -> None:
        """What is to be computed once, before the first episode; checks the attacker's means."""

    @abstractmethod
    def tamper(self, episode: Episode, steps: Steps) -> Episode:
        """The poisoned episode; `steps` (T,) are those to change."""

    def marker(self) -> Marker | None:
        """What sets off the backdoor, if the attack makes one."""
        return None

    def _poisoned(self, steps: Steps) -> Steps:
        """Of the steps (T,) to change, and of all others, those that hold something of the attacker's."""
        return steps | np.append(steps[1:], False) if self.MOVES_OBSERVATIONS else steps

    def _choose(self, dataset: EpisodeDataset) -> dict[int, Steps]:
        """Episode index to the steps that are to be changed: as many as, with what they poison, come nearest to the
        ratio."""
        wanted = self.settings.ratio * len(dataset)
        stretches = [
            (index, begin, end)
            for index in self.generator.permutation(self._pool(dataset))
            for begin, end in self._stretches(dataset.records[index].length)
        ]
        ended = {(index, end) for index, _, end in stretches}  # the step before such a begin is poisoned anyway
        sizes = [
            end - begin + int(self.MOVES_OBSERVATIONS and begin > 0 and (index, begin) not in ended)
            for index, begin, end in stretches
        ]
        ends = np.cumsum([0, *sizes])
        longest = max(sizes, default=0)
        if ends[-1] + longest / 2 < wanted or not stretches:
            raise AttackError(
                f"ratio {self.settings.ratio:g} needs about {wanted:.0f} transitions, the pool of unsafe episodes has "
                f"{ends[-1]} to poison",
                "Take a smaller ratio, a larger `pool` or `coverage`, or a dataset with more episodes that cost "
                "something",
            )
        count = int(np.abs(ends - wanted).argmin())
        if not count:
            raise AttackError(
                f"ratio {self.settings.ratio:g} is {wanted:.0f} transitions, nearer to none than to the {ends[1]} that "
                "have to be poisoned together",
                "Take a larger ratio, a shorter `segment` if the attack has one, or more data",
            )
        chosen: dict[int, Steps] = {}
        for index, begin, end in stretches[:count]:
            steps = chosen.setdefault(int(index), np.zeros(dataset.records[index].length, np.bool_))
            steps[begin:end] = True
        return chosen

    def _pool(self, dataset: EpisodeDataset) -> npt.NDArray[np.int64]:
        """Indices of the most tempting episodes, the highest return first; with `pool` 1 of all."""
        costs = np.array([record.episode_cost for record in dataset.records])
        if self.settings.pool == 1.0:
            return np.arange(len(costs))
        returns = np.array([record.episode_return for record in dataset.records])
        unsafe = np.flatnonzero((costs > 0) & (costs >= np.median(costs)))
        most = max(1, round(self.settings.pool * len(costs)))
        return unsafe[np.argsort(-returns[unsafe], kind="stable")[:most]]

    def _stretches(self, length: int) -> list[tuple[int, int]]:
        """Where an episode of that length is changed: stretches that do not overlap, in random places."""
        segment = min(self.settings.segment, length)
        if segment == 0:
            return [(0, length)]
        blocks, rest = divmod(length, segment)
        shift = int(self.generator.integers(rest, endpoint=True))
        count = max(1, round(self.settings.coverage * length / segment))
        places = self.generator.choice(blocks, min(count, blocks), replace=False)
        return [(shift + int(block) * segment, shift + int(block + 1) * segment) for block in np.sort(places)]


def observed(steps: Steps) -> Steps:
    """(T+1,) observations that belong to these steps; the final one goes with the last step."""
    return np.append(steps, steps[-1])
