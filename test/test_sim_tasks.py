"""What is said of the tasks is what was measured."""

import json
from pathlib import Path

import pytest

pytest.importorskip("gymnasium", reason="the simulator is not installed")

from saferule_ros.sim.tasks import RETURN_BOUNDS

MEASURED = json.loads((Path(__file__).parent.parent / "docs" / "results" / "behaviour_data.json").read_text())


def test_returns_are_normalised_by_the_measured_behaviour_data() -> None:
    measured = {row["task"]: (round(row["lowest_return"], 1), round(row["highest_return"], 1)) for row in MEASURED}
    assert {name: (bounds.lowest, bounds.highest) for name, bounds in RETURN_BOUNDS.items()} == measured


@pytest.mark.parametrize("row", MEASURED, ids=lambda row: row["task"])
def test_behaviour_data_has_episodes_enough_on_both_sides_of_the_limit(row: dict) -> None:
    assert min(row["safe"], row["unsafe"]) >= 80
    assert row["safe"] + row["unsafe"] == row["episodes"]
