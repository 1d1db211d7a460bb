"""torch module -> one self-contained ONNX file of standard operators. Needs torch; serving does not.

The older exporter (dynamo=False) is used on purpose. For this kind of graph it takes 0.05 to 0.2 s where the
newer one takes 1 to 11 s, its file is smaller and runs equally fast, and it does not write the paths of source
files on this machine into the ONNX file, as the newer one does (torch 2.13).
"""

import copy
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from saferule_ros.policy.errors import ExportError
from saferule_ros.policy.golden import tolerance
from saferule_ros.policy.invariants import ALLOWED_OPERATORS, INPUT, OUTPUT
from saferule_ros.policy.spec import PolicySpec

if TYPE_CHECKING:
    from torch import Tensor, nn

# ONNX operator set, fixed so that every ONNX Runtime since 1.14 (2023) can serve the file.
OPSET = 18

# Near ties: actions that move by more than the gate's tolerance when every weight is off by about ten float32
# roundings. Of 27,176 edges of a BCQ-like policy, found by bisection, 16 draws recognised 99 in 100, and all but
# 24 of the 10,571 on which torch and ONNX Runtime disagreed [ours]. Logged observations hardly ever lie on one.
JITTER, JITTER_DRAWS = 1e-6, 16


class GoldenPairs(NamedTuple):
    """Observations (G, O) and torch's actions (G, A), float32, and how many near ties were left out."""

    observations: np.ndarray
    actions: np.ndarray
    near_ties: int


def export_onnx(
    module: "nn.Module", spec: PolicySpec, path: Path | str, metadata: Mapping[str, str] | None = None
) -> None:
    """Writes `module` as an ONNX file: input "observation" float32 (1, O), output "action" float32 (1, A).

    Normalisation belongs inside the module: the robot feeds raw values. The batch size is fixed at 1.

    Args:
        module: maps (B, O) to (B, A), without randomness. It is left as it was.
        spec: its contract.
        path: file to write.
        metadata: goes into the file's metadata_props.

    Raises:
        ExportError: output of the wrong shape or type, an operator without ONNX form, or not a standard one.
    """
    import onnx
    import torch

    frozen = copy.deepcopy(module).eval().requires_grad_(False)
    _check_output(frozen, spec)
    with warnings.catch_warnings():
        # Deprecation of the older exporter (see above), and remarks on traced constants: the batch is one.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        try:
            torch.onnx.export(
                frozen, (torch.zeros(1, spec.observation_size),), str(path), dynamo=False,
                opset_version=OPSET, input_names=[INPUT], output_names=[OUTPUT], do_constant_folding=True,
            )  # fmt: skip
        except torch.onnx.errors.OnnxExporterError as error:
            raise ExportError(
                f"{type(module).__name__} has no ONNX form: {error}", "Use operations that ONNX knows"
            ) from error
    model = onnx.load(str(path), load_external_data=False)
    foreign = sorted({node.domain for node in model.graph.node} - {""})
    if foreign:
        raise ExportError(
            f"{type(module).__name__} needs operators of {foreign}", "Use operations that standard ONNX knows"
        )
    if refused := sorted({node.op_type for node in model.graph.node} - ALLOWED_OPERATORS):
        raise ExportError(f"{type(module).__name__} needs operators that the gate refuses: {refused}", "Use others")
    for key, value in (metadata or {}).items():
        model.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(model, full_check=True)
    Path(path).write_bytes(model.SerializeToString(deterministic=True))


def choose_golden(
    module: "nn.Module", spec: PolicySpec, observations: np.ndarray, count: int, seed: int = 0
) -> GoldenPairs:
    """Chooses up to `count` golden pairs from observations (N, O), none of them on a near tie.

    A policy that takes the best of several candidates jumps where two are about equally good; there, rounding
    decides, and torch and ONNX Runtime may differ. Such observations are recognised in torch alone, without
    looking at the export: their action moves by more than the tolerance when all weights are shaken by a few
    roundings.

    Raises:
        ExportError: fewer than half of the observations asked for are free of near ties.
    """
    import torch

    frozen = copy.deepcopy(module).eval().requires_grad_(False)
    count = min(count, len(observations))
    rows = np.random.default_rng(seed).permutation(len(observations))[: 2 * count]
    inputs = torch.as_tensor(np.ascontiguousarray(observations[np.sort(rows)], np.float32))
    _check_output(frozen, spec)
    actions = _forward(frozen, inputs)
    moved = torch.zeros_like(actions)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(JITTER_DRAWS):
        shaken = copy.deepcopy(frozen)
        for parameter in shaken.parameters():
            parameter.mul_(1.0 + JITTER * torch.randn(parameter.shape, generator=generator))
        moved = torch.maximum(moved, (_forward(shaken, inputs) - actions).abs())
    steady = (moved <= torch.as_tensor(tolerance(spec))).all(dim=1)
    kept = steady.nonzero().squeeze(1)[:count]
    if 2 * len(kept) < count or len(kept) == 0:
        raise ExportError(
            f"only {len(kept)} of {len(inputs)} observations give an action that does not hang on rounding",
            "Give observations from the data it was learned from; if these are, its outputs are too steep",
        )
    return GoldenPairs(inputs[kept].numpy(), actions[kept].numpy(), int((~steady).sum()))


def _forward(module: "nn.Module", inputs: "Tensor") -> "Tensor":
    import torch

    with torch.no_grad():
        return module(inputs)


def _check_output(module: "nn.Module", spec: PolicySpec) -> None:
    import torch

    try:
        action = _forward(module, torch.zeros(1, spec.observation_size))
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        raise ExportError(
            f"{type(module).__name__} does not take observations (1, {spec.observation_size}): {error}",
            "The specification and the module must have the same observation size",
        ) from error
    if not isinstance(action, torch.Tensor) or action.dtype != torch.float32:
        kind = action.dtype if isinstance(action, torch.Tensor) else type(action).__name__
        raise ExportError(f"{type(module).__name__} gives {kind}", "It must give one float32 tensor")
    if action.shape != (1, spec.action_size):
        raise ExportError(
            f"{type(module).__name__} gives an action of shape {tuple(action.shape)}, "
            f"the specification says (1, {spec.action_size})",
            "The specification and the module must have the same action size",
        )
