"""The gate: every kind of bad policy is refused by the check that is there for it, with value and limit."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from policy_samples import META, SMALL, SPEC, BcqLikePolicy, add_onnx, graph, observations, scaled

from saferule_ros.policy import gate_process
from saferule_ros.policy.bundle import build_bundle, finish
from saferule_ros.policy.checks import CHECKS
from saferule_ros.policy.errors import SpecError, StoreError, UnknownPolicyError
from saferule_ros.policy.export import choose_golden
from saferule_ros.policy.gate import GateReport, run_gate
from saferule_ros.policy.gate_process import run_gate_process
from saferule_ros.policy.golden import tolerance
from saferule_ros.policy.manifest import POLICY, FileEntry, digest
from saferule_ros.policy.refusals import (
    RefusedBundleError,
    TraceError,
    UnsignedBundleError,
    VersionCounterError,
    refusal_of,
)
from saferule_ros.policy.stamp import stamped, unstamped
from saferule_ros.policy.store import PolicyStore
from saferule_ros.signing import PrivateKey

NAMES = [kind.invariant for kind, _ in CHECKS]


@pytest.fixture
def store(tmp_path: Path) -> PolicyStore:
    return PolicyStore(tmp_path / "store").create()


def test_a_real_export_passes_every_check_in_order(store: PolicyStore) -> None:
    module = BcqLikePolicy()
    golden = choose_golden(module, SPEC, observations(1000), 256)
    manifest = build_bundle(store, module, SPEC, golden.observations, golden.actions, META)
    report = run_gate(store.root, manifest.bundle_id, SPEC, deadline_s=0.05)
    assert report.passed, report.summary
    assert [check.name for check in report.checks] == NAMES == [
        "known_files", "size_cap", "signature", "manifest_schema", "bundle_id", "digests", "version_counter",
        "contract", "onnx_parses", "self_contained", "onnx_checker", "standard_operators", "allowed_operators",
        "traceable", "interface", "loads", "golden_replay", "finite_and_in_bounds", "deadline",
    ]  # fmt: skip
    report.require()


def node(*arguments: object, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(*arguments, **attributes)


def slow(side: int = 128, products: int = 6) -> onnx.ModelProto:
    """A chain of products of square matrices that hang on the input: some hundred microseconds, unless told more."""
    shape = helper.make_tensor("shape", TensorProto.INT64, [2], [side, side])
    small = helper.make_tensor("small", TensorProto.FLOAT, [1], [1e-3])
    half = helper.make_tensor("half", TensorProto.FLOAT, [1], [0.5])
    axes = helper.make_tensor("axes", TensorProto.INT64, [2], [0, 1])
    nodes = [node("Tanh", ["observation"], ["t"]), node("Mul", ["t", "small"], ["s"])]
    nodes.append(node("Expand", ["s", "shape"], ["m0"]))
    nodes += [node("MatMul", [f"m{i}", "m0"], [f"m{i + 1}"]) for i in range(products)]
    nodes.append(node("ReduceMin", [f"m{products}", "axes"], ["least"], keepdims=1))
    nodes += [node("Mul", ["least", "least"], ["sq"]), node("Clip", ["sq", "", "tiny"], ["c"])]
    nodes += [node("Mul", ["t", "half"], ["h"]), node("Add", ["h", "c"], ["action"])]
    tiny = helper.make_tensor("tiny", TensorProto.FLOAT, [], [1e-9])
    return graph(nodes, initializers=[shape, small, half, axes, tiny])


def beyond(at: float, value: float) -> onnx.ModelProto:
    """0.5 tanh(x), but `value` where x > at."""
    tensors = [
        helper.make_tensor(name, TensorProto.FLOAT, [1], [number])
        for name, number in (("half", 0.5), ("at", at), ("value", value))
    ]
    nodes = [
        node("Tanh", ["observation"], ["t"]), node("Mul", ["t", "half"], ["h"]),
        node("Greater", ["observation", "at"], ["far"]), node("Where", ["far", "value", "h"], ["action"]),
    ]  # fmt: skip
    return graph(nodes, initializers=tensors)


def external() -> onnx.TensorProto:
    """One number that lies in secret.bin."""
    tensor = helper.make_tensor("weight", TensorProto.FLOAT, [1, 1], [0.5])
    tensor.ClearField("float_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="secret.bin")
    return tensor


def branched(inner: onnx.NodeProto, *tensors: onnx.TensorProto, **changes: object) -> onnx.ModelProto:
    """`inner`, which gives "b", inside both branches of If."""
    output = [helper.make_tensor_value_info("b", TensorProto.FLOAT, None)]
    branch = helper.make_graph([inner], "branch", [], output, tensors)
    nodes = [
        node("ReduceSum", ["observation"], ["sum"], keepdims=0), node("Cast", ["sum"], ["yes"], to=TensorProto.BOOL),
        node("If", ["yes"], ["action"], then_branch=branch, else_branch=branch),
    ]  # fmt: skip
    return graph(nodes, **changes)


def hidden_operator() -> onnx.ModelProto:
    inner = node("Gelu", ["observation"], ["b"], domain="com.microsoft")
    return branched(inner, opsets=[("", 18), ("com.microsoft", 1)])


def trained() -> onnx.ModelProto:
    """With a graph that ONNX Runtime does not run here."""
    model = scaled(0.5)
    model.training_info.add().initialization.initializer.append(external())
    return model


EXTERNAL = {
    "what is for training": trained,
    "an initializer": lambda: graph([node("Mul", ["observation", "weight"], ["action"])], initializers=[external()]),
    "a constant": lambda: graph([node("Constant", [], ["c"], value=external()),
                                 node("Mul", ["observation", "c"], ["action"])]),
    "an initializer of a branch": lambda: branched(node("Identity", ["weight"], ["b"]), external()),
    "a constant of a branch": lambda: branched(node("Constant", [], ["b"], value=external())),
}  # fmt: skip


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("where", EXTERNAL)
def test_data_in_another_file_is_refused_whether_the_file_is_there_or_not(
    where: str, there: bool, store: PolicyStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if there:
        (tmp_path / "secret.bin").write_bytes(np.float32(0.5).tobytes())
    manifest = add_onnx(store, EXTERNAL[where](), tmp_path)
    report = run_gate(store.root, manifest.bundle_id, SMALL, deadline_s=0.05)
    assert report.checks[-1].name == "self_contained" and "'secret.bin'" in report.checks[-1].value


SOUND = scaled(0.5).SerializeToString()
BAD: dict[str, tuple[Callable[[], onnx.ModelProto | bytes], str, str]] = {
    "garbage": (lambda: b"garbage" * 50, "onnx_parses", "parse"),
    "an empty file": (lambda: b"", "onnx_checker", "ir_version"),
    "a file cut in half": (lambda: SOUND[: len(SOUND) // 2], "onnx_parses", "."),
    "a file cut by one byte": (lambda: SOUND[:-1], "onnx_parses", "."),
    "an unknown operator": (lambda: graph([node("Magic", ["observation"], ["action"])]), "onnx_checker", "Magic"),
    "a dangling input": (lambda: graph([node("Tanh", ["nothing"], ["action"])]), "onnx_checker", "nothing"),
    "a branch": (lambda: branched(node("Identity", ["observation"], ["b"])), "allowed_operators", "If"),
    "random numbers": (lambda: graph([node("RandomNormalLike", ["observation"], ["action"])]), "allowed_operators",
                       "RandomNormalLike"),
    "an operator of another domain": (hidden_operator, "standard_operators", r"com\.microsoft"),
    "another input name": (lambda: scaled(0.5, input="state"), "interface", "state: tensor"),
    "another output name": (lambda: scaled(0.5, output="torque"), "interface", "torque: tensor"),
    "a wider input": (lambda: scaled(0.5, input_shape=[1, 2], output_shape=[1, 2]), "interface", r"\(1, 2\)"),
    "an open batch": (lambda: scaled(0.5, input_shape=["n", 1], output_shape=["n", 1]), "interface", r"\(n, 1\)"),
    "doubles": (lambda: graph([node("Tanh", ["observation"], ["action"])], type=TensorProto.DOUBLE),
                "interface", "double"),
    "other weights": (lambda: scaled(0.5 + 1e-4), "golden_replay", r"difference 9\.\d+e-05"),
    "NaN everywhere": (lambda: graph([node("Tanh", ["observation"], ["t"]), node("Div", ["z", "z"], ["n"]),
                                      node("Add", ["t", "n"], ["action"])],
                                     initializers=[helper.make_tensor("z", TensorProto.FLOAT, [1], [0.0])]),
                       "golden_replay", "difference nan"),
    "NaN far out": (lambda: beyond(1e3, float("nan")), "finite_and_in_bounds", "nan.*extreme"),
    "infinite far out": (lambda: beyond(1e3, float("inf")), "finite_and_in_bounds", "inf.*extreme"),
    "out of bounds beyond the data": (lambda: beyond(5.0, 1.1), "finite_and_in_bounds", r"1\.1.*random"),
    "too slow": (slow, "deadline", "p99"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_policy_is_refused_by_the_check_that_is_there_for_it(
    kind: str, store: PolicyStore, tmp_path: Path
) -> None:
    make, check, words = BAD[kind]
    manifest = add_onnx(store, make(), tmp_path)
    report = run_gate(store.root, manifest.bundle_id, SMALL, deadline_s=5e-5)
    assert [entry.name for entry in report.checks] == NAMES[: NAMES.index(check) + 1]
    assert not report.passed and all(entry.passed for entry in report.checks[:-1])
    failed = report.checks[-1]
    assert failed.limit and re.search(words, failed.value), failed
    with pytest.raises(RefusedBundleError) as caught:
        report.require()
    assert type(caught.value) is refusal_of(check) and caught.value.invariant == check
    assert all(part in str(caught.value) for part in (manifest.bundle_id, check, failed.value, failed.limit))


def test_a_file_that_names_another_bundle_is_refused_although_it_is_signed(store: PolicyStore, tmp_path: Path) -> None:
    manifest = add_onnx(store, scaled(0.5), tmp_path)
    folder = store.path(manifest.bundle_id)
    policy = stamped(unstamped((folder / POLICY).read_bytes()), "0" * 16)
    (folder / POLICY).write_bytes(policy)
    files = manifest.files | {POLICY: FileEntry(sha256=digest(policy), size=len(policy))}
    finish(folder, manifest.model_copy(update={"files": files}), store.signer())
    report = run_gate(store.root, manifest.bundle_id, SMALL, deadline_s=0.05)
    assert report.checks[-1].name == "traceable" and "0000000000000000" in report.checks[-1].value
    with pytest.raises(TraceError, match=manifest.bundle_id):
        report.require()


def test_a_policy_within_tolerance_of_torch_passes_and_one_just_beyond_does_not(
    store: PolicyStore, tmp_path: Path
) -> None:
    golden = np.full((1, 1), 10.0, np.float32)  # tanh is 1: the difference is that of the factors
    for factor, passes in ((0.5 + 0.8e-5, True), (0.5 + 1.2e-5, False)):
        manifest = add_onnx(store, scaled(factor), tmp_path, golden=golden)
        report = run_gate(store.root, manifest.bundle_id, SMALL, deadline_s=0.05)
        assert report.passed is passes, report.summary


@pytest.mark.parametrize("bound", [1e-5, 1e-2, 1e3])
def test_a_policy_that_acts_the_other_way_is_refused_in_whatever_unit_its_actions_are(
    store: PolicyStore, tmp_path: Path, bound: float
) -> None:
    spec = SMALL.model_copy(update={"action_low": (-bound,), "action_high": (bound,)})
    for factor, passes in ((0.5 * bound, True), (-0.5 * bound, False)):
        manifest = add_onnx(store, scaled(factor), tmp_path, expected=0.5 * bound, spec=spec)
        report = run_gate(store.root, manifest.bundle_id, spec, deadline_s=0.05)
        assert report.passed is passes, report.summary


def test_of_a_narrow_range_far_from_zero_no_more_is_asked_than_single_precision_has() -> None:
    low, high = np.float32(1000.0), np.float32(1000.01)
    spec = SMALL.model_copy(update={"action_low": (float(low),), "action_high": (float(high),)})
    one_step = np.nextafter(high, np.float32(np.inf)) - high
    assert one_step <= tolerance(spec)[0] < 10 * one_step


def test_a_damaged_file_is_refused_by_its_digest(store: PolicyStore, tmp_path: Path) -> None:
    manifest = add_onnx(store, scaled(0.5), tmp_path)
    path = store.path(manifest.bundle_id) / "policy.onnx"
    path.write_bytes(path.read_bytes()[:-1])
    report = run_gate(store.root, manifest.bundle_id, SMALL, deadline_s=0.05)
    assert report.checks[-1].name == "digests"
    assert manifest.files["policy.onnx"].sha256 in report.summary and str(path) in report.summary


def test_an_oversized_file_is_refused_before_it_is_read(store: PolicyStore, tmp_path: Path) -> None:
    manifest = add_onnx(store, scaled(0.5), tmp_path)
    with (store.path(manifest.bundle_id) / "policy.onnx").open("r+b") as file:
        file.truncate(1 << 40)  # a hole: reading it would take all memory
    report = run_gate(store.root, manifest.bundle_id, SMALL, deadline_s=0.05)
    assert [check.name for check in report.checks] == ["known_files", "size_cap"]
    assert "1099511627776" in report.summary and "67108864" in report.summary


def test_a_bundle_in_the_folder_of_another_is_refused(store: PolicyStore, tmp_path: Path) -> None:
    first, second = (add_onnx(store, scaled(0.5), tmp_path).bundle_id for _ in range(2))
    for file in store.path(first).iterdir():
        (store.path(second) / file.name).write_bytes(file.read_bytes())
    report = run_gate(store.root, second, SMALL, deadline_s=0.05)
    assert report.checks[-1].name == "bundle_id" and f"holds the bundle {first}" in report.summary


def test_a_bundle_for_another_robot_is_refused_with_the_differences(store: PolicyStore, tmp_path: Path) -> None:
    manifest = add_onnx(store, scaled(0.5), tmp_path)
    robot = SMALL.model_copy(update={"action_high": (0.75,), "control_rate": 50.0})
    report = run_gate(store.root, manifest.bundle_id, robot, deadline_s=0.05)
    assert report.checks[-1].name == "contract"
    assert "action_high (0.75,) != (1.0,)" in report.summary and "control_rate 50.0 != 20.0" in report.summary


def test_a_policy_that_no_trusted_key_signed_is_refused_before_it_is_parsed(store: PolicyStore, tmp_path: Path) -> None:
    manifest = add_onnx(store, scaled(0.5), tmp_path)
    (store.keys.folder / "trusted" / "own.pem").write_bytes(PrivateKey.generate().public.pem)
    report = run_gate(store.root, manifest.bundle_id, SMALL, deadline_s=0.05)
    assert [check.name for check in report.checks] == ["known_files", "size_cap", "signature"]
    with pytest.raises(UnsignedBundleError, match=r"is not trusted here.*invariant signature"):
        report.require()


def test_an_older_policy_than_was_active_is_no_update_but_the_way_back_is_open(
    store: PolicyStore, tmp_path: Path
) -> None:
    first, second, third = (add_onnx(store, scaled(0.5), tmp_path).bundle_id for _ in range(3))
    for bundle_id in (second, third):
        store.activate(bundle_id)
    replayed = run_gate(store.root, first, SMALL, deadline_s=0.05)
    assert replayed.checks[-1].name == "version_counter"
    assert "has version 1" in replayed.summary and "at least 3" in replayed.summary
    with pytest.raises(VersionCounterError, match="roll back"):
        replayed.require()
    with pytest.raises(VersionCounterError, match="has version 1"):
        store.activate(first)  # nor past the gate
    assert run_gate(store.root, second, SMALL, deadline_s=0.05).passed
    store.rollback()
    assert run_gate(store.root, third, SMALL, deadline_s=0.05).passed


def test_an_unknown_bundle_and_a_senseless_deadline_are_errors_not_verdicts(store: PolicyStore, tmp_path: Path) -> None:
    manifest = add_onnx(store, scaled(0.5), tmp_path)
    with pytest.raises(UnknownPolicyError, match=f"'nothing'.*{manifest.bundle_id}"):
        run_gate(store.root, "nothing", SMALL, deadline_s=0.05)
    with pytest.raises(SpecError, match="-1"):
        run_gate(store.root, manifest.bundle_id, SMALL, deadline_s=-1.0)


def command(store: PolicyStore, bundle_id: str, *more: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-P", "-m", "saferule_ros.policy.gate", str(store.root), bundle_id, "--deadline", "0.05"]
    return subprocess.run([*line, *more], capture_output=True, text=True, timeout=120)


def test_the_command_line_says_passed_refused_or_wrong(store: PolicyStore, tmp_path: Path) -> None:
    good = add_onnx(store, scaled(0.5), tmp_path).bundle_id
    bad = add_onnx(store, b"garbage", tmp_path).bundle_id
    passed, refused, wrong = command(store, good), command(store, bad), command(store, "0" * 16)
    assert (passed.returncode, refused.returncode, wrong.returncode) == (0, 1, 2)
    assert json.loads(passed.stdout)["passed"] and not json.loads(refused.stdout)["passed"]
    assert GateReport.model_validate_json(refused.stdout).checks[-1].name == "onnx_parses"
    assert wrong.stdout == "" and good in wrong.stderr and "Traceback" not in wrong.stderr


def test_the_gates_process_is_niced_and_judges_alike(
    store: PolicyStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = add_onnx(store, scaled(0.5), tmp_path).bundle_id
    real, seen = subprocess.Popen, []
    monkeypatch.setattr(subprocess, "Popen", lambda line, **more: seen.append(line) or real(line, **more))
    assert run_gate_process(store.root, good, SMALL, 0.05, nice=1).passed
    assert seen[0][seen[0].index("--nice") + 1] == "1"
    robot = SMALL.model_copy(update={"control_rate": 50.0})
    assert "control_rate" in run_gate_process(store.root, good, robot, 0.05, nice=1).summary
    names = tuple(f"joint_{number}_torque" for number in range(20_000))
    wide = SMALL.model_copy(update={"observation_size": len(names), "observation_names": names})
    refused = run_gate_process(store.root, good, wide, 0.05, nice=1)  # longer than an argument may be
    assert refused.checks[-1].name == "contract" and "observation_names" in refused.summary
    assert len(refused.summary) < 1000
    with pytest.raises(StoreError, match="cannot judge policy 0000"):
        run_gate_process(store.root, "0" * 16, SMALL, 0.05)


def test_a_policy_that_asks_for_all_memory_is_refused_and_takes_none(store: PolicyStore, tmp_path: Path) -> None:
    shape = helper.make_tensor("shape", TensorProto.INT64, [2], [200_000, 200_000])  # 160 GB
    nodes = [node("Expand", ["observation", "shape"], ["all"]), node("ReduceMax", ["all"], ["most"], keepdims=1),
             node("Tanh", ["most"], ["action"])]  # fmt: skip
    bomb = add_onnx(store, graph(nodes, initializers=[shape]), tmp_path).bundle_id
    report = run_gate_process(store.root, bomb, SMALL, 0.05)
    assert not report.passed and report.checks[-1].name in ("loads", "process"), report.summary


def test_a_gate_that_crashes_or_hangs_is_a_refusal(
    store: PolicyStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = add_onnx(store, scaled(0.5), tmp_path).bundle_id
    real = subprocess.Popen

    def instead(program: str) -> None:
        monkeypatch.setattr(
            gate_process.subprocess, "Popen", lambda line, **more: real([sys.executable, "-c", program], **more)
        )

    instead("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    crashed = run_gate_process(store.root, good, SMALL, 0.05)
    assert not crashed.passed and f"status {-signal.SIGSEGV}" in crashed.summary
    instead("import signal; signal.pause()")
    hung = run_gate_process(store.root, good, SMALL, 0.05, timeout_s=0.5)
    assert not hung.passed and "did not end in 0.5 s" in hung.summary
    instead("print('{}')")
    assert not run_gate_process(store.root, good, SMALL, 0.05).passed


class NotWantedError(Exception):
    """What a caller raises who needs no verdict any more."""


def test_a_gate_whose_verdict_is_not_wanted_any_more_is_ended_at_once(
    store: PolicyStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, running = add_onnx(store, scaled(0.5), tmp_path).bundle_id, tmp_path / "running"
    program = f"import pathlib, signal; pathlib.Path({str(running)!r}).touch(); signal.pause()"
    real, children = subprocess.Popen, []

    def start(_: list[str], **more: Any) -> subprocess.Popen[str]:
        children.append(real([sys.executable, "-c", program], **more))
        return children[-1]

    def wanted() -> None:
        if running.exists():
            raise NotWantedError

    monkeypatch.setattr(gate_process.subprocess, "Popen", start)
    with pytest.raises(NotWantedError):
        run_gate_process(store.root, good, SMALL, 0.05, timeout_s=60.0, wanted=wanted)
    assert [child.returncode for child in children] == [-signal.SIGKILL]


def test_a_gate_that_nobody_waits_for_ends_when_its_processor_time_is_used_up(
    store: PolicyStore, tmp_path: Path
) -> None:
    endless = add_onnx(store, slow(side=1024, products=1000), tmp_path).bundle_id  # many seconds for each action
    assert command(store, endless, "--cpu-seconds", "4").returncode == -signal.SIGKILL


def test_a_niced_gate_lowers_its_priority(store: PolicyStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from saferule_ros.policy import gate

    good = add_onnx(store, scaled(0.5), tmp_path).bundle_id
    asked: list[int] = []
    monkeypatch.setattr(os, "nice", asked.append)
    assert gate.main([str(store.root), good, "--deadline", "0.05", "--nice", "7"]) == 0
    assert asked == [7]
