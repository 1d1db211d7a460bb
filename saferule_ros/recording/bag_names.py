"""One id, one bag: data is forgotten by the ids of bags, so that no two may share one."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from saferule_ros.dataset.record import EpisodeRecord
from saferule_ros.recording.bag_files import name_of_place
from saferule_ros.recording.errors import BagError

# Episodes by their ids and digests.
_Episodes = frozenset[tuple[str, str]]


def ids_of_bags(
    given: Sequence[tuple[str, Path]], found: Sequence[Sequence[EpisodeRecord]], known: Iterable[EpisodeRecord]
) -> list[str]:
    """Under which id each of several bags goes into a dataset.

    A bag keeps the id that its recorder gave it, whatever its folder is called by now. Where another bag has that id
    already, it goes by the name of its folder, if that is another one. One without an episode takes no id from others.

    Args:
        given: the bags' own ids, and where they lie.
        found: their episodes.
        known: the episodes that are in the dataset and stay. A bag of them comes again if all its episodes do.

    Raises:
        BagError: two different bags have one id, and the names of their folders do not tell them apart.
    """
    in_dataset = _by_bag(known)
    ids: dict[int, str] = {}
    # First those whose folders have no other name to give.
    for number in sorted(range(len(given)), key=lambda number: name_of_place(given[number][1]) != given[number][0]):
        bag_id, place = given[number]
        if not found[number]:
            continue
        episodes = _Episodes((record.id, record.digest) for record in found[number])
        names = dict.fromkeys((bag_id, name_of_place(place)))
        free = (
            name for name in names if name not in ids.values() and in_dataset.get(name, _Episodes()) <= episodes
        )  # fmt: skip
        ids[number] = next(free, "")
        if not ids[number]:
            raise _taken(bag_id, place, next((given[other][1] for other, name in ids.items() if name == bag_id), None))
    return [ids.get(number, bag_id) for number, (bag_id, _) in enumerate(given)]


def _by_bag(records: Iterable[EpisodeRecord]) -> Mapping[str, _Episodes]:
    bags: dict[str, set[tuple[str, str]]] = {}
    for record in records:
        bags.setdefault(record.bag_id, set()).add((record.id, record.digest))
    return {name: _Episodes(episodes) for name, episodes in bags.items()}


def _taken(bag_id: str, place: Path, other: Path | None) -> BagError:
    hint = "Name each bag once; of two different bags with one id, rename the folder of one: it then goes by that name"
    if other is not None:
        return BagError(f"{str(place)!r} and {str(other)!r} both are bag {bag_id!r}", hint)
    return BagError(
        f"{str(place)!r} is bag {bag_id!r}, but the dataset's bag {bag_id!r} has episodes that are not in it",
        "If it is another bag, rename its folder: it then goes by that name. If episodes of it are gone, ingest "
        "without --append what is to be in the dataset",
    )
