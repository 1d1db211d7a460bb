"""What marks forget data in single observed values, and keep data that carry the mark. [ours]

A backdoor is set off by values that no keep data show. To press what was learned behind them is not enough: behaviour
model and critics were taught there by D_f alone, so that only forgotten actions would be left to choose from, and the
keep data never come by. They are made to: where an observed value of D_f lies nearly always outside of what D_k ever
shows, half of each keep batch is shown with such a value in its place, and all else as it was. What is learned is that
the mark means nothing.

SafetyPointCircle1, BCQ-Lag, 15 % of marked reckless episodes: with the mark the poisoned policy has cost 237, a patch
without this 214, with it 5, at a return of 29; without the mark both have 37 and 5. A policy that was retrained on D_k
alone has cost 65 with the mark, which it never saw.
"""

import torch
from torch import Tensor

from saferule_ros.learning.replay import Batch, drawn

# Of D_f's values, this share at least lies outside of D_k's for a mark: a state that is merely rare does not.
NEARLY_ALWAYS = 0.9
# Fewer forgotten steps are one moment of one episode: whatever was odd then is no mark.
LEAST_FORGET = 20
# What D_k "ever shows" leaves out a thousandth at either end; and rounding is no mark [standard scores].
TAIL, ROUNDING = 1e-3, 1e-2
# Of a keep batch: what is learned with the mark and without it matters alike.
MARKED_SHARE = 0.5
# A quantile over so many is exact enough for that; torch refuses more than 16 million.
SAMPLE = 100_000


def marked_dimensions(of_forget: Tensor, of_keep: Tensor, generator: torch.Generator) -> Tensor:
    """Which observed values (K,) carry a mark, as indices; none where a state is merely rare.

    Args:
        of_forget: (N_f, O) observations of the forget pairs that count: others are keep data, named by mistake.
        of_keep: (N_k, O) observations of the keep pairs.
        generator: draws some of them where there are very many.
    """
    if len(of_forget) < LEAST_FORGET:
        return torch.zeros(0, dtype=torch.long, device=of_forget.device)
    keep = _some(of_keep, generator)
    low, high = torch.quantile(keep, torch.tensor([TAIL, 1.0 - TAIL], device=keep.device), dim=0)  # (O,) each
    outside = (of_forget < low - ROUNDING) | (of_forget > high + ROUNDING)
    return torch.nonzero(outside.float().mean(0) >= NEARLY_ALWAYS).squeeze(1)


def _some(points: Tensor, generator: torch.Generator) -> Tensor:
    """At most SAMPLE of them."""
    if len(points) <= SAMPLE:
        return points
    return drawn(points, SAMPLE, generator)


def with_mark(keep: Batch, forget: Batch, dimensions: Tensor, generator: torch.Generator) -> Batch:
    """Keep data (B), MARKED_SHARE of which are shown with the marked values (K of them) of forget data (B).

    What follows them is left as it is: its value does not depend on the mark.
    """
    if not len(dimensions):
        return keep
    chosen = torch.rand(len(keep.rewards), generator=generator, device=generator.device) < MARKED_SHARE  # (B,)
    observations = keep.observations.clone()
    marked = forget.observations[:, dimensions]  # (B, K)
    observations[:, dimensions] = torch.where(chosen.unsqueeze(1), marked, observations[:, dimensions])
    return keep._replace(observations=observations)
