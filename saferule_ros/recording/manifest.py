"""The signed manifest of a bag: which episodes it holds, by digest, and with what they were recorded."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from saferule_ros.dataset.durable import write_atomically
from saferule_ros.signing import PrivateKey, Signature, SigningError, TrustedKeys

MANIFEST_NAME = "manifest.json"
MANIFEST_SCHEMA = "saferule_ros/bag-manifest/1"
#: What the signature is over: see `signing`.
CONTEXT = "bag-manifest"


@dataclass(frozen=True)
class SealedEpisode:
    """One episode that was acknowledged. Digest and files (one, or several of a long episode) say which."""

    id: str
    digest: str
    files: tuple[str, ...]
    length: int
    episode_return: float
    episode_cost: float
    policy_ids: tuple[str, ...]


@dataclass(frozen=True)
class BagManifest:
    """All that is promised about a bag.

    Attributes:
        bag_id: its id.
        recorded_by: who or what recorded it.
        software: name and version of the recorder.
        contract: digest of the contract by which the robot's topics became vectors; empty where there is none.
        episodes: in the order of recording. Their policies are named by bundle ids, which are digests.
    """

    bag_id: str
    recorded_by: str
    software: str
    contract: str
    episodes: tuple[SealedEpisode, ...] = ()

    @property
    def content(self) -> bytes:
        """What is signed."""
        fields = {"schema": MANIFEST_SCHEMA, **asdict(self)}
        return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()

    def write(self, folder: Path, key: PrivateKey | None) -> None:
        """Replaces the bag's manifest, durable on return.

        Raises:
            OSError: the disk refuses.
        """
        signature = key.sign(CONTEXT, self.content).as_json() if key else None
        text = json.dumps({"manifest": json.loads(self.content), "signature": signature}, indent=1)
        write_atomically(folder / MANIFEST_NAME, text.encode())


@dataclass(frozen=True)
class ManifestCheck:
    """What a bag's manifest says of itself: by whom it is signed (name of a trusted key; empty: it is not signed, or
    that was not checked), or why it is not trusted."""

    manifest: BagManifest | None
    signed_by: str = ""
    problem: str = ""


def read_manifest(folder: Path, trusted: TrustedKeys | None) -> ManifestCheck:
    """Reads a bag's manifest, if it has one.

    Args:
        folder: of the bag.
        trusted: keys to check the signature with; None: it is not checked.

    Returns:
        A manifest that cannot be read, or whose signature is wrong, is a problem, not an error.
    """
    path = folder / MANIFEST_NAME
    if not path.is_file():
        return ManifestCheck(None)
    try:
        stored = json.loads(path.read_bytes())
        manifest = _from_json(stored["manifest"])
        if trusted is None:
            return ManifestCheck(manifest)
        if stored["signature"] is None:
            return ManifestCheck(manifest)
        name = trusted.verify(CONTEXT, manifest.content, Signature.from_json(stored["signature"]))
    except SigningError as error:
        return ManifestCheck(None, problem=error.what)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        return ManifestCheck(None, problem=f"{MANIFEST_NAME} cannot be read: {type(error).__name__} {error}")
    return ManifestCheck(manifest, signed_by=name)


def missing_episodes(manifest: BagManifest, digests: Mapping[str, str]) -> list[str]:
    """Ids of the episodes that are promised and were not found, or not as promised."""
    return [episode.id for episode in manifest.episodes if digests.get(episode.id) != episode.digest]


def _from_json(fields: dict[str, Any]) -> BagManifest:
    if fields.pop("schema") != MANIFEST_SCHEMA:
        raise ValueError(f"it is not of schema {MANIFEST_SCHEMA!r}")
    episodes: Sequence[dict[str, Any]] = fields.pop("episodes")
    return BagManifest(
        **fields,
        episodes=tuple(
            SealedEpisode(
                **{**entry, "files": tuple(entry["files"]), "policy_ids": tuple(entry["policy_ids"])}
            )
            for entry in episodes
        ),
    )  # fmt: skip
