"""Trials on a Ray cluster: a real one, of one node on this machine. Ray is optional, so are these tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("ray", reason="Ray is not installed")
pytest.importorskip("gymnasium", reason="the simulator is not installed")

from experiment_samples import tiny_grid
from ray.cluster_utils import Cluster

from saferule_ros.experiments.plan import plan
from saferule_ros.experiments.ray_cluster import RayMissing, run_on_ray
from saferule_ros.experiments.trial import finished


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with pytest.MonkeyPatch.context() as environ:
        environ.setenv("RAY_USAGE_STATS_ENABLED", "0")  # nothing leaves this machine
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        yield cluster.address
        cluster.shutdown()


def test_trials_run_on_a_cluster_and_their_results_are_here(address: str, tmp_path: Path) -> None:
    bad = {"tasks": ["SafetyPointCircle1"], "attacks": ["baffle"], "ratios": [0.9]}
    good = {"tasks": ["SafetyPointCircle1"], "ratios": [0.3]}
    few = {"attacks": {"baffle": {"adversary_steps": 1}}, "unlearning": {"fine_tune": {"steps": 5}}}
    trials = plan(tiny_grid(cells=[bad, good], methods=["fine_tune"], **few))
    heard = []
    failed = run_on_ray(trials, tmp_path, address, listen=heard.append)
    assert list(failed) == [trials[0].name] and "ratio 0.9" in failed[trials[0].name]
    assert finished(trials[1], tmp_path)
    assert (heard[-1].finished, heard[-1].trials) == (1, 2)
    assert run_on_ray(trials[1:], tmp_path, address) == {}, "nothing is left to do"


def test_an_address_without_a_cluster_is_named(tmp_path: Path) -> None:
    with pytest.raises(RayMissing, match=r"no Ray cluster at '127\.0\.0\.1:1'"):
        run_on_ray(plan(tiny_grid()), tmp_path, "127.0.0.1:1")
