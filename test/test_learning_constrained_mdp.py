"""Learners on a task of several steps whose best policy is known by construction; see constrained_mdp.py."""

import constrained_mdp
import pytest
from constrained_mdp import BOUNDS, LIMITS, STARTS, best_return, drive

from saferule_ros.learning.settings import BcqLagSettings, BearLagSettings, CommonSettings, CpqSettings
from saferule_ros.learning.trainer import train

# One return step: the data's actions are drawn anew on every step, so more of them would value chance, not a policy.
SMALL = {
    "hidden": 16, "vae_hidden": 16, "batch": 64, "learning_rate": 5e-3, "target_rate": 0.1, "discount": 0.9,
    "return_steps": 1,
}  # fmt: skip
BCQ = BcqLagSettings(**SMALL, critics=2, multiplier_start=2.0, target_candidates=1)
BEAR = BearLagSettings(**SMALL, alpha_start=10.0, multiplier_start=2.0, mmd_threshold=0.2)
CPQ = CpqSettings(
    **SMALL, actor_learning_rate=2e-3, imitation_steps=100, mask_temperature=0.3, alpha_start=0.1
)  # fmt: skip
WITH_LIMIT = [pytest.param(BCQ, id="bcq_lag"), pytest.param(BEAR, id="bear_lag"), pytest.param(CPQ, id="cpq")]
WITHOUT = [
    pytest.param(BCQ.model_copy(update={"multiplier_start": 0.0}), id="bcq_lag"),
    pytest.param(BEAR.model_copy(update={"multiplier_start": 0.0}), id="bear_lag"),
    pytest.param(CPQ.model_copy(update={"kappa_factor": 1000.0}), id="cpq"),
]

# What learning of a few seconds has to reach of the best return: well above standing still (0.48) and no driver's.
REACHED = 0.65


class Driver:
    """A known policy in the place of a learner: raw units are its units."""

    def __init__(self, act) -> None:
        self.units, self.act = self, act

    def observations(self, raw):
        return raw

    def raw_actions(self, scaled):
        return scaled


def test_driving_to_the_edge_and_staying_there_is_best_within_the_limit():
    """The construction itself: the stated optimum is reached, and going over the edge is better and costly."""
    to_the_edge = Driver(lambda x: ((constrained_mdp.EDGE - x) / constrained_mdp.STRIDE).clamp(-1.0, 1.0))
    assert drive(to_the_edge) == pytest.approx((best_return(), 0.0))
    reward, cost = drive(Driver(lambda x: x * 0.0 + 1.0))
    assert reward > 1.5 * best_return()
    assert cost > 5.0
    assert drive(Driver(lambda x: x * 0.0))[0] == pytest.approx(8 * STARTS.mean())


@pytest.mark.parametrize("settings", WITH_LIMIT)
def test_within_the_limit_the_learned_policy_comes_near_the_best_return(settings: CommonSettings):
    learner = train(constrained_mdp.behaviour(), LIMITS, settings, BOUNDS, steps=600, seed=1)
    reward, cost = drive(learner)
    assert cost <= LIMITS.cost_limit
    assert reward >= REACHED * best_return()


@pytest.mark.parametrize("settings", WITHOUT)
def test_without_a_limit_that_binds_it_drives_over_the_edge(settings: CommonSettings):
    learner = train(constrained_mdp.behaviour(), LIMITS, settings, BOUNDS, steps=300, seed=1)
    reward, cost = drive(learner)
    assert cost > 2.0
    assert reward > best_return()
