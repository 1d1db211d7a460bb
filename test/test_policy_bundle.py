"""Bundles: the id speaks for the content, the manifest is canonical, and what is wrong is named with its value."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from policy_samples import META, SMALL, SPEC, BcqLikePolicy, add_onnx, observations, scaled, torch_actions

from saferule_ros.policy.bundle import BundleMeta, build_bundle, verify_bundle
from saferule_ros.policy.errors import BundleError, CorruptBundleError, ExportError, SpecError
from saferule_ros.policy.golden import decode_golden, encode_golden
from saferule_ros.policy.manifest import canonical_json, check_sizes
from saferule_ros.policy.spec import PolicySpec
from saferule_ros.policy.store import PolicyStore


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
    assert metadata["saferule.parent"] == "0" * 16 and metadata["saferule.checkpoint_id"] == META.checkpoint_id
    stored, actions = decode_golden((path / "golden.npz").read_bytes(), SPEC)
    assert np.array_equal(stored, inputs) and np.array_equal(actions, torch_actions(module, inputs))


def test_the_id_is_the_digest_of_the_canonical_manifest_without_it(bundle: Path) -> None:
    raw = (bundle / "manifest.json").read_bytes()
    fields = json.loads(raw)
    assert raw == json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()
    claimed = fields.pop("bundle_id")
    assert claimed == hashlib.sha256(canonical_json(fields)).hexdigest()[:16]
    assert verify_bundle(bundle).bundle_id == claimed


def rewrite(bundle: Path, **changes: object) -> None:
    fields = json.loads((bundle / "manifest.json").read_text()) | changes
    (bundle / "manifest.json").write_text(json.dumps(fields))


DAMAGES = {
    "a flipped bit in the policy": (lambda b: flip(b / "policy.onnx"), r"policy\.onnx has .* sha256 .* manifest says"),
    "a cut golden file": (lambda b: cut(b / "golden.npz"), r"golden\.npz has .* manifest says"),
    "an edited field": (lambda b: rewrite(b, algorithm="other"), "its content has the id"),
    "an edited certificate": (lambda b: rewrite(b, certificate={"suppression": 9.0}), "its content has the id"),
    "an unknown field": (lambda b: rewrite(b, extra=1), "extra"),
    "an unknown format": (lambda b: rewrite(b, format=2), "format"),
    "a path in the file list": (lambda b: rewrite(b, files={"../policy.onnx": entry(b)}), "lists the files"),
    "no JSON": (lambda b: (b / "manifest.json").write_bytes(b"\xff{"), "not JSON"),
    "nested beyond sense": (lambda b: (b / "manifest.json").write_text("[" * 100_000), "not JSON"),
    "a missing file": (lambda b: (b / "golden.npz").unlink(), r"no golden\.npz"),
    "a foreign file": (lambda b: (b / "more.bin").touch(), r"foreign file 'more\.bin'"),
    "a link": (lambda b: link(b / "policy.onnx"), "not a regular file"),
    "a huge manifest": (lambda b: (b / "manifest.json").write_text(" " * (1 << 20) + "{}"), "more than the cap"),
}


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def entry(bundle: Path) -> dict[str, object]:
    return json.loads((bundle / "manifest.json").read_text())["files"]["policy.onnx"]


def link(path: Path) -> None:
    path.rename(path.parent.parent / "elsewhere.onnx")
    path.symlink_to(path.parent.parent / "elsewhere.onnx")


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_bundle_that_is_not_what_it_says_is_refused_and_never_enters_a_store(
    damage: str, bundle: Path, store: PolicyStore
) -> None:
    change, words = DAMAGES[damage]
    verify_bundle(bundle)
    change(bundle)
    with pytest.raises(CorruptBundleError, match=words):
        verify_bundle(bundle)
    before = store.list()
    with pytest.raises(CorruptBundleError, match=words):
        store.add(bundle)
    assert store.list() == before


def test_sizes_are_judged_before_anything_is_opened(bundle: Path) -> None:
    (bundle / "policy.onnx").unlink()
    with (bundle / "policy.onnx").open("wb") as file:
        file.truncate(65 << 20)  # a hole: takes no disk
    (bundle / "policy.onnx").chmod(0)
    with pytest.raises(CorruptBundleError, match=r"policy\.onnx has 68157440 bytes, more than the cap of 67108864"):
        check_sizes(bundle)


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
