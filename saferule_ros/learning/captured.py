"""Gradient steps that a GPU takes as one: captured as CUDA graphs and replayed.

Steps of networks this small are bound by the launching of some hundred kernels, not by arithmetic. All steps of a kind
launch the same kernels on the same tensors (see Learner.update), so they are recorded once; a replay launches them
together, and the random numbers go on. On a CPU nothing is gained, and steps are taken one by one.
"""

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

Losses = Mapping[str, Tensor | float]

# Steps of a kind before one is captured: what is made on first use (optimiser state, workspaces of libraries) may not
# be made during it. Source: torch's notes on CUDA graphs, which take as many.
WARM_UP = 3


def are_captured(device: torch.device) -> bool:
    """Whether steps there are."""
    return device.type == "cuda"


class Capture(NamedTuple):
    """A step that can be replayed, and the tensors that its losses are put in each time."""

    graph: torch.cuda.CUDAGraph
    losses: Losses


class CapturedSteps:
    """Takes the steps of one learning or unlearning run.

    Args:
        device: where they are taken.
        generators: all that they draw random numbers from.
    """

    def __init__(self, device: torch.device, generators: Sequence[torch.Generator]) -> None:
        self._device, self._generators = device, generators
        # Of its own: what libraries keep for a stream (cuBLAS its workspace) is part of the graphs captured on it, and
        # goes with the first of them that goes.
        self._stream = torch.cuda.Stream(device) if are_captured(device) else None
        self._taken: dict[str, int] = {}
        self._captures: dict[str, Capture] = {}

    def take(self, kind: str, step: Callable[[], Losses]) -> Losses:
        """Takes a step.

        Args:
            kind: of the step; all of one kind must do the same.
            step: takes it and returns losses without waiting for the device. What else it does on the host (counting,
                say) is left out when it is replayed.

        Returns:
            The losses, valid until the next step: tensors that it may write to again.
        """
        if self._stream is None:
            return step()
        if kind in self._captures:
            self._captures[kind].graph.replay()
            return self._captures[kind].losses
        self._taken[kind] = self._taken.get(kind, 0) + 1
        if self._taken[kind] > WARM_UP:
            self._captures[kind] = self._capture(step)  # records it, but takes none
            return self.take(kind, step)
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            losses = step()
        torch.cuda.current_stream(self._device).wait_stream(self._stream)
        return losses

    def _capture(self, step: Callable[[], Losses]) -> Capture:
        graph = torch.cuda.CUDAGraph()
        for generator in self._generators:
            graph.register_generator_state(generator)
        with _no_collection(), torch.cuda.graph(graph, stream=self._stream):
            losses = step()
        return Capture(graph, losses)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Garbage is collected before, not meanwhile: it may hold graphs, and to free one breaks a capture."""
    gc.collect()
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
