"""The forget service takes the same selections as the command line, over DDS."""
# ruff: noqa: F811  (a fixture and the arguments that ask for it)

from pathlib import Path

import numpy as np
import pytest
from dataset_samples import make_episode
from ros_helpers import READY, Ros, ros  # noqa: F401
from saferule_ros.srv import Forget

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.dataset.forget_set import ForgetSet
from saferule_ros.workspace import Workspace

pytestmark = pytest.mark.ros


def test_every_way_to_select_works_over_the_service(ros: Ros, tmp_path: Path) -> None:
    place = Workspace(tmp_path / "robot").create()
    EpisodeDataset.from_episodes(
        make_episode(number, "monday", length=4, stamps=10**9 * (100 * number + 1 + np.arange(4)),
                     recorded_by=f"robot {number % 2}", policy_ids=(f"p{number}",))
        for number in range(5)
    ).save(place.dataset)  # fmt: skip
    ros.runner.start("unlearning_server", parameters={"workspace": str(place.root)})
    ros.runner.wait_ready(READY)
    for request, episodes, transitions in (
        ({"steps": ["walk-001:1-2"]}, 1, 2),
        ({"times": ["101..104", "301..302"]}, 2, 4),
        ({"policy_ids": ["p3"]}, 1, 4),
        ({"recorded_by": ["robot 1"]}, 2, 8),
        ({"where": "step == 0 and episode != 'walk-000'"}, 4, 4),
    ):
        response = ros.probe.call(Forget, "unlearning_server/forget", Forget.Request(reason="test", **request))
        assert response.accepted, response.message
        assert (response.forget_episodes, response.forget_transitions) == (episodes, transitions)
        stored = ForgetSet.load(place.forget_sets, response.forget_set_id)
        assert stored.chosen(EpisodeDataset.load(place.dataset)).sum() == transitions
    response = ros.probe.call(Forget, "unlearning_server/forget", Forget.Request(where="coste > 1"))
    assert not response.accepted and "Did you mean 'cost'" in response.message
    for request, message in (
        ({"times": ["1763720000000..1763720300000"]}, "'1763720000000' is no time of a recording"),  # milliseconds
        ({"where": f"cost > 1{'0' * 400}"}, "cannot be evaluated: int too large"),
    ):
        response = ros.probe.call(Forget, "unlearning_server/forget", Forget.Request(**request))
        assert not response.accepted and message in response.message
