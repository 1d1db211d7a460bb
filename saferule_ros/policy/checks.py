"""The gate's checks, in order. Each says what it found, and may leave something in the subject for later ones."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import onnxruntime
from google.protobuf.message import DecodeError

from saferule_ros.policy.golden import decode_golden, tolerance
from saferule_ros.policy.manifest import (
    GOLDEN,
    POLICY,
    SIZE_CAPS,
    Manifest,
    check_sizes,
    read_verified,
    verify_bundle,
)
from saferule_ros.policy.runtime import INPUT, OUTPUT, PolicyRuntime, open_session
from saferule_ros.policy.spec import PolicySpec

# Raw values beyond this are no measurement of any robot, and products of much larger ones overflow float32. A
# policy that gives NaN beyond is caught while it serves (failsafe).
EXTREME = 1e6

# Random observations: normal with the golden ones' mean and deviation, and ten times as wide.
RANDOM_COUNT, RANDOM_WIDTHS, RANDOM_SEED = 128, (1.0, 10.0), 0
EXTREME_DIMENSIONS = 128

# 1000 actions make ten beyond the 99th percentile. A slow policy gets fewer, so that the gate ends.
TIMED_RUNS, TIMED_LEAST, TIMED_BUDGET = 1000, 20, 5.0  # runs, runs, [s]


class Finding(NamedTuple):
    """What a check found."""

    passed: bool
    value: str
    limit: str


@dataclass
class Subject:
    """A bundle on its way through the gate. Later fields are set by the checks that earned them."""

    folder: Path
    bundle_id: str
    contract: PolicySpec | None
    deadline_s: float
    manifest: Manifest = field(init=False)
    model: bytes = field(init=False)
    session: onnxruntime.InferenceSession = field(init=False)
    runtime: PolicyRuntime = field(init=False)
    observations: np.ndarray = field(init=False)


def size_cap(subject: Subject) -> Finding:
    """Regular files only, none over its cap; nothing is opened before this has passed."""
    sizes = check_sizes(subject.folder)
    caps = ", ".join(f"{name} {cap}" for name, cap in SIZE_CAPS.items())
    return Finding(True, ", ".join(f"{name} {size}" for name, size in sizes.items()), f"bytes: {caps}")


def digests(subject: Subject) -> Finding:
    """Every file is what the manifest says, and the manifest is the one of this id."""
    subject.manifest = verify_bundle(subject.folder)
    subject.model = read_verified(subject.folder, subject.manifest, POLICY)
    found = subject.manifest.bundle_id
    return Finding(found == subject.bundle_id, f"manifest of {found}", f"manifest of {subject.bundle_id}")


def onnx_checker(subject: Subject) -> Finding:
    """ONNX's own checker, with shape inference."""
    limit = "onnx.checker accepts it"
    refusals = (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError, RuntimeError)
    try:
        onnx.checker.check_model(subject.model, full_check=True)
    except refusals as error:
        return Finding(False, " ".join(str(error).split()) or type(error).__name__, limit)
    return Finding(True, "valid", limit)


def standard_operators(subject: Subject) -> Finding:
    """One self-contained file: standard operators, no local functions, no data in other files."""
    limit = "operators of standard ONNX only, all data in the file"
    try:
        model = onnx.load_model_from_string(subject.model)
    except DecodeError as error:
        return Finding(False, str(error), limit)
    domains = {entry.domain for entry in model.opset_import}
    operators: set[str] = set()
    for graph in _graphs(model.graph):
        domains |= {node.domain for node in graph.node}
        operators |= {node.op_type for node in graph.node}
        for tensor in _tensors(graph):
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                return Finding(False, f"tensor {tensor.name!r} lies in another file", limit)
    if model.functions or domains - {"", "ai.onnx"}:
        foreign = sorted(domains - {"", "ai.onnx"}) + [f"function {item.name}" for item in model.functions]
        return Finding(False, f"uses {', '.join(foreign)}", limit)
    return Finding(True, f"{len(operators)} kinds of operator", limit)


def loads(subject: Subject) -> Finding:
    """ONNX Runtime makes a session of it."""
    subject.session = open_session(subject.model)
    return Finding(True, "loaded", "ONNX Runtime loads it")


def interface(subject: Subject) -> Finding:
    """One input and one output, named, typed and shaped as in the spec; and the spec is the robot's."""
    spec = subject.manifest.spec
    if subject.contract is not None and (differences := subject.contract.differences(spec)):
        return Finding(False, f"robot and bundle differ: {'; '.join(differences)}", "the robot's contract")
    wanted = f"{_signature(INPUT, [1, spec.observation_size])} -> {_signature(OUTPUT, [1, spec.action_size])}"
    found = " -> ".join(
        ", ".join(_signature(item.name, item.shape, item.type) for item in items)
        for items in (subject.session.get_inputs(), subject.session.get_outputs())
    )
    return Finding(found == wanted, found, wanted)


def golden_replay(subject: Subject) -> Finding:
    """The outputs are those that torch gave for the golden observations."""
    spec = subject.manifest.spec
    data = read_verified(subject.folder, subject.manifest, GOLDEN)
    subject.observations, expected = decode_golden(data, spec)
    subject.runtime = PolicyRuntime(subject.folder, subject.manifest)
    actions = np.stack([subject.runtime.act(row) for row in subject.observations])
    difference, allowed = np.abs(actions - expected), tolerance(spec)
    excess = np.where(np.isfinite(difference), difference / allowed, np.inf)
    row, column = np.unravel_index(int(excess.argmax()), excess.shape)
    where = f"(pair {row} of {len(actions)}, action {column})"
    value = f"largest difference {difference[row, column]:.3g} {where}"
    return Finding(bool((excess <= 1.0).all()), value, f"{allowed[column]:.3g}")


def finite_and_in_bounds(subject: Subject) -> Finding:
    """Actions are finite and in bounds for stored, random and extreme observations."""
    spec = subject.manifest.spec
    low, high = spec.low - spec.slack, spec.high + spec.slack
    limit = f"finite and within {list(spec.action_low)}..{list(spec.action_high)}, |observation| <= {EXTREME:g}"
    count = 0
    for kind, observations in _trials(subject.observations):
        for observation in observations:
            action = subject.runtime.act(observation)
            if not bool(((action >= low) & (action <= high)).all()):  # NaN fails every comparison
                what = f"{action.tolist()!r:.200} for a {kind} observation {observation.tolist()!r:.200}"
                return Finding(False, what, limit)
            count += 1
    return Finding(True, f"{count} observations", limit)


def deadline(subject: Subject) -> Finding:
    """The 99th percentile of the time of one action.

    CPU time of the thread that does all the work: a niced gate waits for others, which is not the policy's
    doing. Waiting while it serves is what failsafe's "late" catches.
    """
    times: list[tuple[float, float]] = []
    began = time.monotonic()
    while len(times) < TIMED_RUNS:
        observation = subject.observations[len(times) % len(subject.observations)]
        cpu, wall = time.thread_time(), time.perf_counter()
        subject.runtime.act(observation)
        times.append((time.thread_time() - cpu, time.perf_counter() - wall))
        if len(times) >= TIMED_LEAST and time.monotonic() - began > TIMED_BUDGET:
            break
    cpu, wall = np.percentile(np.asarray(times), 99.0, axis=0)
    return Finding(
        bool(cpu <= subject.deadline_s),
        f"p99 {1e3 * cpu:.3f} ms of CPU ({1e3 * wall:.3f} ms by the clock) over {len(times)} actions",
        f"{1e3 * subject.deadline_s:g} ms",
    )


CHECKS: tuple[Callable[[Subject], Finding], ...] = (
    size_cap, digests, onnx_checker, standard_operators, loads, interface, golden_replay,
    finite_and_in_bounds, deadline,
)  # fmt: skip


def _trials(stored: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Kinds of observations (N, O) that every policy must take."""
    size = stored.shape[1]
    yield "stored", stored
    generator = np.random.default_rng(RANDOM_SEED)
    for width in RANDOM_WIDTHS:
        noise = generator.standard_normal((RANDOM_COUNT, size)) * (width * (stored.std(axis=0) + 1e-3))
        yield "random", (stored.mean(axis=0) + noise).astype(np.float32)
    chosen = np.unique(np.linspace(0, size - 1, min(size, EXTREME_DIMENSIONS)).astype(int))
    alone = np.zeros((len(chosen), size), np.float32)
    alone[np.arange(len(chosen)), chosen] = EXTREME
    signs = generator.choice(np.asarray([-EXTREME, EXTREME], np.float32), (RANDOM_COUNT, size))
    together = np.stack([np.zeros(size), np.full(size, EXTREME), np.full(size, -EXTREME)]).astype(np.float32)
    yield "extreme", np.concatenate([together, alone, -alone, signs])


def _signature(name: str, shape: list[int | str | None], kind: str = "tensor(float)") -> str:
    return f"{name}: {kind} ({', '.join(str(size) for size in shape)})"


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and all graphs inside its operators."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                yield from _graphs(inner)


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            yield from attribute.tensors
            if attribute.HasField("t"):
                yield attribute.t
