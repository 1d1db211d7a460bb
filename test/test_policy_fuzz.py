"""Bundles of arbitrary content: refused by a named invariant, or whole; never a crash, never an unverified load."""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serving_samples import make_store

from saferule_ros.policy import archive, invariants
from saferule_ros.policy.bundle_files import verify_bundle
from saferule_ros.policy.errors import BundleError
from saferule_ros.policy.golden import decode_golden
from saferule_ros.policy.manifest import CONTEXT, MANIFEST, POLICY, SIGNATURE, canonical_json, manifest_id
from saferule_ros.policy.refusals import RefusedBundleError
from saferule_ros.policy.spec import PolicySpec
from saferule_ros.policy.store import PolicyStore

QUICK = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

# The central directory of a zip file: an entry's signature, and where in it flags, the lengths of name and extra
# fields, the member's place, and its name stand.
CENTRAL, FLAGS, LENGTHS, PLACE, NAME = b"PK\x01\x02", 8, 28, 42, 46


class Sample(NamedTuple):
    """A sound bundle, and the store that trusts it."""

    store: PolicyStore
    files: dict[str, bytes]
    folder: Path  # to write others into

    def __repr__(self) -> str:
        return "sample"


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    root = tmp_path_factory.mktemp("fuzz")
    store, (bundle_id,) = make_store(root, 1)
    files = {path.name: path.read_bytes() for path in store.path(bundle_id).iterdir()}
    folder = root / "given"
    folder.mkdir()
    return Sample(store, files, folder)


Change = Callable[[bytes], bytes]


def changes() -> st.SearchStrategy[Change]:
    """Ways to change bytes: flip, cut, insert, repeat a piece, overwrite a piece."""
    at, piece = st.floats(0.0, 1.0, exclude_max=True), st.binary(min_size=1, max_size=12)

    def flip(where: float, bit: int) -> Change:
        def change(data: bytes) -> bytes:
            index = int(where * len(data))
            return data[:index] + bytes(byte ^ 1 << bit for byte in data[index : index + 1]) + data[index + 1 :]

        return change

    def cut(low: float, high: float) -> Change:
        return lambda data: data[: int(min(low, high) * len(data))] + data[int(max(low, high) * len(data)) :]

    def insert(where: float, new: bytes) -> Change:
        return lambda data: data[: int(where * len(data))] + new + data[int(where * len(data)) :]

    def overwrite(where: float, new: bytes) -> Change:
        return lambda data: data[: int(where * len(data))] + new + data[int(where * len(data)) + len(new) :]

    return st.one_of(
        st.builds(flip, at, st.integers(0, 7)), st.builds(cut, at, at), st.builds(insert, at, piece),
        st.builds(overwrite, at, piece), st.binary(max_size=200).map(lambda new: lambda data: new),
    )  # fmt: skip


def write(sample: Sample, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (sample.folder / name).write_bytes(data)
    return sample.folder


@QUICK
@given(name=st.sampled_from(["manifest.json", "signature.json", "policy.onnx", "golden.npz"]), change=changes())
def test_whoever_has_no_key_can_change_no_byte(sample: Sample, name: str, change: Change) -> None:
    changed = change(sample.files[name])
    folder = write(sample, sample.files | {name: changed})
    trusted = sample.store.keys.trusted()
    if changed == sample.files[name]:
        verify_bundle(folder, trusted)
        return
    try:
        verified = verify_bundle(folder, trusted)
    except RefusedBundleError as error:
        assert error.invariant != "process" and f"(invariant {error.invariant}: " in str(error)
    else:  # only another spelling of the same signature
        assert name == SIGNATURE and json.loads(changed) == json.loads(sample.files[name])
        assert verified.manifest.bundle_id == json.loads(sample.files[MANIFEST])["bundle_id"]


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=8,
)


@QUICK
@given(data=st.data())
def test_a_signed_manifest_of_any_content_is_refused_by_name_or_whole(sample: Sample, data: st.DataObject) -> None:
    fields: dict[str, Any] = json.loads(sample.files[MANIFEST])
    for _ in range(data.draw(st.integers(1, 3))):
        spec = fields.get("spec")
        into = spec if isinstance(spec, dict) and data.draw(st.booleans()) else fields
        name = st.sampled_from(sorted(into)) if into else st.nothing()
        into[data.draw(name | st.text(max_size=8))] = data.draw(values)
    said = json.dumps(fields).encode()
    if data.draw(st.booleans()):
        said = data.draw(changes())(said)
    try:
        fields = json.loads(said)
        fields["bundle_id"] = manifest_id(fields)
        said = json.dumps(fields).encode()
    except (ValueError, BundleError, TypeError, AttributeError):
        pass  # no object, no JSON, or not a number: as it is, then
    signature = canonical_json(sample.store.signer().sign(CONTEXT, said).as_json())
    folder = write(sample, sample.files | {MANIFEST: said, SIGNATURE: signature})
    try:
        manifest = verify_bundle(folder, sample.store.keys.trusted()).manifest
    except RefusedBundleError as error:
        assert error.invariant in ("manifest_schema", "bundle_id", "digests", "size_cap")
    else:
        assert manifest.version >= 1 and manifest.created_at and manifest.spec.observation_size >= 1


def judged(policy: bytes, spec: PolicySpec) -> Iterator[str]:
    """Every invariant of a policy's bytes that is judged without running it."""
    model = invariants.parse_onnx(policy)
    yield invariants.check_self_contained(model).value
    yield invariants.check_onnx(policy).value
    yield invariants.check_standard(model).value
    yield invariants.check_operators(model).value
    yield invariants.check_interface(model, spec).value


@QUICK
@given(change=changes(), again=changes())
def test_onnx_bytes_of_any_content_are_refused_by_name(sample: Sample, change: Change, again: Change) -> None:
    spec = PolicySpec(**json.loads(sample.files[MANIFEST])["spec"])
    for policy in (change(sample.files[POLICY]), again(change(sample.files[POLICY]))):
        try:
            list(judged(policy, spec))
        except RefusedBundleError as error:
            assert error.value and error.limit


@QUICK
@given(change=changes())
def test_golden_pairs_of_any_content_are_refused_or_whole(sample: Sample, change: Change) -> None:
    spec = PolicySpec(**json.loads(sample.files[MANIFEST])["spec"])
    try:
        observations, actions = decode_golden(change(sample.files["golden.npz"]), spec)
    except BundleError:
        return
    assert len(observations) == len(actions) > 0


@QUICK
@given(change=changes())
def test_archives_of_any_content_are_refused_or_whole(sample: Sample, change: Change) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        for name, content in sample.files.items():
            packed.writestr(name, content)
    path = sample.folder.parent / "given.saferule"
    path.write_bytes(change(buffer.getvalue()))
    try:
        with archive.unpacked(path) as folder:
            verify_bundle(folder, sample.store.keys.trusted())
    except BundleError:
        pass


def test_what_zipfile_has_no_error_of_its_own_for_is_refused_too(sample: Sample) -> None:
    """An encrypted member, a name that is none or no UTF-8, a place beyond 63 bits."""
    golden = bytearray(sample.files["golden.npz"])
    golden[golden.index(CENTRAL) + FLAGS] |= 1
    with pytest.raises(BundleError, match=r"unreadable: .*encrypted"):
        decode_golden(bytes(golden), PolicySpec(**json.loads(sample.files[MANIFEST])["spec"]))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        packed.writestr("policy.onnx", b"")
    named = bytearray(buffer.getvalue())
    entry = named.index(CENTRAL)
    named[entry + FLAGS + 1] |= 8
    named[entry + NAME] = 0xFF
    nameless = bytearray(buffer.getvalue())
    nameless[entry + LENGTHS : entry + LENGTHS + 4] = struct.pack("<HH", 0, len("policy.onnx"))  # all of it "extra"
    path = sample.folder.parent / "named.saferule"
    for spoilt in (named, nameless):
        path.write_bytes(spoilt)
        with pytest.raises(BundleError, match="is no exported bundle"), archive.unpacked(path):
            pass
    with zipfile.ZipFile(path, "w") as packed:
        for name in sample.files:
            far = zipfile.ZipInfo(name)
            far.extra = struct.pack("<HHQ", 1, 8, 2**64 - 1)  # zip64: 8 bytes, where the member begins
            packed.writestr(far, b"")
    placed = bytearray(path.read_bytes())
    entry = placed.index(CENTRAL)
    placed[entry + PLACE : entry + PLACE + 4] = b"\xff" * 4  # see zip64
    path.write_bytes(placed)
    with pytest.raises(BundleError, match="is no exported bundle"), archive.unpacked(path):
        pass


@pytest.mark.parametrize("target", ["manifest", "signature", "onnx", "golden", "archive"])
def test_coverage_guided_fuzzing_finds_nothing_in_a_second(target: str, tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="Atheris has wheels for CPython 3.11 to 3.13 only")
    program = Path(__file__).resolve().parent.parent / "benchmarks" / "fuzz_bundles.py"
    command = [sys.executable, str(program), target, "--seconds", "1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0 and not list(tmp_path.iterdir()), done.stderr[-3000:]
