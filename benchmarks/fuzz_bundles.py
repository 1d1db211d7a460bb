#!/usr/bin/env python3
"""Coverage-guided fuzzing of what reads a policy bundle, with atheris: no crash, nothing but named refusals.

    python benchmarks/fuzz_bundles.py onnx --seconds 60

Targets: manifest (any bytes, signed by a trusted key), signature (any bytes beside a good manifest), onnx (any bytes
that are to be a policy), golden, archive. Begins with the parts of a sound bundle. Ends with status 0, or with the
input that did it in a file crash-….
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import atheris

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "test")]

with atheris.instrument_imports(include=["saferule_ros.policy", "saferule_ros.signing"]):
    from serving_samples import make_store

    from saferule_ros.policy import archive, invariants
    from saferule_ros.policy.errors import BundleError
    from saferule_ros.policy.golden import decode_golden
    from saferule_ros.policy.manifest import CONTEXT, GOLDEN, MANIFEST, POLICY, SIGNATURE
    from saferule_ros.policy.refusals import RefusedBundleError
    from saferule_ros.policy.spec import PolicySpec
    from saferule_ros.signing import PrivateKey, Signature, TrustedKeys

KEY = PrivateKey.generate()
TRUSTED = TrustedKeys({"fuzz": KEY.public})
Target = Callable[[bytes], None]


def targets(files: dict[str, bytes], work: Path) -> dict[str, tuple[Target, bytes]]:
    """By name: what is to be fuzzed, and a sound input to begin with."""
    spec = PolicySpec(**json.loads(files[MANIFEST])["spec"])

    def manifest(data: bytes) -> None:
        signature = json.dumps(KEY.sign(CONTEXT, data).as_json()).encode()
        invariants.check_signature(data, signature, TRUSTED, "it")
        invariants.check_manifest(data, "it")

    def signature(data: bytes) -> None:
        invariants.check_signature(files[MANIFEST], data, TRUSTED, "it")
        given = Signature.from_json(json.loads(data))
        assert given.key_id == KEY.public.id, "a signature by a key that is not trusted was accepted"

    def onnx(data: bytes) -> None:
        model = invariants.parse_onnx(data)
        invariants.check_self_contained(model)
        invariants.check_onnx(data)
        invariants.check_standard(model)
        invariants.check_operators(model)
        invariants.check_trace(model, "0" * 16)
        invariants.check_interface(model, spec)

    def golden(data: bytes) -> None:
        decode_golden(data, spec)

    def packed(data: bytes) -> None:
        path = work / "given.saferule"
        path.write_bytes(data)
        with archive.unpacked(path):
            pass

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as whole:
        for name, content in files.items():
            whole.writestr(name, content)
    signed = json.dumps(KEY.sign(CONTEXT, files[MANIFEST]).as_json()).encode()
    return {
        "manifest": (manifest, files[MANIFEST]), "signature": (signature, signed), "onnx": (onnx, files[POLICY]),
        "golden": (golden, files[GOLDEN]), "archive": (packed, buffer.getvalue()),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", choices=["manifest", "signature", "onnx", "golden", "archive"])
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="saferule-fuzz-"))
    store, (bundle_id,) = make_store(work, 1)
    files = {path.name: path.read_bytes() for path in store.path(bundle_id).iterdir()}
    assert set(files) == {MANIFEST, SIGNATURE, POLICY, GOLDEN}
    target, sound = targets(files, work)[options.target]
    corpus = work / "corpus"
    corpus.mkdir()
    (corpus / "sound").write_bytes(sound)

    def once(data: bytes) -> None:
        try:
            target(data)
        except (RefusedBundleError, BundleError) as error:
            assert error.what, "a refusal says what was wrong"

    atheris.Setup(
        [sys.argv[0], f"-max_total_time={options.seconds}", f"-seed={options.seed}", "-max_len=16384", str(corpus)],
        once,
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
