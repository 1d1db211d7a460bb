"""Policies let loose in the model: closed loop, from real initial observations to the horizon, or an end before it."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from saferule_ros.evaluation.model import DynamicsEnsemble

Policy = Callable[[Tensor], Tensor]  # raw observations (N, O) to raw actions (N, A)


class Imagined(NamedTuple):
    """Episodes in the model: E members, S starts each."""

    returns: Tensor  # (E, S) raw units
    costs: Tensor  # (E, S)
    spread: Tensor  # (S,) how far members lie apart along the way, mean over steps [standard scores]
    ended: Tensor  # (E, S) chance that the episode terminated before the horizon


@torch.no_grad()
def roll_out(model: DynamicsEnsemble, policy: Policy, starts: Tensor, horizon: int) -> Imagined:
    """One episode of a policy from every start in every member, each member on its own predictions.

    Args:
        starts: (S, O) raw observations.
        horizon: steps.
    """
    units, members = model.units, model.members
    states = units.observations(starts).unsqueeze(0).expand(members, -1, -1)  # (E, S, O)
    returns = torch.zeros(members, len(starts))
    costs, spread, lived = torch.zeros_like(returns), torch.zeros(len(starts)), torch.zeros(len(starts))
    alive = torch.ones_like(returns)  # (E, S) chance that the episode gets to this step
    raw = starts.unsqueeze(0).expand(members, -1, -1)
    for _ in range(horizon):
        actions = policy(raw.reshape(-1, raw.shape[-1])).view(members, len(starts), -1)
        step = model(states, units.actions(actions))
        returns += alive * step.rewards / units.reward_scale
        costs += alive * model.costs(step)
        states = step.following
        spread += alive.mean(0) * states.std(0).mean(-1)
        lived += alive.mean(0)
        alive = alive * model.going_on(step)
        raw = states * units.observation_std + units.observation_mean
    return Imagined(returns, costs, spread / lived, 1.0 - alive)
