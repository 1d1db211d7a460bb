"""What a bundle says of itself, in canonical JSON. Nothing here reads or writes a file."""

import hashlib
import json
import math
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from saferule_ros.policy.errors import BundleError
from saferule_ros.policy.spec import PolicySpec

MANIFEST, SIGNATURE, POLICY, GOLDEN = "manifest.json", "signature.json", "policy.onnx", "golden.npz"

# Largest sizes [bytes] that are read at all. Policies of this kind have 0.1 to 1 MB, 4096 golden pairs of a
# 500-vector 8 MB; the caps leave room for more and keep a forged file from filling a robot's memory.
SIZE_CAPS = {MANIFEST: 1 << 20, SIGNATURE: 1 << 12, POLICY: 64 << 20, GOLDEN: 16 << 20}

# What a signature of a manifest is over, see signing.
CONTEXT = "policy bundle"

# Far more bundles than any robot will ever have; a JSON number up to here is exact everywhere.
LARGEST_VERSION = 2**53 - 1

ID_LENGTH = 16
ID_PATTERN = rf"^[0-9a-f]{{{ID_LENGTH}}}$"
DIGEST_PATTERN = r"^[0-9a-f]{64}$"


class FileEntry(BaseModel):
    """Digest and size of one file of a bundle."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str = Field(pattern=DIGEST_PATTERN)
    size: int = Field(ge=0, description="bytes")


class Manifest(BaseModel):
    """All that a bundle says of itself. Its id is a digest of everything else in it, `files` excepted: the policy
    file carries the id (see stamp), so its digest cannot be part of it; `content` is.
    """

    # "constants": a NaN inside the certificate is refused by canonical_json, not quietly written as null.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, ser_json_inf_nan="constants")

    format: Literal[1] = 1
    bundle_id: str = Field(pattern=ID_PATTERN)
    version: int = Field(
        default=1, ge=1, le=LARGEST_VERSION, description="counts the bundles of a robot; an older one is no update"
    )
    files: dict[str, FileEntry]
    content: str = Field(pattern=DIGEST_PATTERN, description="digest of the policy before the id was put into it")
    golden: str = Field(pattern=DIGEST_PATTERN, description="digest of the golden pairs")
    spec: PolicySpec
    algorithm: str = Field(min_length=1, description='how it was learned, e.g. "bcq_lag+safe_rule"')
    code_version: str = Field(description="version of saferule_ros that made it")
    dataset_digest: str = Field(description="digest of the dataset it was learned from")
    forget_set_id: str | None = Field(default=None, description="digest of what it unlearned; none: nothing")
    parent: str | None = Field(default=None, description="bundle it was patched from; none: learned anew")
    checkpoint_id: str = Field(description="learner checkpoint that it was exported from")
    certificate: dict[str, Any] | None = Field(default=None, description="measured evidence of forgetting")
    evaluation: dict[str, Any] | None = Field(default=None, description="what it achieved where it was tried")
    created: str = Field(description="ISO 8601, UTC")

    @field_validator("created")
    @classmethod
    def _is_a_time(cls, created: str) -> str:
        try:
            datetime.fromisoformat(created).astimezone(UTC)
        except OverflowError as error:
            raise ValueError("is no time between the years 1 and 9999") from error
        return created

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
    rest = {key: value for key, value in fields.items() if key not in ("bundle_id", "files")}
    return digest(canonical_json(rest))[:ID_LENGTH]


def digest(data: bytes) -> str:
    """sha256 as hex."""
    return hashlib.sha256(data).hexdigest()
