"""Forget sets: which episodes of which dataset are to be forgotten, why, and who asked."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.dataset.durable import write_atomically
from saferule_ros.dataset.errors import DatasetError, ForgetSetError
from saferule_ros.dataset.naming import unknown_names

FORGET_SET_SCHEMA = "saferule_ros/forget-set/1"
# 64 bits of the digest, as for policy bundles: short enough to type, long enough not to meet by chance.
ID_LENGTH = 16


@dataclass(frozen=True)
class ForgetSet:
    """An immutable selection of whole episodes, named by its content.

    Attributes:
        id: first 16 hex digits of the SHA-256 of everything else.
        dataset_digest: the dataset that it selects from.
        episode_ids: sorted, each once.
        reason: why, for the record.
        requester: who asks, for the record.
        created: ISO 8601, UTC.
    """

    id: str
    dataset_digest: str
    episode_ids: tuple[str, ...]
    reason: str
    requester: str
    created: str

    @classmethod
    def select(
        cls,
        dataset: EpisodeDataset,
        bag_ids: Iterable[str] = (),
        episode_ids: Iterable[str] = (),
        reason: str = "",
        requester: str = "",
    ) -> "ForgetSet":
        """Every episode of these bags, and these single episodes.

        Raises:
            ForgetSetError: an unknown bag or episode (the closest are named), nothing selected, or nothing
                left to keep.
        """
        try:
            indices = dataset.indices_of(bag_ids, episode_ids)
        except DatasetError as error:
            raise ForgetSetError(error.what, error.hint) from error
        if not len(indices):
            raise ForgetSetError(
                "the forget set is empty: no bag and no episode was named",
                f"Name bags or episodes of the dataset's {dataset.episodes} episodes",
            )
        if len(indices) == dataset.episodes:
            raise ForgetSetError(
                f"nothing would be left to keep: all {dataset.episodes} episodes of the dataset are selected",
                "Unlearning needs data to keep; where all of it is bad, learn anew from other data",
            )
        names = tuple(sorted(dataset.records[index].id for index in indices))
        created = datetime.now(UTC).isoformat(timespec="milliseconds")
        content = (dataset.digest, names, reason, requester, created)
        return cls(_content_id(*content), *content)

    def split(self, dataset: EpisodeDataset) -> tuple[EpisodeDataset, EpisodeDataset]:
        """The dataset's two parts: (D_f to forget, D_k to keep), both in the dataset's order.

        Raises:
            ForgetSetError: the dataset is not the one that was selected from, or one part is empty.
        """
        if dataset.digest != self.dataset_digest:
            raise ForgetSetError(
                f"forget set {self.id} was made for dataset {self.dataset_digest[:ID_LENGTH]}…, "
                f"this one is {dataset.digest[:ID_LENGTH]}…",
                "Make a new forget set from the dataset as it is now",
            )
        forget = set(dataset.indices_of((), self.episode_ids).tolist())
        keep = [index for index in range(dataset.episodes) if index not in forget]
        if not forget or not keep:
            raise ForgetSetError(
                f"forget set {self.id} leaves {len(keep)} episodes to keep and {len(forget)} to forget",
                "Both need at least one",
            )
        return dataset.subset(sorted(forget)), dataset.subset(keep)

    def save(self, folder: Path | str) -> Path:
        """Writes <folder>/<id>.json, durable on return. Saving the same set again changes nothing.

        Raises:
            ForgetSetError: the folder cannot be written.
        """
        path = Path(folder) / f"{self.id}.json"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, json.dumps({"schema": FORGET_SET_SCHEMA, **asdict(self)}, indent=1).encode())
        except OSError as error:
            raise ForgetSetError(
                f"forget set {self.id} cannot be written to {str(folder)!r}: {error}",
                "Make room or give a folder that this user may write to",
            ) from error
        return path

    @classmethod
    def load(cls, folder: Path | str, id: str) -> "ForgetSet":
        """Reads a saved set and checks that its content is what its id says.

        Raises:
            ForgetSetError: unknown id (the closest are named), damaged or tampered with.
        """
        known = sorted(path.stem for path in Path(folder).glob("*.json"))
        if id not in known:
            error = unknown_names("forget set", [id], known)
            raise ForgetSetError(error.what, error.hint)
        path = Path(folder) / f"{id}.json"
        try:
            stored = json.loads(path.read_bytes())
            if stored.pop("schema") != FORGET_SET_SCHEMA:
                raise ValueError(f"it is not of schema {FORGET_SET_SCHEMA!r}")
            found = cls(**{**stored, "episode_ids": tuple(stored["episode_ids"])})
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ForgetSetError(f"{str(path)!r} cannot be read: {error}", "Make the forget set again") from error
        content = (found.dataset_digest, found.episode_ids, found.reason, found.requester, found.created)
        if not found.id == id == _content_id(*content):
            raise ForgetSetError(
                f"{str(path)!r} is not what its id says: its content hashes to {_content_id(*content)}",
                "It was changed after it was made. Make the forget set again",
            )
        return found


def _content_id(dataset_digest: str, episode_ids: tuple[str, ...], reason: str, requester: str, created: str) -> str:
    content = [FORGET_SET_SCHEMA, dataset_digest, list(episode_ids), reason, requester, created]
    return hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()[:ID_LENGTH]
