"""Builds a bundle: the ONNX policy, its golden pairs and the manifest that speaks for both."""

import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Union

import numpy as np
import pydantic
from pydantic import BaseModel, ConfigDict, Field

from saferule_ros import __version__
from saferule_ros.policy.errors import BundleError
from saferule_ros.policy.golden import encode_golden
from saferule_ros.policy.manifest import (
    CONTEXT,
    GOLDEN,
    MANIFEST,
    POLICY,
    SIGNATURE,
    Manifest,
    canonical_json,
    digest,
    manifest_id,
)
from saferule_ros.policy.spec import PolicySpec, explain
from saferule_ros.policy.stamp import stamped, unstamped
from saferule_ros.signing import PrivateKey

if TYPE_CHECKING:
    from torch import nn


class BundleMeta(BaseModel):
    """Where a policy comes from; the fields mean what they mean in Manifest."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    algorithm: str = Field(min_length=1)
    dataset_digest: str
    checkpoint_id: str
    parent: str | None = None
    forget_set_id: str | None = None
    certificate: dict[str, Any] | None = None
    evaluation: dict[str, Any] | None = None
    code_version: str = __version__


class AcceptsBundles(Protocol):
    """What build_bundle needs of a store."""

    def signer(self) -> PrivateKey: ...

    def next_version(self) -> int: ...

    def add(self, folder: Path, *, reason: str = "", requester: str = "") -> str: ...


def build_bundle(
    store: AcceptsBundles,
    policy: Union["nn.Module", Path, str],
    spec: PolicySpec,
    golden_observations: np.ndarray,
    golden_actions: np.ndarray,
    meta: BundleMeta,
    *,
    reason: str = "",
    requester: str = "",
) -> Manifest:
    """Builds a bundle, signs it with the store's key and adds it to the store.

    Golden pairs are taken as given. A policy that takes the best of several candidates (argmax) jumps where
    two are about equally good, and there torch and ONNX Runtime may take different ones: a golden
    observation on such an edge makes the gate refuse a good policy. `export.choose_golden` leaves them out.

    Args:
        store: where it goes.
        policy: a torch module (B, O) -> (B, A), or the path of an ONNX file.
        spec: its contract.
        golden_observations: (G, O), raw units.
        golden_actions: (G, A): what torch gave for them.
        meta: where it comes from.
        reason, requester: for the store's audit log.

    Raises:
        BundleError, ExportError, KeyFileError, StoreError: nothing was added.
    """
    golden = encode_golden(np.asarray(golden_observations), np.asarray(golden_actions), spec)
    with tempfile.TemporaryDirectory(prefix="saferule-bundle-") as name:
        folder = Path(name)
        (folder / GOLDEN).write_bytes(golden)
        created = datetime.now(UTC).isoformat(timespec="microseconds")
        if isinstance(policy, str | Path):
            (folder / POLICY).write_bytes(_read_onnx(Path(policy)))
        else:
            from saferule_ros.policy.export import export_onnx  # needs torch, which serving does not have

            export_onnx(policy, spec, folder / POLICY, trace(spec, meta, created))
        manifest = make_manifest(folder, spec, meta, created, store.next_version())
        finish(folder, manifest, store.signer())
        store.add(folder, reason=reason, requester=requester)
    return manifest


def trace(spec: PolicySpec, meta: BundleMeta, created: str) -> dict[str, str]:
    """What the ONNX file itself carries, so that a file found alone can be traced to its bundle.

    The bundle id comes to it at the end (see stamp): it is a digest of, among others, this very file.
    """
    fields: Mapping[str, str | None] = {
        "task": spec.task,
        "algorithm": meta.algorithm,
        "code_version": meta.code_version,
        "dataset_digest": meta.dataset_digest,
        "forget_set_id": meta.forget_set_id,
        "parent": meta.parent,
        "checkpoint_id": meta.checkpoint_id,
        "created": created,
    }
    return {f"saferule.{key}": value for key, value in fields.items() if value is not None}


def make_manifest(folder: Path, spec: PolicySpec, meta: BundleMeta, created: str, version: int) -> Manifest:
    """Manifest of the policy and golden pairs that lie in `folder`. Puts the bundle id into the policy."""
    policy, golden = unstamped((folder / POLICY).read_bytes()), (folder / GOLDEN).read_bytes()
    fields: dict[str, Any] = {
        "format": 1, "version": version, "content": digest(policy), "golden": digest(golden),
        "spec": spec.model_dump(mode="json"), "created": created, **meta.model_dump(mode="json"),
    }  # fmt: skip
    fields["bundle_id"] = manifest_id(fields)
    policy = stamped(policy, fields["bundle_id"])
    (folder / POLICY).write_bytes(policy)
    fields["files"] = {
        name: {"sha256": digest(data), "size": len(data)} for name, data in ((POLICY, policy), (GOLDEN, golden))
    }
    try:
        return Manifest.model_validate(fields)
    except pydantic.ValidationError as error:
        raise BundleError(f"manifest is invalid: {explain(error)}", "Correct that field") from error


def finish(folder: Path, manifest: Manifest, key: PrivateKey) -> None:
    """Writes the manifest into the bundle's folder, and the key's signature over it."""
    said = canonical_json(manifest.model_dump(mode="json"))
    (folder / MANIFEST).write_bytes(said)
    (folder / SIGNATURE).write_bytes(canonical_json(key.sign(CONTEXT, said).as_json()))


def _read_onnx(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BundleError(f"ONNX file {path} cannot be read: {error.strerror}", "Correct its path") from error
