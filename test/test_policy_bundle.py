"""Bundles: the id speaks for the content, the manifest is canonical, and what is wrong is named with its value."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from policy_samples import META, SMALL, SPEC, BcqLikePolicy, add_onnx, observations, scaled, torch_actions

from saferule_ros.policy.bundle import BundleMeta, build_bundle
from saferule_ros.policy.bundle_files import read_manifest, verify_bundle
from saferule_ros.policy.errors import BundleError, CorruptBundleError, ExportError, SpecError
from saferule_ros.policy.golden import decode_golden, encode_golden
from saferule_ros.policy.manifest import CONTEXT, canonical_json, manifest_id
from saferule_ros.policy.refusals import (
    BundleFilesError,
    BundleIdError,
    DigestError,
    ManifestSchemaError,
    RefusedBundleError,
    SizeCapError,
    UnsignedBundleError,
)
from saferule_ros.policy.spec import PolicySpec
from saferule_ros.policy.stamp import stamped, unstamped
from saferule_ros.policy.store import PolicyStore
from saferule_ros.signing import PrivateKey


@pytest.fixture
def store(tmp_path: Path) -> PolicyStore:
    return PolicyStore(tmp_path / "store").create()


@pytest.fixture
def bundle(store: PolicyStore, tmp_path: Path) -> Path:
    """A writable copy of a bundle, outside the store."""
    manifest = add_onnx(store, scaled(0.5), tmp_path)
    return Path(shutil.copytree(store.path(manifest.bundle_id), tmp_path / "copy"))


def test_a_torch_policy_becomes_a_verified_bundle_that_can_be_traced(store: PolicyStore) -> None:
    module, inputs = BcqLikePolicy(), observations(16)
    meta = META.model_copy(update={"parent": "0" * 16, "forget_set_id": "f1", "certificate": {"suppression": 0.25}})
    manifest = build_bundle(store, module, SPEC, inputs, torch_actions(module, inputs), meta)
    path, found = store.get(manifest.bundle_id)
    assert found == manifest
    assert (found.parent, found.forget_set_id, found.certificate) == ("0" * 16, "f1", {"suppression": 0.25})
    assert found.spec == SPEC and found.created_at.utcoffset().total_seconds() == 0.0
    metadata = {entry.key: entry.value for entry in onnx.load(str(path / "policy.onnx")).metadata_props}
    assert metadata["saferule.bundle_id"] == manifest.bundle_id  # a file found alone tells where it belongs
    assert metadata["saferule.parent"] == "0" * 16 and metadata["saferule.checkpoint_id"] == META.checkpoint_id
    stored, actions = decode_golden((path / "golden.npz").read_bytes(), SPEC)
    assert np.array_equal(stored, inputs) and np.array_equal(actions, torch_actions(module, inputs))


def test_the_id_is_the_digest_of_the_canonical_manifest_and_of_the_policy_before_the_id_was_put_in(
    bundle: Path, store: PolicyStore
) -> None:
    raw = (bundle / "manifest.json").read_bytes()
    fields = json.loads(raw)
    assert raw == json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()
    claimed = fields.pop("bundle_id")
    del fields["files"]
    assert claimed == hashlib.sha256(canonical_json(fields)).hexdigest()[:16]
    policy = (bundle / "policy.onnx").read_bytes()
    assert hashlib.sha256(unstamped(policy)).hexdigest() == fields["content"]
    assert stamped(unstamped(policy), claimed) == policy and unstamped(unstamped(policy)) == unstamped(policy)
    verified = verify_bundle(bundle, store.keys.trusted())
    assert verified.manifest.bundle_id == claimed
    assert verified.signed == f"signed by own ({store.keys.own().public.id})"


def test_versions_count_up_with_every_bundle(store: PolicyStore, tmp_path: Path) -> None:
    assert [add_onnx(store, scaled(0.5), tmp_path).version for _ in range(3)] == [1, 2, 3]


def rewrite(bundle: Path, **changes: object) -> None:
    fields = json.loads((bundle / "manifest.json").read_text()) | changes
    (bundle / "manifest.json").write_text(json.dumps(fields))


def whole(bundle: Path, **changes: object) -> None:
    """A changed manifest with the id that belongs to it."""
    fields = json.loads((bundle / "manifest.json").read_text()) | changes
    rewrite(bundle, **changes, bundle_id=manifest_id(fields))


def swapped_policy(bundle: Path) -> None:
    """Another policy, with its digests, under the old id."""
    data = stamped(scaled(0.25).SerializeToString(), entry(bundle, "bundle_id"))
    (bundle / "policy.onnx").write_bytes(data)
    files = entry(bundle, "files") | {"policy.onnx": {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}}
    rewrite(bundle, files=files)


Damage = tuple[Callable[[Path], object], type[RefusedBundleError], str]

# What someone can do who has no trusted key.
DAMAGES: dict[str, Damage] = {
    "a flipped bit in the policy": (
        lambda b: flip(b / "policy.onnx"), DigestError, r"policy\.onnx has .* sha256 .* manifest says"
    ),
    "a cut golden file": (lambda b: cut(b / "golden.npz"), DigestError, r"golden\.npz has .* manifest says"),
    "an edited field": (lambda b: rewrite(b, algorithm="other"), UnsignedBundleError, "is not of this policy bundle"),
    "an edited field with its id": (lambda b: whole(b, algorithm="x"), UnsignedBundleError, "is not of this"),
    "one more space": (lambda b: rewrite(b), UnsignedBundleError, "is not of this policy bundle"),
    "no JSON": (lambda b: (b / "manifest.json").write_bytes(b"\xff{"), UnsignedBundleError, "is not of this"),
    "a signature by a stranger": (lambda b: sign(b, PrivateKey.generate()), UnsignedBundleError, "is not trusted here"),
    "an empty signature": (lambda b: (b / "signature.json").write_bytes(b""), UnsignedBundleError, "not JSON"),
    "a signature of another kind": (
        lambda b: (b / "signature.json").write_text('{"algorithm":"none"}'), UnsignedBundleError, "none of Ed25519"
    ),
    "no signature": (lambda b: (b / "signature.json").unlink(), BundleFilesError, r"no signature\.json"),
    "a missing file": (lambda b: (b / "golden.npz").unlink(), BundleFilesError, r"no golden\.npz"),
    "a foreign file": (lambda b: (b / "more.bin").touch(), BundleFilesError, r"foreign file 'more\.bin'"),
    "a link": (lambda b: link(b / "policy.onnx"), BundleFilesError, "not a regular file"),
    "a huge manifest": (
        lambda b: (b / "manifest.json").write_text(" " * (1 << 20) + "{}"), SizeCapError, "more than the cap"
    ),
}  # fmt: skip

# What is refused even if a trusted key signed it.
SIGNED_DAMAGES: dict[str, Damage] = {
    "an edited field": (lambda b: rewrite(b, algorithm="other"), BundleIdError, "its content has the id"),
    "an edited certificate": (lambda b: rewrite(b, certificate={"s": 9.0}), BundleIdError, "its content has the id"),
    "another policy under the id": (swapped_policy, BundleIdError, "is not the policy that the id"),
    "two golden digests": (lambda b: whole(b, golden="0" * 64), BundleIdError, "two digests"),
    "an unknown field": (lambda b: whole(b, extra=1), ManifestSchemaError, "extra"),
    "an unknown format": (lambda b: whole(b, format=2), ManifestSchemaError, "format"),
    "no counter": (lambda b: whole(b, version=0), ManifestSchemaError, "version"),
    "a time that is none": (lambda b: whole(b, created="0001-01-01T00:00:00+23:59"), ManifestSchemaError, "created"),
    "no number": (
        lambda b: rewrite(b, certificate={"s": float("nan")}), ManifestSchemaError, r"certificate\.s is nan"
    ),
    "a path in the file list": (
        lambda b: rewrite(b, files={"../policy.onnx": entry(b, "files")["policy.onnx"]}),
        ManifestSchemaError, "lists the files",
    ),
    "no JSON": (lambda b: (b / "manifest.json").write_bytes(b"\xff{"), ManifestSchemaError, "not JSON"),
    "nested beyond sense": (
        lambda b: (b / "manifest.json").write_text("[" * 100_000), ManifestSchemaError, "not JSON"
    ),
}  # fmt: skip


def sign(bundle: Path, key: PrivateKey) -> None:
    signature = key.sign(CONTEXT, (bundle / "manifest.json").read_bytes())
    (bundle / "signature.json").write_bytes(canonical_json(signature.as_json()))


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def entry(bundle: Path, field: str) -> Any:
    return json.loads((bundle / "manifest.json").read_text())[field]


def link(path: Path) -> None:
    path.rename(path.parent.parent / "elsewhere.onnx")
    path.symlink_to(path.parent.parent / "elsewhere.onnx")


@pytest.mark.parametrize(
    ("damage", "signed"), [*((name, False) for name in DAMAGES), *((name, True) for name in SIGNED_DAMAGES)]
)
def test_a_bundle_that_is_not_what_it_says_is_refused_and_never_enters_a_store(
    damage: str, signed: bool, bundle: Path, store: PolicyStore
) -> None:
    change, kind, words = (SIGNED_DAMAGES if signed else DAMAGES)[damage]
    trusted = store.keys.trusted()
    verify_bundle(bundle, trusted)
    change(bundle)
    if signed:
        sign(bundle, store.signer())
    with pytest.raises(kind, match=words) as caught:
        verify_bundle(bundle, trusted)
    assert type(caught.value) is kind and f"(invariant {kind.invariant}: " in str(caught.value)
    before = store.list()
    with pytest.raises(CorruptBundleError, match=words):
        store.add(bundle)
    assert store.list() == before


def test_a_bundle_of_another_robot_is_accepted_once_its_key_is_trusted(store: PolicyStore, tmp_path: Path) -> None:
    edge = PolicyStore(tmp_path / "edge" / "store").create()
    bundle_id = add_onnx(edge, scaled(0.5), tmp_path).bundle_id
    with pytest.raises(UnsignedBundleError, match="is not trusted here"):
        store.add(edge.path(bundle_id))
    store.keys.trust("edge", edge.signer().public)
    assert store.add(edge.path(bundle_id)) == bundle_id
    assert [entry.signed.split(" (")[0] for entry in store.list()] == ["signed by edge"]
    (store.keys.folder / "trusted" / "edge.pem").unlink()  # trust that ends, ends for what is stored, too
    with pytest.raises(CorruptBundleError, match="is not trusted here"):
        store.get(bundle_id)


def test_sizes_are_judged_before_anything_is_opened(bundle: Path, store: PolicyStore) -> None:
    (bundle / "policy.onnx").unlink()
    with (bundle / "policy.onnx").open("wb") as file:
        file.truncate(65 << 20)  # a hole: takes no disk
    (bundle / "manifest.json").write_bytes(b"not a manifest")
    with pytest.raises(SizeCapError, match=r"policy\.onnx has 68157440 bytes, more than the cap of 67108864"):
        read_manifest(bundle, store.keys.trusted())


@pytest.mark.parametrize(
    ("shape_in", "shape_out", "value", "words"),
    [
        ((4, 2), (4, 1), 0.0, r"observations have shape \(4, 2\)"),
        ((4, 1), (4, 3), 0.0, r"actions have shape \(4, 3\)"),
        ((4, 1), (3, 1), 0.0, "4 golden observations but 3 golden actions"),
        ((0, 1), (0, 1), 0.0, r"shape \(0, 1\)"),
        ((5000, 1), (5000, 1), 0.0, r"shape \(5000, 1\)"),
        ((4, 1), (4, 1), np.nan, "not finite: row 0"),
    ],
)
def test_golden_pairs_that_prove_nothing_are_refused(
    shape_in: tuple[int, ...], shape_out: tuple[int, ...], value: float, words: str
) -> None:
    with pytest.raises(BundleError, match=words):
        encode_golden(np.zeros(shape_in), np.full(shape_out, value), SMALL)


def test_a_forged_golden_file_is_refused_without_asking_for_its_memory() -> None:
    data = encode_golden(np.zeros((4, 1)), np.zeros((4, 1)), SMALL)
    forged = data.replace(b"'shape': (4, 1)", b"'shape': (9**9, 1)"[: len(b"'shape': (4, 1)")])
    for broken in (forged, data[:-40], b"", b"PK", data.replace(b"<f4", b"|O8")):
        with pytest.raises(BundleError, match="golden"):
            decode_golden(broken, SMALL)


def test_a_certificate_that_is_no_number_is_refused(store: PolicyStore, tmp_path: Path) -> None:
    meta = META.model_copy(update={"certificate": {"suppression": float("nan")}})
    with pytest.raises(BundleError, match=r"certificate\.suppression is nan"):
        add_onnx(store, scaled(0.5), tmp_path, meta=meta)
    assert store.list() == ()


def test_nothing_is_added_when_the_export_fails(store: PolicyStore) -> None:
    import torch

    with pytest.raises(ExportError):
        build_bundle(store, torch.nn.Linear(3, 3), SMALL, np.zeros((1, 1)), np.zeros((1, 1)), META)
    assert store.list() == () and not list(store.staging.iterdir())


def test_a_missing_onnx_file_is_named(store: PolicyStore) -> None:
    with pytest.raises(BundleError, match=r"/no/such\.onnx"):
        build_bundle(store, "/no/such.onnx", SMALL, np.zeros((1, 1)), np.zeros((1, 1)), META)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"action_size": 3}, "action_low has 2 entries but action_size is 3"),
        ({"action_low": (-1.0, 3.0)}, "action 1 has low 3 >= high 3"),
        ({"action_low": (-1.0, 0.5)}, "zero, every reaction's last resort, is out of bounds 0.5..3 of action 1"),
        ({"action_high": (1.0, float("nan"))}, r"action_high\.1"),
        ({"observation_size": 0}, r"observation_size.*got 0"),
        ({"control_rate": -1.0}, r"control_rate.*got -1"),
        ({"cost_limit": "much"}, r"cost_limit.*'much'"),
        ({"tusk": 1}, "tusk"),
    ],
)
def test_a_senseless_specification_is_refused_with_field_and_value(change: dict[str, object], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        PolicySpec(**(SPEC.model_dump() | change))


def test_meta_without_an_algorithm_is_refused() -> None:
    with pytest.raises(ValueError, match="algorithm"):
        BundleMeta(algorithm="", dataset_digest="d", checkpoint_id="c")
