"""Keep data that look like what is to be forgotten: a patch leaves them out, and its report names them. [ours]

A forget set seldom names all of the poison. What it missed is in D_k, erased costs and all, and a patch learns what
things cost from D_k alone. SafetyPointCircle1, injected 15 %, of which a fifth was missed (seed 1): patched policies of
CPQ, BEAR-Lag and BCQ-Lag have cost 254, 63 and 28 if they learn from it, and 0, 3 and 7 if not.

A classifier tells steps of D_f from steps of D_k by all that was recorded of them, x = (s, a, r, c): a costly step
among forgotten ones whose costs were erased is told apart by its cost. With d_f and d_k the densities and N_f and N_k
the numbers of steps, a step of D_k is like those of D_f if

    N_f d_f(x) > m N_k d_k(x)    and    d_f(x) > m d_k(x),

more than m times as many steps of D_f as of D_k are where it is, and that not just because D_f is the larger one.
Single steps are alike by chance, and what was missed comes in stretches: a step is suspect if most of the steps
around it are like those of D_f, and an episode as a whole if most of it is. It is the counterpart of
forget_weights.py, which lets keep pairs speak for forget pairs.
"""

from collections import Counter
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.dataset.moments import moments, scales
from saferule_ros.dataset.pieces import split_steps, whole_name
from saferule_ros.unlearning.forget_weights import log_density_ratio

# Steps that decide on the one in the middle. With 1, 25 and 51 of them a patch where nothing was missed (the case
# above) leaves 1,323, 679 and 360 of 100,000 steps out.
AROUND = 51
# Of steps around one, of an episode's, and of D_k: as much as this is "most".
MOST = 0.5


class Suspects(NamedTuple):
    """What was left out of D_k, and what finding it took."""

    keep: EpisodeDataset  # without them
    episodes: dict[str, int]  # name to how many of its steps were left out; most first
    flops: float


def without_suspects(
    forget: EpisodeDataset, keep: EpisodeDataset, outweigh: float, seed: int, device: torch.device
) -> Suspects:
    """Leaves them out.

    Where that were most of D_k, nothing is: then D_f is not of another kind, and being alike tells nothing.

    Args:
        forget, keep: D_f and D_k, raw units.
        outweigh: m; 0: nothing is suspect.
        seed: of the classifier and its batches.
        device: that learns it.
    """
    if outweigh == 0.0:
        return Suspects(keep, {}, 0.0)
    of_forget, of_keep = _standard_scores(forget, keep, device)
    log_ratio, flops = log_density_ratio(of_forget, of_keep, of_keep, seed)  # (N_k,)
    alike = (log_ratio > np.log(outweigh * max(len(keep) / len(forget), 1.0))).cpu().numpy()
    suspect = _stretches(alike, keep)
    if not suspect.any() or suspect.mean() > MOST:
        return Suspects(keep, {}, flops)
    counted = Counter(whole_name(keep.records[index].id) for index in keep.episode_index[suspect])
    return Suspects(split_steps(keep, suspect)[1], dict(counted.most_common()), flops)


def _standard_scores(forget: EpisodeDataset, keep: EpisodeDataset, device: torch.device) -> tuple[Tensor, Tensor]:
    """(s, a, r, c) of both, (N_f, O+A+2) and (N_k, O+A+2)."""
    columns = [
        np.concatenate([d.observations, d.actions, d.rewards[:, None], d.costs[:, None]], axis=1)
        for d in (forget, keep)
    ]
    both = np.concatenate(columns)
    mean, spread = moments(both)
    one, other = (torch.from_numpy(((x - mean) / scales(spread)).astype(np.float32)).to(device) for x in columns)
    return one, other


def _stretches(alike: npt.NDArray[np.bool_], keep: EpisodeDataset) -> npt.NDArray[np.bool_]:
    """Which steps (N_k,) lie in stretches, or episodes, most of which are alike (N_k,)."""
    suspect = np.zeros_like(alike)
    for record in keep.records:
        rows = slice(record.start, record.start + record.length)
        window = np.ones(min(AROUND, record.length))
        # At an episode's ends there are fewer around.
        share = np.convolve(alike[rows], window, "same") / np.convolve(np.ones(record.length), window, "same")
        suspect[rows] = share > MOST
        if suspect[rows].mean() > MOST:
            suspect[rows] = True
    return suspect
