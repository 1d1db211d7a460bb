"""Serving: torch's actions without torch, from verified bytes only."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from policy_samples import META, SPEC, BcqLikePolicy, add_onnx, observations, scaled

from saferule_ros.policy.bundle import build_bundle
from saferule_ros.policy.errors import CorruptBundleError, InferenceError
from saferule_ros.policy.export import choose_golden
from saferule_ros.policy.runtime import PolicyRuntime, open_session
from saferule_ros.policy.store import PolicyStore


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> PolicyStore:
    store = PolicyStore(tmp_path_factory.mktemp("runtime") / "store").create()
    module = BcqLikePolicy()
    golden = choose_golden(module, SPEC, observations(500), 200)
    manifest = build_bundle(store, module, SPEC, golden.observations, golden.actions, META)
    store.activate(manifest.bundle_id)
    return store


def test_the_runtime_gives_torchs_actions(store: PolicyStore) -> None:
    runtime = PolicyRuntime(*store.active())
    golden = choose_golden(BcqLikePolicy(), SPEC, observations(500, seed=5), 200)
    actions = np.stack([runtime.act(row) for row in golden.observations])
    assert actions.dtype == np.float32
    assert np.abs(actions - golden.actions).max() <= 1e-5
    assert np.array_equal(actions, np.stack([runtime.act(row) for row in golden.observations]))


def test_actions_are_arrays_of_their_own(store: PolicyStore) -> None:
    runtime = PolicyRuntime(*store.active())
    first = runtime.act(observations(1)[0])
    kept = first.copy()
    runtime.act(observations(1, seed=9)[0])
    assert np.array_equal(first, kept)


def test_raw_values_of_other_float_types_and_layouts_are_served_alike(store: PolicyStore) -> None:
    runtime, row = PolicyRuntime(*store.active()), observations(1)[0]
    assert np.array_equal(runtime.act(row.astype(np.float64)), runtime.act(row))
    assert np.array_equal(runtime.act(np.repeat(row, 2)[::2]), runtime.act(row))


@pytest.mark.parametrize("shape", [(27,), (29,), (1, 28), (), (0,)])
def test_a_wrong_size_is_refused_with_both_sizes(store: PolicyStore, shape: tuple[int, ...]) -> None:
    runtime = PolicyRuntime(*store.active())
    with pytest.raises(InferenceError) as caught:
        runtime.act(np.zeros(shape, np.float32))
    assert "(28,)" in str(caught.value) and str(shape) in str(caught.value)


def test_sessions_have_one_thread(store: PolicyStore) -> None:
    options = open_session((store.active().path / "policy.onnx").read_bytes()).get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 1)


def test_a_file_that_changed_after_it_was_verified_is_not_loaded(tmp_path: Path) -> None:
    store = PolicyStore(tmp_path / "store").create()
    bundle = store.get(add_onnx(store, scaled(0.5), tmp_path).bundle_id)
    (bundle.path / "policy.onnx").write_bytes(scaled(0.25).SerializeToString())
    with pytest.raises(CorruptBundleError, match=r"policy\.onnx has .* manifest says"):
        PolicyRuntime(*bundle)


def test_bytes_that_are_no_policy_are_an_error_with_the_reason(tmp_path: Path) -> None:
    store = PolicyStore(tmp_path / "store").create()
    manifest = add_onnx(store, b"no onnx", tmp_path)
    with pytest.raises(InferenceError, match="cannot load"):
        PolicyRuntime(*store.get(manifest.bundle_id))


def test_serving_and_gate_never_import_torch(store: PolicyStore) -> None:
    program = """
import sys
import numpy as np
from saferule_ros.policy import bundle, errors, failsafe, gate, gate_process, runtime, store
places = store.PolicyStore(sys.argv[1])
served = runtime.PolicyRuntime(*places.active())
action = served.act(np.zeros(28, np.float32))
limits = failsafe.Limits(served.spec, 0.1, 0.05)
tick = failsafe.Tick(True, np.zeros(28, np.float32), 0, None, 0, action=action)
assert failsafe.decide(limits, tick).use_policy
assert gate.run_gate(sys.argv[1], served.bundle_id, served.spec, 0.05).passed
assert places.list()
loaded = [name for name in ("torch", "onnxscript", "rclpy", "safety_gymnasium") if name in sys.modules]
assert not loaded, loaded
"""
    done = subprocess.run([sys.executable, "-P", "-c", program, str(store.root)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
