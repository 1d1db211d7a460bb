"""Policies that pass the gate and fail in service: sound wherever the gate looks, and not where the robot goes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from serving_samples import SPEC

from saferule_ros.policy.bundle import BundleMeta, build_bundle
from saferule_ros.policy.store import PolicyStore

# The gate tries values around the stored ones, up to some tens here, and extreme ones: nothing in between.
TRAP_LOW, TRAP_HIGH = 100.0, 200.0


def trap(nodes: list[onnx.NodeProto], **numbers: float) -> onnx.ModelProto:
    """action = 0.5 tanh(first two numbers), and `nodes`, which make "action" of "sound" and "in_trap" (1, 1)."""
    constants = {"half": 0.5, "low": TRAP_LOW, "high": TRAP_HIGH, **numbers}
    tensors = [numpy_helper.from_array(np.full((1, 1), value, np.float32), name) for name, value in constants.items()]
    for name, values in (("starts", [0, 0]), ("ends_1", [1, 1]), ("ends_2", [1, 2])):
        tensors.append(numpy_helper.from_array(np.asarray(values, np.int64), name))
    before = [
        helper.make_node("Slice", ["observation", "starts", "ends_2"], ["two"]),
        helper.make_node("Slice", ["observation", "starts", "ends_1"], ["one"]),
        helper.make_node("Tanh", ["two"], ["tanh"]), helper.make_node("Mul", ["tanh", "half"], ["sound"]),
        helper.make_node("Greater", ["one", "low"], ["above"]), helper.make_node("Less", ["one", "high"], ["below"]),
        helper.make_node("And", ["above", "below"], ["in_trap"]),
    ]  # fmt: skip
    body = helper.make_graph(
        [*before, *nodes], "policy",
        [helper.make_tensor_value_info("observation", TensorProto.FLOAT, [1, SPEC.observation_size])],
        [helper.make_tensor_value_info("action", TensorProto.FLOAT, [1, SPEC.action_size])],
        tensors,
    )  # fmt: skip
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def gives(value: float) -> onnx.ModelProto:
    """`value` in the trap."""
    return trap([helper.make_node("Where", ["in_trap", "wrong", "sound"], ["action"])], wrong=value)


def raises() -> onnx.ModelProto:
    """Looks up entry 1000 of 2 in the trap: ONNX Runtime gives an error."""
    return trap([
        helper.make_node("Cast", ["in_trap"], ["trapped"], to=TensorProto.INT64),
        helper.make_node("Constant", [], ["far"], value_ints=[1000]),
        helper.make_node("Mul", ["trapped", "far"], ["index"]),
        helper.make_node("GatherElements", ["sound", "index"], ["looked_up"], axis=1),
        helper.make_node("Where", ["in_trap", "looked_up", "sound"], ["action"]),
    ])  # fmt: skip


def slow(products: int = 4) -> onnx.ModelProto:
    """Always needs a millisecond or more: products of 256 x 256 matrices that hang on the input."""
    size = numpy_helper.from_array(np.asarray([256, 256], np.int64), "size")
    nodes = [
        helper.make_node("ReduceMax", ["sound"], ["most"], keepdims=1),
        helper.make_node("Mul", ["most", "zero"], ["m"]),
        helper.make_node("Expand", ["m", "size"], ["m0"]),
    ]  # fmt: skip
    nodes += [helper.make_node("MatMul", [f"m{i}", "m0"], [f"m{i + 1}"]) for i in range(products)]
    nodes.append(helper.make_node("Slice", [f"m{products}", "starts", "ends_1"], ["nothing"]))
    nodes.append(helper.make_node("Add", ["sound", "nothing"], ["action"]))
    model = trap(nodes, zero=0.0)
    model.graph.initializer.append(size)
    return model


FAULTY: dict[str, Callable[[], onnx.ModelProto]] = {
    "non_finite_action": lambda: gives(float("nan")),
    "out_of_bounds": lambda: gives(1.5),
    "inference_error": raises,
    "late": slow,
    "unsafe": lambda: gives(0.9),  # which only a safeguard minds
    "sound": lambda: gives(0.25),
}


def add_faulty(store: PolicyStore, kind: str, folder: Path) -> str:
    """Bundles one of FAULTY; its id."""
    path = folder / f"{kind}.onnx"
    onnx.save(FAULTY[kind](), path)
    golden = np.random.default_rng(0).standard_normal((64, SPEC.observation_size)).astype(np.float32)
    meta = BundleMeta(algorithm=kind, dataset_digest="d" * 64, checkpoint_id="c" * 16)
    return build_bundle(store, path, SPEC, golden, 0.5 * np.tanh(golden[:, :2]), meta).bundle_id
