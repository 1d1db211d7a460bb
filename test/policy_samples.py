"""Policies, bundles and broken ONNX files for the tests of saferule_ros.policy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

from saferule_ros.policy.bundle import BundleMeta, Manifest, build_bundle
from saferule_ros.policy.spec import PolicySpec
from saferule_ros.policy.store import PolicyStore

OBSERVATION_SIZE, ACTION_SIZE, HIDDEN, CANDIDATES = 28, 2, 64, 16

SPEC = PolicySpec(
    observation_size=OBSERVATION_SIZE, action_size=ACTION_SIZE, action_low=(-1.0, -2.0), action_high=(1.0, 3.0),
    control_rate=20.0, task="SafetyPointCircle1-v0", cost_limit=25.0,
)  # fmt: skip

META = BundleMeta(algorithm="bcq_lag", dataset_digest="d" * 64, checkpoint_id="c" * 16)


class BcqLikePolicy(nn.Module):
    """All that BCQ-Lag's served graph has: normalisation, VAE decoder on fixed latents, perturbation, twin critics,
    choice of the best candidate, raw units."""

    def __init__(self, spec: PolicySpec = SPEC, seed: int = 0) -> None:
        super().__init__()
        sizes = spec.observation_size, spec.action_size
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.decoder = _body(sizes[0] + 2 * sizes[1], sizes[1])
            self.actor = _body(sizes[0] + sizes[1], sizes[1])
            inputs = sizes[0] + sizes[1]
            self.weights = nn.ParameterList([
                torch.randn(4, inputs, HIDDEN) * 0.2, torch.randn(4, HIDDEN, HIDDEN) * 0.2, torch.randn(4, HIDDEN, 1),
            ])  # fmt: skip
            self.biases = nn.ParameterList([torch.randn(4, 1, size) * 0.1 for size in (HIDDEN, HIDDEN, 1)])
            self.register_buffer("mean", torch.randn(sizes[0]))
            self.register_buffer("std", torch.rand(sizes[0]) + 0.5)
            self.register_buffer("latents", torch.randn(CANDIDATES, 2 * sizes[1]).clamp(-0.5, 0.5))
        self.register_buffer("low", torch.as_tensor(spec.low))
        self.register_buffer("high", torch.as_tensor(spec.high))

    def forward(self, raw: Tensor) -> Tensor:
        count = raw.shape[0]
        observations = ((raw - self.mean) / self.std).repeat_interleave(CANDIDATES, dim=0)
        actions = self.decoder(torch.cat([observations, self.latents.repeat(count, 1)], dim=-1))
        shift = 0.05 * self.actor(torch.cat([observations, actions], dim=-1))
        actions = (actions + shift).clamp(-1.0, 1.0)
        x = torch.cat([observations, actions], dim=-1).unsqueeze(0).expand(4, -1, -1)
        for index, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.baddbmm(bias, x, weight)
            x = torch.relu(x) if index < 2 else x
        values = x.squeeze(-1)  # (4, B * K)
        reward = 0.75 * values[:2].amin(0) + 0.25 * values[:2].amax(0)
        score = (reward - 0.6 * values[2:].amax(0)).view(count, CANDIDATES)
        rows = torch.arange(count) * CANDIDATES + score.argmax(dim=1)
        return self.low + 0.5 * (actions[rows] + 1.0) * (self.high - self.low)


def _body(inputs: int, outputs: int) -> nn.Sequential:
    layers = [nn.Linear(inputs, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(HIDDEN, outputs), nn.Tanh())


def torch_actions(module: nn.Module, observations: np.ndarray) -> np.ndarray:
    """(B, A) float32."""
    with torch.no_grad():
        return module(torch.as_tensor(observations)).numpy()


def observations(count: int, seed: int = 0, size: int = OBSERVATION_SIZE) -> np.ndarray:
    """Standard normal, (count, size) float32."""
    return np.random.default_rng(seed).standard_normal((count, size)).astype(np.float32)


# A small contract for bundles whose content does not matter: one number in, one out.
SMALL = PolicySpec(
    observation_size=1, action_size=1, action_low=(-1.0,), action_high=(1.0,), control_rate=20.0, task="t",
    cost_limit=1.0,
)  # fmt: skip


def graph(nodes: list[onnx.NodeProto], spec: PolicySpec = SMALL, **changes: object) -> onnx.ModelProto:
    """An ONNX model from input "observation" to output "action"; `changes` of names, shapes and types."""
    given = {
        "input": "observation", "output": "action", "input_shape": [1, spec.observation_size],
        "output_shape": [1, spec.action_size], "type": TensorProto.FLOAT, "initializers": [], "opsets": [("", 18)],
    } | changes  # fmt: skip
    body = helper.make_graph(
        nodes, "policy",
        [helper.make_tensor_value_info(given["input"], given["type"], given["input_shape"])],
        [helper.make_tensor_value_info(given["output"], given["type"], given["output_shape"])],
        given["initializers"],
    )  # fmt: skip
    opsets = [helper.make_opsetid(*opset) for opset in given["opsets"]]
    return helper.make_model(body, opset_imports=opsets, ir_version=8)


def scaled(factor: float, **changes: object) -> onnx.ModelProto:
    """action = factor * tanh(observation): a sound policy for factors up to 1."""
    weight = helper.make_tensor("weight", TensorProto.FLOAT, [1], [factor])
    source, target = str(changes.get("input", "observation")), str(changes.get("output", "action"))
    nodes = [helper.make_node("Tanh", [source], ["t"]), helper.make_node("Mul", ["t", "weight"], [target])]
    return graph(nodes, initializers=[weight], **changes)


def add_onnx(
    store: PolicyStore, model: onnx.ModelProto | bytes, tmp_path: Path, expected: float = 0.5,
    golden: np.ndarray | None = None, meta: BundleMeta = META, spec: PolicySpec = SMALL,
) -> Manifest:  # fmt: skip
    """Bundles any bytes as if they were a policy; golden actions are expected * tanh(observation)."""
    path = tmp_path / "given.onnx"
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    inputs = observations(32, size=1) if golden is None else golden
    return build_bundle(store, path, spec, inputs, expected * np.tanh(inputs), meta)
