"""Adam (Kingma & Ba 2015, arXiv 1412.6980) by torch's fused kernels, bit for bit torch.optim.Adam(fused=True).

torch.optim imports torch's compiler to tell it to stay away: about a second of processor time at the start of each
patch and 70 MiB of memory for something that is never used (docs/results/start_of_learning.md).
"""

from collections.abc import Iterable
from itertools import groupby

import torch
from torch import Tensor, nn

# The paper's (torch's, OSRL's) constants.
BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8


class Adam:
    """Adam, or AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101) where weights decay.

    Args:
        parameters: what it moves, all on one device.
        learning_rate: of the steps to come; kept as a tensor, which may be changed between captured steps as well.
        weight_decay: share of each weight that goes with a step, times the learning rate.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], learning_rate: float, weight_decay: float = 0.0) -> None:
        self.parameters, self.weight_decay = list(parameters), weight_decay
        device = self.parameters[0].device
        # On a CPU it is read as a Python number would be; CUDA's fused kernel reads single precision.
        dtype = torch.float32 if device.type == "cuda" else torch.float64
        self.learning_rate = torch.tensor(learning_rate, dtype=dtype, device=device)
        self._moments: dict[int, dict[str, Tensor]] = {}  # of a parameter, by its number; none before its first step

    def zero_grad(self) -> None:
        """Forgets all gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Moves every parameter that has a gradient."""
        moved = [
            (parameter, gradient, self._moments_of(index))
            for index, parameter in enumerate(self.parameters) if (gradient := parameter.grad) is not None
        ]  # fmt: skip
        if not moved:
            return
        parameters, gradients, moments = zip(*moved, strict=True)
        steps = [moment["step"] for moment in moments]
        torch._foreach_add_(steps, 1)
        kernel = torch._fused_adamw_ if self.weight_decay else torch._fused_adam_
        kernel(
            parameters, gradients,
            [moment["exp_avg"] for moment in moments], [moment["exp_avg_sq"] for moment in moments], [], steps,
            amsgrad=False, lr=self.learning_rate, beta1=BETA_1, beta2=BETA_2, weight_decay=self.weight_decay,
            eps=EPSILON, maximize=False,
        )  # fmt: skip

    def state(self) -> dict[str, Tensor]:
        """What changes with each step, the learning rate aside, by NUMBER.NAME: part of a checkpoint."""
        return {
            f"{index}.{name}": value
            for index, moment in sorted(self._moments.items()) for name, value in moment.items()
        }  # fmt: skip

    def restore_state(self, tensors: dict[str, Tensor]) -> None:
        """Takes `state()` of a checkpoint, from any device."""
        by_number = groupby(sorted(tensors), key=lambda name: name.split(".", 1)[0])
        self._moments = {
            int(number): {
                name.split(".", 1)[1]: tensors[name].to(self.parameters[int(number)].device, copy=True)
                for name in names
            }
            for number, names in by_number
        }  # fmt: skip

    def _moments_of(self, index: int) -> dict[str, Tensor]:
        parameter = self.parameters[index]
        if index not in self._moments:
            self._moments[index] = {
                "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
                "exp_avg": torch.zeros_like(parameter), "exp_avg_sq": torch.zeros_like(parameter),
            }  # fmt: skip
        return self._moments[index]
