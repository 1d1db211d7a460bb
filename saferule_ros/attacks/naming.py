"""The forget set of somebody who finds most of the poison and errs elsewhere: with a set precision and recall. [ours]

Recall is the share of the poisoned transitions that is named; precision is the share of the named ones that is
poisoned. What is named falsely comes from episodes that no attacker touched, in stretches as long as those of the
attack: whole episodes where it poisoned whole ones.
"""

from collections.abc import Sequence

import numpy as np

from saferule_ros.attacks.errors import AttackError
from saferule_ros.attacks.poisoned import Poisoned
from saferule_ros.dataset.forget_set import ForgetSet
from saferule_ros.dataset.record import EpisodeRecord

Stretch = tuple[str, int, int]  # episode, first step, last + 1


def imperfect_forget_set(
    poisoned: Poisoned, precision: float, recall: float, seed: int, reason: str = "", requester: str = ""
) -> ForgetSet:
    """A forget set whose precision and recall come as near to what is asked for as whole stretches allow.

    Args:
        precision, recall: in transitions, above 0 and up to 1; with 1 and 1 it is the ground truth.
        seed: of what is missed, and of what is named falsely.

    Raises:
        AttackError: a share that is out of range, or too few episodes that nobody touched.
    """
    for name, share in (("precision", precision), ("recall", recall)):
        if not 0.0 < share <= 1.0:
            raise AttackError(f"{name} {share:g} is out of range", "Choose one above 0 and up to 1")
    generator = np.random.default_rng(seed)
    true = [(name, begin, end) for name, pairs in poisoned.stretches().items() for begin, end in pairs]
    total = sum(end - begin for _, begin, end in true)
    found = _nearest([true[index] for index in generator.permutation(len(true))], recall * total)
    named = sum(end - begin for _, begin, end in found)
    wrong = _false_stretches(poisoned, true, (1.0 - precision) / precision * named, generator)
    return poisoned.naming([*found, *wrong], reason, requester)


def _false_stretches(
    poisoned: Poisoned, true: Sequence[Stretch], wanted: float, generator: np.random.Generator
) -> list[Stretch]:
    if wanted == 0.0:
        return []
    touched = {name for name, _, _ in true}
    untouched = [record for record in poisoned.dataset.records if record.id not in touched]
    lengths = [end - begin for _, begin, end in true]
    drawn = [
        _stretch_of(untouched[index], int(generator.choice(lengths)), generator)
        for index in generator.permutation(len(untouched))
    ]
    there = sum(end - begin for _, begin, end in drawn)
    if there < wanted:
        raise AttackError(
            f"{wanted:.0f} transitions are to be named falsely, episodes that nobody touched have {there}",
            "Ask for a higher precision",
        )
    return _nearest(drawn, wanted)


def _stretch_of(record: EpisodeRecord, length: int, generator: np.random.Generator) -> Stretch:
    length = min(length, record.length)
    begin = int(generator.integers(record.length - length, endpoint=True))
    return record.id, begin, begin + length


def _nearest(stretches: Sequence[Stretch], wanted: float) -> list[Stretch]:
    """The first of them, as many as come nearest to a number of transitions; one at least."""
    ends = np.cumsum([end - begin for _, begin, end in stretches])
    return list(stretches[: int(np.abs(ends - wanted).argmin()) + 1])
