"""Forget sets: which episodes, or steps of them, of which dataset are to be forgotten, why, and who asked."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.dataset.durable import TEMPORARY_PREFIX, write_atomically
from saferule_ros.dataset.errors import ForgetSetError
from saferule_ros.dataset.naming import unknown_names
from saferule_ros.dataset.pieces import split_steps, true_runs
from saferule_ros.dataset.selection import Selection, StepRange, TimeWindow
from saferule_ros.syncing import make_folder

FORGET_SET_SCHEMA = "saferule_ros/forget-set/1"
# 64 bits of the digest, as for policy bundles: short enough to type, long enough not to meet by chance.
ID_LENGTH = 16

# Parts of a selection that do not name episodes or steps one by one.
_RULES = ("time_windows", "policy_ids", "recorded_by", "where")


@dataclass(frozen=True)
class ForgetSet:
    """An immutable selection of episodes and of single steps, named by its content.

    Attributes:
        id: first 16 hex digits of the SHA-256 of everything else.
        dataset_digest: the dataset that it selects from.
        episode_ids: sorted, each once.
        reason: why, for the record.
        requester: who asks, for the record.
        created: ISO 8601, UTC.
        steps: of episodes that are not forgotten as a whole: the ranges that are; sorted.
        rules: by which they were found, where they were not named one by one: for the record.
    """

    id: str
    dataset_digest: str
    episode_ids: tuple[str, ...]
    reason: str
    requester: str
    created: str
    steps: tuple[StepRange, ...] = ()
    rules: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def select(
        cls,
        dataset: EpisodeDataset,
        bag_ids: Iterable[str] = (),
        episode_ids: Iterable[str] = (),
        reason: str = "",
        requester: str = "",
        steps: Iterable[StepRange] = (),
        time_windows: Iterable[TimeWindow] = (),
        policy_ids: Iterable[str] = (),
        recorded_by: Iterable[str] = (),
        where: str = "",
    ) -> "ForgetSet":
        """Every transition that any of these names: see `Selection` for what they mean.

        Raises:
            ForgetSetError: an unknown name or column (the closest are named), steps that an episode does not have, a
                rule that nothing matches, nothing selected, nothing left to keep, or words that are no valid text.
        """
        for name, text in (("reason", reason), ("requester", requester), ("where", where)):
            _check_text(name, text)
        asked = Selection(
            tuple(bag_ids), tuple(episode_ids), tuple(sorted(steps)), tuple(sorted(time_windows)),
            tuple(sorted(policy_ids)), tuple(sorted(recorded_by)), where,
        )  # fmt: skip
        chosen = asked.rows(dataset)
        if not chosen.any():
            raise ForgetSetError(
                "the forget set is empty: no bag and no episode was named",
                f"Name bags or episodes of the dataset's {dataset.episodes} episodes",
            )
        if chosen.all():
            raise ForgetSetError(
                f"nothing would be left to keep: all {dataset.episodes} episodes of the dataset are selected",
                "Unlearning needs data to keep; where all of it is bad, learn anew from other data",
            )
        names, ranges = _as_episodes(dataset, chosen)
        created = datetime.now(UTC).isoformat(timespec="milliseconds")
        # Named one by one, what was asked is what is stored; otherwise both are.
        by_rule = {name: _plain(value) for name, value in asked.to_dict().items() if name in _RULES}
        content = (dataset.digest, names, reason, requester, created, ranges, by_rule)
        return cls(_content_id(*content), *content)

    def split(
        self, dataset: EpisodeDataset, earlier: Iterable["ForgetSet"] = ()
    ) -> tuple[EpisodeDataset, EpisodeDataset]:
        """The dataset's two parts: (D_f to forget, D_k to keep), both in the dataset's order.

        Episodes of which single steps are forgotten are cut: pieces of them lie in both parts.

        Args:
            earlier: what was to be forgotten before, and belongs to D_f as well: what is in D_k is learned from.

        Raises:
            ForgetSetError: the dataset is not the one that was selected from, or one part is empty.
        """
        sets = (self, *earlier)
        for one in sets:
            if dataset.digest != one.dataset_digest:
                raise ForgetSetError(
                    f"forget set {one.id} was made for dataset {one.dataset_digest[:ID_LENGTH]}…, "
                    f"this one is {dataset.digest[:ID_LENGTH]}…",
                    "Make a new forget set from the dataset as it is now",
                )
        chosen = np.logical_or.reduce([one.chosen(dataset) for one in sets])
        if not chosen.any() or chosen.all():
            names = " and ".join(one.id for one in sets)
            raise ForgetSetError(
                f"forget set {names} leaves {(~chosen).sum()} transitions to keep and {chosen.sum()} to forget",
                "Both need at least one",
            )
        return split_steps(dataset, chosen)

    def chosen(self, dataset: EpisodeDataset) -> npt.NDArray[np.bool_]:
        """Which transitions (N,) of the dataset that it was made for are selected."""
        return Selection(episode_ids=self.episode_ids, steps=self.steps).rows(dataset)

    def save(self, folder: Path | str) -> Path:
        """Writes <folder>/<id>.json, durable on return. Saving the same set again changes nothing.

        Raises:
            ForgetSetError: the folder cannot be written.
        """
        path = Path(folder) / f"{self.id}.json"
        try:
            make_folder(path.parent)
            write_atomically(path, json.dumps({"schema": FORGET_SET_SCHEMA, **asdict(self)}, indent=1).encode())
        except OSError as error:
            raise ForgetSetError(
                f"forget set {self.id} cannot be written to {str(folder)!r}: {error}",
                "Make room or give a folder that this user may write to",
            ) from error
        return path

    @classmethod
    def ids(cls, folder: Path | str) -> list[str]:
        """Ids of the sets that are saved in a folder, sorted.

        What a killed `save` left half-written is none. It stays: whether its writer still lives cannot be told.
        """
        names = (path.stem for path in Path(folder).glob("*.json"))
        return sorted(name for name in names if not name.startswith(TEMPORARY_PREFIX))

    @classmethod
    def load(cls, folder: Path | str, id: str) -> "ForgetSet":
        """Reads a saved set and checks that its content is what its id says.

        Raises:
            ForgetSetError: unknown id (the closest are named), damaged or tampered with.
        """
        known = cls.ids(folder)
        if id not in known:
            error = unknown_names("forget set", [id], known)
            raise ForgetSetError(error.what, error.hint)
        path = Path(folder) / f"{id}.json"
        try:
            stored = json.loads(path.read_bytes())
            if stored.pop("schema") != FORGET_SET_SCHEMA:
                raise ValueError(f"it is not of schema {FORGET_SET_SCHEMA!r}")
            lists = {"episode_ids": tuple(stored["episode_ids"]), "steps": tuple(map(tuple, stored.get("steps", ())))}
            found = cls(**{**stored, **lists})
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ForgetSetError(f"{str(path)!r} cannot be read: {error}", "Make the forget set again") from error
        content = (found.dataset_digest, found.episode_ids, found.reason, found.requester, found.created, found.steps,
                   found.rules)  # fmt: skip
        if not found.id == id == _content_id(*content):
            raise ForgetSetError(
                f"{str(path)!r} is not what its id says: its content hashes to {_content_id(*content)}",
                "It was changed after it was made. Make the forget set again",
            )
        return found


def _check_text(name: str, text: str) -> None:
    """Python keeps bytes of a command line that are no UTF-8 as lone surrogates, which nothing can store as text."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ForgetSetError(
            f"{name} {text[:100]!r} is no valid text: character {error.start} ({text[error.start]!r}) cannot be "
            "written as UTF-8",
            "Type it in UTF-8: in a shell with another encoding, set LANG to one that ends with .UTF-8",
        ) from error


def _as_episodes(
    dataset: EpisodeDataset, chosen: npt.NDArray[np.bool_]
) -> tuple[tuple[str, ...], tuple[StepRange, ...]]:
    """Transitions (N,) as whole episodes, sorted, and ranges of steps of others."""
    names, ranges = [], []
    for record in dataset.records:
        rows = chosen[record.start : record.start + record.length]
        if rows.all():
            names.append(record.id)
        elif rows.any():
            ranges += [(record.id, begin, end) for begin, end in true_runs(rows)]
    return tuple(sorted(names)), tuple(sorted(ranges))


def _plain(value: Any) -> Any:
    """As JSON gives it back."""
    return [_plain(entry) for entry in value] if isinstance(value, tuple) else value


def _content_id(
    dataset_digest: str, episode_ids: tuple[str, ...], reason: str, requester: str, created: str,
    steps: tuple[StepRange, ...], rules: Mapping[str, Any],
) -> str:  # fmt: skip
    content: list[Any] = [FORGET_SET_SCHEMA, dataset_digest, list(episode_ids), reason, requester, created]
    # Only where there are any, so that sets without keep the ids that they always had.
    if steps or rules:
        content.append([list(found) for found in steps])
    if rules:
        content.append(dict(rules))
    text = json.dumps(content, separators=(",", ":"), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:ID_LENGTH]
