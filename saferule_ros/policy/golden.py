"""Golden pairs: observations with the actions that torch gave. The gate replays them before a policy serves."""

import io
import zipfile

import numpy as np

from saferule_ros.policy.errors import BundleError
from saferule_ros.policy.spec import PolicySpec
from saferule_ros.policy.zip_errors import ZIP_ERRORS

# 4096 pairs replay in 0.3 s at 50 us each and are far more than tell one export from another.
MAX_PAIRS = 4096
ARRAYS = ("observations", "actions")

# Largest allowed difference between ONNX Runtime and torch, in units of half the action range. Measured on BCQ-like
# graphs: 1e-7 to 2.5e-6, so 1e-5 holds for any sound export.
TOLERANCE = 1e-5
# Where a range is narrow and far from zero, float32 itself is coarser: so many of its steps at the larger bound.
ROUNDING = 4.0 * float(np.finfo(np.float32).eps)


def tolerance(spec: PolicySpec) -> np.ndarray:
    """Largest allowed difference from the golden actions, (A,), raw units."""
    low, high = spec.low.astype(np.float64), spec.high.astype(np.float64)
    return TOLERANCE * 0.5 * (high - low) + ROUNDING * np.maximum(np.abs(low), np.abs(high))


def encode_golden(observations: np.ndarray, actions: np.ndarray, spec: PolicySpec) -> bytes:
    """Checks the pairs and returns them as the bytes of an uncompressed npz without pickles.

    Args:
        observations: (G, O), raw units.
        actions: (G, A), what torch gave for them.

    Raises:
        BundleError: wrong shape, none or too many, not finite.
    """
    given = {"observations": observations, "actions": actions}
    sizes = {"observations": spec.observation_size, "actions": spec.action_size}
    for name, array in given.items():
        if array.ndim != 2 or array.shape[1] != sizes[name] or not 1 <= len(array) <= MAX_PAIRS:
            raise BundleError(
                f"golden {name} have shape {array.shape}",
                f"Give (G, {sizes[name]}) with 1 <= G <= {MAX_PAIRS}",
            )
        if not np.isfinite(array).all():
            row = int(np.argwhere(~np.isfinite(array))[0, 0])
            raise BundleError(
                f"golden {name} are not finite: row {row} is {array[row]!r:.200}",
                "A policy that gives this must not be bundled; learn it anew",
            )
    if len(observations) != len(actions):
        raise BundleError(
            f"there are {len(observations)} golden observations but {len(actions)} golden actions",
            "Give one action per observation",
        )
    buffer = io.BytesIO()
    np.savez(buffer, observations=observations.astype(np.float32), actions=actions.astype(np.float32))
    return buffer.getvalue()


def decode_golden(data: bytes, spec: PolicySpec) -> tuple[np.ndarray, np.ndarray]:
    """Reads what encode_golden wrote: observations (G, O) and actions (G, A), float32.

    Array headers are read first and must agree with the bytes that follow, so that a forged header cannot
    ask for more memory than the file has.

    Raises:
        BundleError: not such a file.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            observations, actions = (_member(archive, name) for name in ARRAYS)
    except ZIP_ERRORS as error:
        raise BundleError(f"golden pairs are unreadable: {error}", "Build the bundle again") from error
    wanted = {"observations": (observations, spec.observation_size), "actions": (actions, spec.action_size)}
    for name, (array, size) in wanted.items():
        if array.shape != (len(observations), size) or not 1 <= len(array) <= MAX_PAIRS:
            raise BundleError(
                f"golden {name} have shape {array.shape}, expected (G, {size}) with 1 <= G <= {MAX_PAIRS}",
                "Build the bundle again",
            )
    return observations, actions


def _member(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    info = archive.getinfo(f"{name}.npy")
    if info.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{name} is compressed")
    stream = io.BytesIO(archive.read(info))
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ValueError(f"{name} is not an npy file of version 1.0")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    content = stream.read()
    if fortran or dtype != np.float32 or len(content) != 4 * int(np.prod(shape, dtype=np.int64)):
        raise ValueError(f"{name} has shape {shape}, type {dtype} and {len(content)} bytes")
    return np.frombuffer(content, np.float32).reshape(shape)
