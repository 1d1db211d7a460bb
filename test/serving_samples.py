"""Small policies for tests of serving: tanh(W o + b) as ONNX, made without torch, in a store of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from saferule_ros.policy.bundle import BundleMeta, build_bundle
from saferule_ros.policy.spec import PolicySpec
from saferule_ros.policy.store import PolicyStore

SPEC = PolicySpec(
    observation_size=28, action_size=2, action_low=(-1.0, -1.0), action_high=(1.0, 1.0), control_rate=50.0,
    task="SafetyPointCircle1-v0", cost_limit=25.0,
)  # fmt: skip


class TanhPolicy:
    """One policy per seed."""

    def __init__(self, seed: int, spec: PolicySpec = SPEC) -> None:
        random = np.random.default_rng(seed)
        self.weight = (0.2 * random.standard_normal((spec.observation_size, spec.action_size))).astype(np.float32)
        self.bias = (0.2 * random.standard_normal(spec.action_size)).astype(np.float32)
        self.spec = spec

    def act(self, observations: NDArray[np.float32]) -> NDArray[np.float32]:
        """(B, O) -> (B, A)."""
        return np.tanh(observations @ self.weight + self.bias).astype(np.float32)

    def save(self, path: Path) -> None:
        nodes = [
            helper.make_node("Gemm", ["observation", "weight", "bias"], ["logits"]),
            helper.make_node("Tanh", ["logits"], ["action"]),
        ]
        initial = [numpy_helper.from_array(self.weight, "weight"), numpy_helper.from_array(self.bias, "bias")]
        graph = helper.make_graph(
            nodes,
            "policy",
            [helper.make_tensor_value_info("observation", TensorProto.FLOAT, [1, self.spec.observation_size])],
            [helper.make_tensor_value_info("action", TensorProto.FLOAT, [1, self.spec.action_size])],
            initial,
        )
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)


def add_policy(store: PolicyStore, seed: int, folder: Path, parent: str | None = None, spec: PolicySpec = SPEC) -> str:
    """Bundles TanhPolicy(seed) into the store; its id."""
    policy = TanhPolicy(seed, spec)
    file = folder / f"policy-{seed}.onnx"
    policy.save(file)
    golden = np.random.default_rng(0).standard_normal((64, spec.observation_size)).astype(np.float32)
    meta = BundleMeta(algorithm="tanh", dataset_digest="d" * 64, checkpoint_id="c" * 16, parent=parent)
    return build_bundle(store, file, spec, golden, policy.act(golden), meta).bundle_id


def make_store(folder: Path, *seeds: int) -> tuple[PolicyStore, list[str]]:
    """A store with one policy per seed; the first is active. Returns it and the ids."""
    store = PolicyStore(folder / "store").create()
    ids = [add_policy(store, seed, folder) for seed in seeds]
    store.activate(ids[0])
    return store, ids
