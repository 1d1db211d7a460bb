"""The gate's checks, in order: each reads or tries what its invariant is about, and lets `invariants` judge it."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx

from saferule_ros.policy import invariants
from saferule_ros.policy.bundle_files import file_kinds, read_capped, read_verified
from saferule_ros.policy.errors import BundleError, InferenceError
from saferule_ros.policy.golden import decode_golden
from saferule_ros.policy.invariants import FileKind, Finding
from saferule_ros.policy.manifest import GOLDEN, MANIFEST, POLICY, SIGNATURE, Manifest
from saferule_ros.policy.places import Places
from saferule_ros.policy.refusals import (
    ActionBoundsError,
    BundleFilesError,
    BundleIdError,
    ContractError,
    CustomOperatorError,
    DeadlineError,
    DigestError,
    GoldenError,
    InterfaceError,
    LoadError,
    ManifestSchemaError,
    OnnxError,
    OnnxParseError,
    OperatorError,
    RefusedBundleError,
    SelfContainedError,
    SizeCapError,
    TraceError,
    UnsignedBundleError,
    VersionCounterError,
)
from saferule_ros.policy.runtime import PolicyRuntime
from saferule_ros.policy.spec import PolicySpec
from saferule_ros.signing import TrustedKeys

# Raw values beyond this are no measurement of any robot, and products of much larger ones overflow float32. A
# policy that gives NaN beyond is caught while it serves (failsafe).
EXTREME = 1e6

# Random observations: normal with the golden ones' mean and deviation, and ten times as wide.
RANDOM_COUNT, RANDOM_WIDTHS, RANDOM_SEED = 128, (1.0, 10.0), 0
EXTREME_DIMENSIONS = 128

# 1000 actions make ten beyond the 99th percentile. A slow policy gets fewer, so that the gate ends.
TIMED_RUNS, TIMED_LEAST, TIMED_BUDGET = 1000, 20, 5.0  # runs, runs, [s]


@dataclass
class Subject:
    """A bundle on its way through the gate. Later fields are set by the checks that earned them."""

    folder: Path
    bundle_id: str
    contract: PolicySpec | None
    deadline_s: float
    trusted: TrustedKeys
    places: Places  # of its store
    found: dict[str, FileKind] = field(init=False)
    said: bytes = field(init=False)  # the manifest, signed
    key_id: str = field(init=False)  # by whom
    manifest: Manifest = field(init=False)
    policy: bytes = field(init=False)
    model: onnx.ModelProto = field(init=False)
    runtime: PolicyRuntime = field(init=False)
    observations: np.ndarray = field(init=False)


def known_files(subject: Subject) -> Finding:
    subject.found = file_kinds(subject.folder)
    return invariants.check_names(subject.found, str(subject.folder))


def size_cap(subject: Subject) -> Finding:
    return invariants.check_sizes(subject.found, str(subject.folder))


def signature(subject: Subject) -> Finding:
    subject.said, made = (read_capped(subject.folder, name) for name in (MANIFEST, SIGNATURE))
    finding = invariants.check_signature(subject.said, made, subject.trusted, str(subject.folder))
    subject.key_id = invariants.key_of(made)
    return finding


def manifest_schema(subject: Subject) -> Finding:
    subject.manifest = invariants.check_manifest(subject.said, str(subject.folder))
    return Finding(f"format {subject.manifest.format}", ManifestSchemaError.rule)


def bundle_id(subject: Subject) -> Finding:
    return invariants.check_id(subject.manifest, subject.bundle_id)


def digests(subject: Subject) -> Finding:
    subject.policy = read_verified(subject.folder, subject.manifest, POLICY)
    read_verified(subject.folder, subject.manifest, GOLDEN)
    value = ", ".join(f"{name} {entry.sha256[:12]}…" for name, entry in subject.manifest.files.items())
    return Finding(value, DigestError.rule)


def version_counter(subject: Subject) -> Finding:
    return invariants.check_version(subject.manifest, subject.key_id, subject.places)


def contract(subject: Subject) -> Finding:
    return invariants.check_contract(subject.manifest.spec, subject.contract)


def onnx_parses(subject: Subject) -> Finding:
    subject.model = invariants.parse_onnx(subject.policy)
    return Finding(f"{len(subject.model.graph.node)} nodes", OnnxParseError.rule)


def self_contained(subject: Subject) -> Finding:
    return invariants.check_self_contained(subject.model)


def onnx_checker(subject: Subject) -> Finding:
    return invariants.check_onnx(subject.policy)


def standard_operators(subject: Subject) -> Finding:
    return invariants.check_standard(subject.model)


def allowed_operators(subject: Subject) -> Finding:
    return invariants.check_operators(subject.model)


def traceable(subject: Subject) -> Finding:
    return invariants.check_trace(subject.model, subject.bundle_id)


def interface(subject: Subject) -> Finding:
    return invariants.check_interface(subject.model, subject.manifest.spec)


def loads(subject: Subject) -> Finding:
    subject.runtime = PolicyRuntime(subject.folder, subject.manifest)
    return Finding("loaded and warm", LoadError.rule)


def golden_replay(subject: Subject) -> Finding:
    spec = subject.manifest.spec
    data = read_verified(subject.folder, subject.manifest, GOLDEN)
    subject.observations, expected = decode_golden(data, spec)
    actions = np.stack([subject.runtime.act(row) for row in subject.observations])
    return invariants.check_golden(actions, expected, spec)


def finite_and_in_bounds(subject: Subject) -> Finding:
    count, spec = 0, subject.manifest.spec
    for kind, observations in _trials(subject.observations):
        for observation in observations:
            invariants.check_action(subject.runtime.act(observation), kind, observation, spec)
            count += 1
    limit = f"finite and within {list(spec.action_low)}..{list(spec.action_high)}, |observation| <= {EXTREME:g}"
    return Finding(f"{count} observations", limit)


def deadline(subject: Subject) -> Finding:
    """CPU time of the thread that does all the work: a niced gate waits for others, which is not the policy's doing.

    Waiting while it serves is what failsafe's "late" catches.
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
    detail = f"of CPU ({1e3 * wall:.3f} ms by the clock) over {len(times)} actions"
    return invariants.check_deadline(float(cpu), subject.deadline_s, detail)


# Each with the kind of refusal that its failures are, whatever goes wrong in it.
CHECKS: tuple[tuple[type[RefusedBundleError], Callable[[Subject], Finding]], ...] = (
    (BundleFilesError, known_files),
    (SizeCapError, size_cap),
    (UnsignedBundleError, signature),
    (ManifestSchemaError, manifest_schema),
    (BundleIdError, bundle_id),
    (DigestError, digests),
    (VersionCounterError, version_counter),
    (ContractError, contract),
    (OnnxParseError, onnx_parses),
    (SelfContainedError, self_contained),
    (OnnxError, onnx_checker),
    (CustomOperatorError, standard_operators),
    (OperatorError, allowed_operators),
    (TraceError, traceable),
    (InterfaceError, interface),
    (LoadError, loads),
    (GoldenError, golden_replay),
    (ActionBoundsError, finite_and_in_bounds),
    (DeadlineError, deadline),
)


def make(kind: type[RefusedBundleError], check: Callable[[Subject], Finding], subject: Subject) -> Finding:
    """Makes one check.

    Raises:
        RefusedBundleError: of the kind that names the broken invariant.
    """
    try:
        return check(subject)
    except RefusedBundleError:
        raise
    except (BundleError, InferenceError) as error:
        raise kind(error.what) from error


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
