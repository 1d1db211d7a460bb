"""What must hold of a bundle before it serves, as functions of plain data: no file is read here, nothing is loaded.

    stored in a store    known_files, size_cap, signature, manifest_schema, bundle_id, digests
    may serve            version_counter, contract, onnx_parses, self_contained, onnx_checker,
                         standard_operators, allowed_operators, traceable, interface
    tried in a worker    loads (by whoever loads it), golden_replay, finite_and_in_bounds, deadline

Each function raises its own kind of RefusedBundleError, which names the invariant, or returns what it found.
`bundle_files` reads and `checks` tries, and both ask here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pydantic

from saferule_ros.policy.errors import BundleError, SpecError
from saferule_ros.policy.golden import tolerance
from saferule_ros.policy.manifest import (
    CONTEXT,
    GOLDEN,
    POLICY,
    SIZE_CAPS,
    FileEntry,
    Manifest,
    digest,
    manifest_id,
)
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
    ManifestSchemaError,
    OnnxError,
    OnnxParseError,
    OperatorError,
    SelfContainedError,
    SizeCapError,
    TraceError,
    UnsignedBundleError,
    VersionCounterError,
)
from saferule_ros.policy.spec import PolicySpec, explain
from saferule_ros.policy.stamp import KEY, unstamped
from saferule_ros.signing import Signature, SigningError, TrustedKeys

if TYPE_CHECKING:
    import onnx

INPUT, OUTPUT = "observation", "action"

# What exported policies are made of: arithmetic, products, comparisons, choices, and moving numbers about. Left out
# is what can run for ever (Loop, Scan, If), differ from run to run (Random…, Bernoulli, Multinomial, Dropout), keep
# a state (LSTM, GRU, RNN are welcome once a policy has one), or reach out of numbers (strings, sequences, images).
_OPERATORS = """
Abs Add And ArgMax ArgMin BatchNormalization Cast CastLike Ceil Celu Clip Concat Constant ConstantOfShape Conv Cos
CumSum Div Einsum Elu Equal Erf Exp Expand Flatten Floor Gather GatherElements GatherND Gelu Gemm
GlobalAveragePool Greater GreaterOrEqual HardSigmoid HardSwish Identity InstanceNormalization IsInf IsNaN
LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax MatMul Max MaxPool Mean Min Mish Mod Mul Neg Not
OneHot Or PRelu Pad Pow Range Reciprocal ReduceL1 ReduceL2 ReduceLogSumExp ReduceMax ReduceMean ReduceMin
ReduceProd ReduceSum ReduceSumSquare Relu Reshape Round ScatterElements ScatterND Selu Shape Sigmoid Sign Sin Size
Slice Softmax Softplus Softsign Split Sqrt Squeeze Sub Sum Tan Tanh ThresholdedRelu Tile TopK Transpose Trilu
Unsqueeze Where Xor
"""
ALLOWED_OPERATORS = frozenset(_OPERATORS.split())


class Finding(NamedTuple):
    """What was found, and what is allowed."""

    value: str
    limit: str


class FileKind(NamedTuple):
    """What a folder or an archive says of a file in it."""

    regular: bool
    size: int  # bytes


# Of every bundle in a store.


def check_names(found: Mapping[str, FileKind], where: str) -> Finding:
    """`known_files`: all files of a bundle and no others, each a regular file."""
    foreign = sorted(set(found) - set(SIZE_CAPS))
    if foreign:
        raise BundleFilesError(f"bundle {where} holds a foreign file {foreign[0]!r:.100}", hint="Remove it")
    for name in SIZE_CAPS:
        if name not in found:
            raise BundleFilesError(f"bundle {where} has no {name}")
        if not found[name].regular:
            raise BundleFilesError(f"{name} of bundle {where} is not a regular file")
    return Finding(", ".join(sorted(found)), BundleFilesError.rule)


def check_sizes(found: Mapping[str, FileKind], where: str) -> Finding:
    """`size_cap`: no file is larger than what is ever read."""
    for name, cap in SIZE_CAPS.items():
        if found[name].size > cap:
            raise SizeCapError(f"{where}/{name} has {found[name].size} bytes, more than the cap of {cap}")
    caps = ", ".join(f"{name} {cap}" for name, cap in SIZE_CAPS.items())
    return Finding(", ".join(f"{name} {found[name].size}" for name in SIZE_CAPS), f"bytes: {caps}")


def check_signature(manifest: bytes, signature: bytes, trusted: TrustedKeys, where: str) -> Finding:
    """`signature`: a trusted key signed exactly these bytes as a manifest. Before they are parsed."""
    try:
        given = Signature.from_json(json.loads(signature))
        name = trusted.verify(CONTEXT, manifest, given)
    except SigningError as error:
        raise UnsignedBundleError(f"{where}: {error.what}", hint=error.hint) from error
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise UnsignedBundleError(f"signature of {where} is not JSON: {error}") from error
    return Finding(f"signed by {name} ({given.key_id})", UnsignedBundleError.rule)


def key_of(signature: bytes) -> str:
    """Id of the key that made a signature which check_signature() has found good."""
    return Signature.from_json(json.loads(signature)).key_id


def check_manifest(data: bytes, where: str) -> Manifest:
    """`manifest_schema`, and `bundle_id` as far as the manifest alone tells.

    The id is recomputed from the JSON as it stands, so that fields which later versions add do not change the ids of
    older bundles.
    """
    try:
        fields = json.loads(data)
        manifest = Manifest.model_validate(fields)
        expected = manifest_id(fields)
    except pydantic.ValidationError as error:
        raise ManifestSchemaError(f"manifest of {where} does not follow the schema: {explain(error)}") from error
    except SpecError as error:
        raise ManifestSchemaError(f"manifest of {where}: {error.what}") from error
    except (ValueError, RecursionError, BundleError) as error:  # BundleError: NaN, which is no JSON
        raise ManifestSchemaError(f"manifest of {where} is not JSON: {error}") from error
    if set(manifest.files) != {POLICY, GOLDEN}:
        raise ManifestSchemaError(
            f"manifest of {where} lists the files {sorted(manifest.files)}, expected {sorted((POLICY, GOLDEN))}"
        )
    if manifest.bundle_id != expected:
        raise BundleIdError(
            f"manifest of {where} says bundle_id {manifest.bundle_id}, but its content has the id {expected}"
        )
    if manifest.golden != manifest.files[GOLDEN].sha256:
        raise BundleIdError(f"manifest of {where} names two digests of {GOLDEN}")
    return manifest


def check_id(manifest: Manifest, wanted: str) -> Finding:
    """`bundle_id`: the manifest is the one that was asked for."""
    if manifest.bundle_id != wanted:
        raise BundleIdError(f"it holds the bundle {manifest.bundle_id}", f"the bundle {wanted}")
    return Finding(f"manifest of {manifest.bundle_id}", f"manifest of {wanted}")


def check_digest(name: str, data: bytes, manifest: Manifest, where: str) -> Finding:
    """`digests`: a file has the size and digest that the manifest says; and the policy is the one of the id."""
    entry, found = manifest.files[name], FileEntry(sha256=digest(data), size=len(data))
    if found != entry:
        raise DigestError(
            f"{where}/{name} has {found.size} bytes with sha256 {found.sha256}, "
            f"its manifest says {entry.size} bytes with sha256 {entry.sha256}"
        )
    if name == POLICY and digest(unstamped(data)) != manifest.content:
        raise BundleIdError(f"{where}/{name} is not the policy that the id {manifest.bundle_id} was made of")
    return Finding(f"{name} {found.sha256[:12]}…", DigestError.rule)


# Of a bundle that is to serve.


def check_version(manifest: Manifest, key_id: str, places: Places) -> Finding:
    """`version_counter`: no bundle older than one that was active, so that an old one cannot be played again.

    Args:
        key_id: that signed it.
        places: of the store that it is in; what is active or previous there passes, as the way back is open.
    """
    order, floor = places.order_of(key_id, manifest.version), places.version_floor
    here = "" if order == manifest.version else f" of its maker, {order} here"
    if order < floor and manifest.bundle_id not in places.in_service:
        raise VersionCounterError(
            f"policy {manifest.bundle_id} has version {manifest.version}{here}", f"at least {floor}, which was active"
        )
    return Finding(f"version {manifest.version}{here}", f"at least {floor}, or in service")


def check_contract(spec: PolicySpec, contract: PolicySpec | None) -> Finding:
    """`contract`: made for this robot; None: its own specification is the measure."""
    if contract is not None and (differences := contract.differences(spec)):
        raise ContractError(f"robot and bundle differ: {'; '.join(differences)}")
    return Finding(f"for {spec.task} at {spec.control_rate:g} Hz", ContractError.rule)


def parse_onnx(policy: bytes) -> onnx.ModelProto:
    """`onnx_parses`: the bytes are a model at all. Follows no reference to other files."""
    import onnx  # not for serving: only who judges policies pays for it
    from google.protobuf.message import DecodeError

    try:
        return onnx.load_model_from_string(policy)
    except (DecodeError, ValueError) as error:
        raise OnnxParseError(f"it cannot be parsed: {error}") from error


def check_self_contained(model: onnx.ModelProto) -> Finding:
    """`self_contained`: no tensor lies in another file, whatever its path. Before the checker, which looks for them."""
    import onnx

    for graph in graphs(model):
        for tensor in _tensors(graph):
            if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
                path = {entry.key: entry.value for entry in tensor.external_data}.get("location", "")
                raise SelfContainedError(f"tensor {tensor.name!r:.100} lies in another file, {path!r:.200}")
    return Finding("no references to files", SelfContainedError.rule)


def check_onnx(policy: bytes) -> Finding:
    """`onnx_checker`: ONNX's own checker, with shape inference."""
    import onnx

    refusals = (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError, RuntimeError)
    try:
        onnx.checker.check_model(policy, full_check=True)
    except refusals as error:
        raise OnnxError(" ".join(str(error).split()) or type(error).__name__) from error
    return Finding("valid", OnnxError.rule)


def check_standard(model: onnx.ModelProto) -> Finding:
    """`standard_operators`: of ONNX's own domain, with no functions of its own."""
    domains = {entry.domain for entry in model.opset_import}
    domains |= {node.domain for graph in graphs(model) for node in graph.node}
    foreign = sorted(domains - {"", "ai.onnx"}) + [f"function {item.name}" for item in model.functions]
    if foreign:
        raise CustomOperatorError(f"it uses {', '.join(foreign)}")
    return Finding("standard ONNX", CustomOperatorError.rule)


def check_operators(model: onnx.ModelProto) -> Finding:
    """`allowed_operators`: on the list above."""
    operators = {node.op_type for graph in graphs(model) for node in graph.node}
    if refused := sorted(operators - ALLOWED_OPERATORS):
        raise OperatorError(f"it uses {', '.join(refused)}")
    return Finding(f"{len(operators)} kinds of operator", f"{len(ALLOWED_OPERATORS)} kinds are allowed")


def check_trace(model: onnx.ModelProto, bundle_id: str) -> Finding:
    """`traceable`: the file says which bundle it belongs to."""
    named = [entry.value for entry in model.metadata_props if entry.key == KEY]
    if named != [bundle_id]:
        raise TraceError(f"the ONNX file names {named or 'no bundle'}", f"it names {bundle_id}")
    return Finding(f"it names {bundle_id}", TraceError.rule)


def check_interface(model: onnx.ModelProto, spec: PolicySpec) -> Finding:
    """`interface`: one input and one output, named, typed and shaped as in the specification."""
    wanted = f"{_signature(INPUT, [1, spec.observation_size])} -> {_signature(OUTPUT, [1, spec.action_size])}"
    found = " -> ".join(
        ", ".join(_declared(value) for value in values) for values in (model.graph.input, model.graph.output)
    )
    if found != wanted:
        raise InterfaceError(found, wanted)
    return Finding(found, wanted)


# Of what it does when it is run.


def check_golden(actions: np.ndarray, expected: np.ndarray, spec: PolicySpec) -> Finding:
    """`golden_replay`: actions (G, A) are those that torch gave."""
    difference, allowed = np.abs(actions - expected), tolerance(spec)
    excess = np.where(np.isfinite(difference), difference / allowed, np.inf)
    row, column = np.unravel_index(int(excess.argmax()), excess.shape)
    where = f"(pair {row} of {len(actions)}, action {column})"
    value, limit = f"largest difference {difference[row, column]:.3g} {where}", f"{allowed[column]:.3g}"
    if not bool((excess <= 1.0).all()):
        raise GoldenError(value, limit)
    return Finding(value, limit)


def check_action(action: np.ndarray, kind: str, observation: np.ndarray, spec: PolicySpec) -> None:
    """`finite_and_in_bounds`, for one observation (O,) of some kind and its action (A,)."""
    low, high = spec.low - spec.slack, spec.high + spec.slack
    if not bool(((action >= low) & (action <= high)).all()):  # NaN fails every comparison
        value = f"{action.tolist()!r:.200} for a {kind} observation {observation.tolist()!r:.200}"
        raise ActionBoundsError(value, f"finite and within {list(spec.action_low)}..{list(spec.action_high)}")


def check_deadline(p99_s: float, deadline_s: float, detail: str) -> Finding:
    """`deadline`: the 99th percentile of the time of one action [s]."""
    if not p99_s <= deadline_s:
        raise DeadlineError(f"p99 {1e3 * p99_s:.3f} ms {detail}", f"{1e3 * deadline_s:g} ms")
    return Finding(f"p99 {1e3 * p99_s:.3f} ms {detail}", f"{1e3 * deadline_s:g} ms")


def graphs(model: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    """The model's graph, those that are there for training it, and all graphs inside their operators."""
    waiting = [model.graph, *(part for info in model.training_info for part in (info.initialization, info.algorithm))]
    while waiting:
        graph = waiting.pop()
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                waiting += [*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])]


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            yield from attribute.tensors
            for sparse in (*attribute.sparse_tensors, attribute.sparse_tensor):
                yield from (sparse.values, sparse.indices)
            if attribute.HasField("t"):
                yield attribute.t


def _declared(value: Any) -> str:
    """An input or output as the model declares it."""
    import onnx

    tensor = value.type.tensor_type
    kind = onnx.TensorProto.DataType.Name(tensor.elem_type).lower() if tensor.elem_type else "none"
    if not tensor.HasField("shape"):
        return f"{value.name}: tensor({kind}) of any shape"
    shape = [size.dim_value if size.HasField("dim_value") else size.dim_param or "?" for size in tensor.shape.dim]
    return _signature(value.name, shape, f"tensor({kind})")


def _signature(name: str, shape: list[int | str], kind: str = "tensor(float)") -> str:
    return f"{name}: {kind} ({', '.join(str(size) for size in shape)})"
