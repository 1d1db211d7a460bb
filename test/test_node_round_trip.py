"""Simulator, topics, bag, dataset: what comes out is what the simulator did, to the bit."""

import sys
from pathlib import Path

import pytest
import rclpy

pytestmark = pytest.mark.ros

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))


@pytest.mark.long
def test_an_episode_that_went_over_topics_into_a_bag_is_the_simulators_own(tmp_path: Path) -> None:
    """One here; benchmarks/round_trip.py does twenty."""
    pytest.importorskip("mujoco", reason="the simulator is not installed")
    import round_trip

    rclpy.init()
    try:
        dataset, wrong = round_trip.run(tmp_path, episodes=1, seed=5)
    finally:
        rclpy.shutdown()
    assert wrong == [] and len(dataset) == 500
    assert (dataset.stamps[1:] > dataset.stamps[:-1]).all()
