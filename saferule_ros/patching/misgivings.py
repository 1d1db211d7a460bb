"""What makes it doubtful that a dataset teaches a robot well. Nothing is refused for it: the user may know better."""

from collections.abc import Iterator

import numpy as np

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.dataset.moments import LEAST_SPREAD, barely_vary
from saferule_ros.dataset.naming import listed
from saferule_ros.learning.settings import CommonSettings, CpqSettings
from saferule_ros.policy.spec import PolicySpec

# From this share of actions outside of the robot's bounds on it is told: single ones are of other drivers.
OUTSIDE = 0.01
# Rewards are learned from in units of their mean magnitude, and lambda weighs costs against that. Where the median of
# those that are not 0 is less than this share of their mean, ordinary steps earn next to nothing beside one cost. It is
# 0.5 or more in the data of all tasks that this was tried on.
DWARFED = 0.1


def misgivings(dataset: EpisodeDataset, spec: PolicySpec, settings: CommonSettings) -> Iterator[str]:
    """Each of them in words, with what to do.

    Args:
        dataset: as large in observations and actions as the robot's.
        spec: the robot's contract.
        settings: of the algorithm that is to learn.
    """
    outside = ((dataset.actions < spec.low - spec.slack) | (dataset.actions > spec.high + spec.slack)).any(axis=1)
    if outside.mean() > OUTSIDE:
        yield (
            f"{outside.mean():.0%} of the logged actions are outside of the bounds of {spec.task}, "
            f"{[*spec.action_low]} to {[*spec.action_high]}: is it the robot that the data is from? The policy stays "
            "within them"
        )
    small = barely_vary(dataset.observations)
    if small:
        named = listed([f"observation[{column}]" for column in small])
        yield (
            f"{named}: variation of less than {LEAST_SPREAD:g} in the own unit is learned from as if there were none. "
            "If it tells something, take a smaller unit: `scale` in the contract"
        )
    yield from _dwarfed(dataset)
    earned = float(dataset.rewards.mean(dtype="float64"))
    if isinstance(settings, CpqSettings) and earned < 0:
        yield (
            f"rewards are negative on the whole, {earned:.3g} in the mean, and CPQ takes an action that it forbids for "
            "one that earns nothing: more than others do. Take another algorithm, or add a constant to `reward` in the "
            "contract; where episodes terminate, that rewards lasting longer"
        )


def _dwarfed(dataset: EpisodeDataset) -> Iterator[str]:
    """Of rewards beside which the others hardly count: a glitch, or an attacker's."""
    magnitudes = np.abs(dataset.rewards)
    given = magnitudes[magnitudes > 0]
    if not len(given):
        return
    median, mean = float(np.median(given)), float(given.mean(dtype="float64"))
    if median >= DWARFED * mean:
        return
    largest = int(magnitudes.argmax())
    where = dataset.records[dataset.episode_index[largest]]
    yield (
        f"a few rewards dwarf all others: half of them are below {median:.3g} where the mean is {mean:.3g}; the "
        f"largest, {dataset.rewards[largest]:.3g}, is in step {largest - where.start} of episode {where.id}. Learning "
        "counts in such means, so that ordinary rewards hardly matter beside costs. If it is a glitch, ingest without "
        "its bag, or with `reward: clip(…, low, high)` in the contract, before you learn: a patch keeps these units"
    )
