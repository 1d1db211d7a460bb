"""What a bundle says of itself, in canonical JSON, and whether its files are what it says."""

import hashlib
import json
import math
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pydantic
from pydantic import BaseModel, ConfigDict, Field

from saferule_ros.policy.errors import BundleError, CorruptBundleError
from saferule_ros.policy.spec import PolicySpec, explain

MANIFEST, POLICY, GOLDEN = "manifest.json", "policy.onnx", "golden.npz"

# Largest sizes [bytes] that are read at all. Policies of this kind have 0.1 to 1 MB, 4096 golden pairs of a
# 500-vector 8 MB; the caps leave room for more and keep a forged file from filling a robot's memory.
SIZE_CAPS = {MANIFEST: 1 << 20, POLICY: 64 << 20, GOLDEN: 16 << 20}

ID_LENGTH = 16
ID_PATTERN = rf"^[0-9a-f]{{{ID_LENGTH}}}$"
DIGEST_PATTERN = r"^[0-9a-f]{64}$"


class FileEntry(BaseModel):
    """Digest and size of one file of a bundle."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str = Field(pattern=DIGEST_PATTERN)
    size: int = Field(ge=0, description="bytes")


class Manifest(BaseModel):
    """All that a bundle says of itself. Its id is a digest of everything else in it."""

    # "constants": a NaN inside the certificate is refused by canonical_json, not quietly written as null.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, ser_json_inf_nan="constants")

    format: Literal[1] = 1
    bundle_id: str = Field(pattern=ID_PATTERN)
    files: dict[str, FileEntry]
    spec: PolicySpec
    algorithm: str = Field(min_length=1, description='how it was learned, e.g. "bcq_lag+safe_rule"')
    code_version: str = Field(description="version of saferule_ros that made it")
    dataset_digest: str = Field(description="digest of the dataset it was learned from")
    forget_set_id: str | None = Field(default=None, description="what it unlearned; none: nothing")
    parent: str | None = Field(default=None, description="bundle it was patched from; none: learned anew")
    checkpoint_id: str = Field(description="learner checkpoint that it was exported from")
    certificate: dict[str, Any] | None = Field(default=None, description="measured evidence of forgetting")
    created: str = Field(description="ISO 8601, UTC")

    @property
    def created_at(self) -> datetime:
        """`created` as a time."""
        return datetime.fromisoformat(self.created).astimezone(UTC)


def canonical_json(value: Any) -> bytes:
    """The one spelling of a JSON value: sorted keys, no spaces, ASCII, finite numbers only.

    Raises:
        BundleError: NaN, infinity, or something that JSON cannot say.
    """
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")
    except (ValueError, TypeError) as error:
        raise BundleError(
            f"manifest cannot be written as JSON: {_not_finite(value) or error}",
            "Give finite numbers, strings, lists and dicts only; use null for what could not be measured",
        ) from error


def _not_finite(value: Any, name: str = "") -> str:
    """Where in a JSON value a number is not finite, and the number."""
    if isinstance(value, float) and not math.isfinite(value):
        return f"{name or 'it'} is {value}"
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    found = (_not_finite(item, f"{name}.{key}" if name else str(key)) for key, item in items)
    return next(filter(None, found), "")


def manifest_id(fields: dict[str, Any]) -> str:
    """Bundle id of manifest fields: the first 16 hex digits of the sha256 of the rest's canonical JSON."""
    rest = {key: value for key, value in fields.items() if key != "bundle_id"}
    return digest(canonical_json(rest))[:ID_LENGTH]


def digest(data: bytes) -> str:
    """sha256 as hex."""
    return hashlib.sha256(data).hexdigest()


def check_sizes(folder: Path) -> dict[str, int]:
    """Sizes [bytes] of the bundle's files, read from the folder alone, before anything is opened.

    Raises:
        CorruptBundleError: a file is missing, foreign, not a regular file, or over its cap.
    """
    try:
        found = {entry.name: entry.lstat() for entry in folder.iterdir()}
    except (FileNotFoundError, NotADirectoryError) as error:
        raise CorruptBundleError(f"there is no bundle folder {folder}", "Correct the path") from error
    foreign = sorted(set(found) - set(SIZE_CAPS))
    if foreign:
        raise CorruptBundleError(f"bundle {folder} holds a foreign file {foreign[0]!r:.100}", "Remove it")
    for name, cap in SIZE_CAPS.items():
        if name not in found:
            raise CorruptBundleError(f"bundle {folder} has no {name}", _REPAIR)
        if not stat.S_ISREG(found[name].st_mode):
            raise CorruptBundleError(f"{folder / name} is not a regular file", _REPAIR)
        if found[name].st_size > cap:
            raise CorruptBundleError(
                f"{folder / name} has {found[name].st_size} bytes, more than the cap of {cap}",
                "Export a smaller policy",
            )
    return {name: status.st_size for name, status in found.items()}


def read_manifest(folder: Path) -> Manifest:
    """Reads and checks manifest.json alone.

    The id is recomputed from the JSON as it stands, so that fields which later versions add do not change
    the ids of older bundles.

    Raises:
        CorruptBundleError: unreadable, wrong schema, or an id that does not belong to the content.
    """
    path = folder / MANIFEST
    try:
        fields = json.loads(_read_capped(path, SIZE_CAPS[MANIFEST]))
        manifest = Manifest.model_validate(fields)
    except pydantic.ValidationError as error:
        raise CorruptBundleError(f"{path} does not follow the schema: {explain(error)}", _REPAIR) from error
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise CorruptBundleError(f"{path} is not JSON: {error}", _REPAIR) from error
    if set(manifest.files) != {POLICY, GOLDEN}:
        raise CorruptBundleError(
            f"{path} lists the files {sorted(manifest.files)}, expected {sorted((POLICY, GOLDEN))}", _REPAIR
        )
    expected = manifest_id(fields)
    if manifest.bundle_id != expected:
        raise CorruptBundleError(
            f"{path} says bundle_id {manifest.bundle_id}, but its content has the id {expected}", _REPAIR
        )
    return manifest


def verify_bundle(folder: Path) -> Manifest:
    """Checks sizes, manifest and the digest of every file of a bundle.

    Raises:
        CorruptBundleError: says which file, what it is and what it should be.
    """
    check_sizes(folder)
    manifest = read_manifest(folder)
    for name in manifest.files:
        read_verified(folder, manifest, name)
    return manifest


def read_verified(folder: Path, manifest: Manifest, name: str) -> bytes:
    """Content of one file of a bundle: exactly the bytes whose digest was checked.

    Raises:
        CorruptBundleError: says which file, what it is and what it should be.
    """
    path, entry = folder / name, manifest.files[name]
    data = _read_capped(path, SIZE_CAPS[name])
    if len(data) != entry.size or digest(data) != entry.sha256:
        raise CorruptBundleError(
            f"{path} has {len(data)} bytes with sha256 {digest(data)}, "
            f"its manifest says {entry.size} bytes with sha256 {entry.sha256}",
            _REPAIR,
        )
    return data


def _read_capped(path: Path, cap: int) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(cap + 1)
    except OSError as error:
        raise CorruptBundleError(f"{path} cannot be read: {error.strerror}", _REPAIR) from error
    if len(data) > cap:
        raise CorruptBundleError(f"{path} has more than the cap of {cap} bytes", _REPAIR)
    return data


_REPAIR = "Add an intact copy of the bundle to the store again (that repairs it), or use another bundle"
