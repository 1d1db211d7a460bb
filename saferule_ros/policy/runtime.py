"""Serves one policy: an ONNX Runtime session of one thread, loaded from verified bytes. No torch."""

from pathlib import Path

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from saferule_ros.policy.bundle_files import read_verified
from saferule_ros.policy.errors import InferenceError
from saferule_ros.policy.invariants import INPUT
from saferule_ros.policy.manifest import POLICY, Manifest
from saferule_ros.policy.spec import PolicySpec

# ONNX Runtime's exceptions have no common base of their own.
ORT_ERRORS: tuple[type[Exception], ...] = (
    ort_errors.Fail, ort_errors.InvalidArgument, ort_errors.InvalidGraph, ort_errors.InvalidProtobuf,
    ort_errors.NoModel, ort_errors.NoSuchFile, ort_errors.NotImplemented, ort_errors.RuntimeException,
    ort_errors.EPFail, ort_errors.EngineError, ort_errors.ModelLoadCanceled, ort_errors.ModelLoaded,
    ort_errors.ModelRequiresCompilation, ort_errors.NotFound, ort_errors.DeviceReset,
    ValueError, RuntimeError,
)  # fmt: skip

# The first runs allocate and touch memory; after ten, times are those of later runs (measured).
WARM_UP_RUNS = 10

# ONNX Runtime's log level "fatal only": what fails comes back as an exception and is reported once.
LOG_FATAL = 4


def open_session(model: bytes) -> onnxruntime.InferenceSession:
    """A session on one thread: for these small graphs the default thread pool doubles the tail of latency.

    Raises:
        InferenceError: ONNX Runtime refuses the bytes.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = LOG_FATAL
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except ORT_ERRORS as error:
        raise InferenceError(f"ONNX Runtime cannot load the policy: {error}", "Export it again") from error


class PolicyRuntime:
    """One loaded policy, warmed up. `act` may be called from one thread at a time.

    Args:
        bundle_path: folder of the bundle.
        manifest: its verified manifest. Exactly the bytes that have its digest are loaded.

    Raises:
        DamagedBundleError: the policy file changed since the manifest was verified.
        InferenceError: it cannot be loaded or run.
    """

    def __init__(self, bundle_path: Path | str, manifest: Manifest) -> None:
        self.manifest = manifest
        self._session = open_session(read_verified(Path(bundle_path), manifest, POLICY))
        self._observation_shape = (manifest.spec.observation_size,)
        self._action_shape = (1, manifest.spec.action_size)
        for _ in range(WARM_UP_RUNS):
            self.act(np.zeros(self._observation_shape, np.float32))

    @property
    def bundle_id(self) -> str:
        """Id of the bundle that this serves."""
        return self.manifest.bundle_id

    @property
    def spec(self) -> PolicySpec:
        """Its contract."""
        return self.manifest.spec

    def act(self, observation: np.ndarray) -> np.ndarray:
        """The policy's action: float32 (A,) in raw units, for an observation (O,) in raw units.

        Whether it is finite, in bounds and in time is for `failsafe` to judge.

        Raises:
            InferenceError: wrong size, or ONNX Runtime failed.
        """
        if observation.shape != self._observation_shape:
            raise InferenceError(
                f"policy {self.bundle_id} takes {self._observation_shape}, not {observation.shape}",
                "Feed the observations that the policy was learned on",
            )
        batch = np.ascontiguousarray(observation, np.float32)[None]
        try:
            action = self._session.run(None, {INPUT: batch})[0]
        except ORT_ERRORS as error:
            raise InferenceError(f"policy {self.bundle_id} failed: {error}", "Use another policy") from error
        if action.shape != self._action_shape:
            raise InferenceError(
                f"policy {self.bundle_id} gave shape {action.shape}, expected {self._action_shape}",
                "Only serve policies that passed the gate",
            )
        return action[0]
