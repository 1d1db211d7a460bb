"""The count of FLOPs: torch's own, for everything that is learned here."""

import pytest
import torch
from learning_cases import BOUNDS, poisoned_bandit
from torch.utils.flop_counter import FlopCounterMode

from saferule_ros.learning.algorithms import ALGORITHMS, make_learner, settings_from
from saferule_ros.learning.flops import FlopCounter
from saferule_ros.learning.replay import Units
from saferule_ros.learning.settings import TaskLimits


def test_a_matrix_product_and_its_gradients_are_counted_in_closed_form() -> None:
    weights, points = torch.ones(5, 3, requires_grad=True), torch.ones(7, 5)
    with FlopCounter() as counter:
        (points @ weights).sum()
    assert counter.total == 2 * 7 * 5 * 3
    with FlopCounter() as counter:
        (points @ weights).square().sum().backward()
    assert counter.total == 2 * (2 * 7 * 5 * 3), "forward, and the gradient of the weights"
    with FlopCounter() as counter:
        points.square().sum()
    assert counter.total == 0


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
def test_a_gradient_step_is_counted_as_torch_counts_it(algorithm: str) -> None:
    data = poisoned_bandit()[2]
    settings = settings_from({"algorithm": algorithm, "hidden": 8, "batch": 16})
    learner = make_learner(Units.of(data, *BOUNDS), TaskLimits(cost_limit=0.1, horizon=1), settings, seed=0)
    replay = learner.replay(data)
    with FlopCounter() as ours, FlopCounterMode(display=False) as theirs:
        learner.update(replay.sample(settings.batch, learner.generator), replay)
    assert ours.total == theirs.get_total_flops() > 0
    with torch.no_grad(), FlopCounter() as ours, FlopCounterMode(display=False) as theirs:
        learner.act(torch.zeros(3, 1))
    assert ours.total == theirs.get_total_flops() > 0
