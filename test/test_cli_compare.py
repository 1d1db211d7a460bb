"""Comparisons on the command line: one cell, a grid, stopping them, and what is wrong said before anything runs."""

import json
import subprocess
from pathlib import Path

import pytest
import yaml

pytest.importorskip("gymnasium", reason="the simulator is not installed")
pytest.importorskip("matplotlib", reason="plots need matplotlib")

from cli_process import COMMAND, DEADLINE, interrupted
from experiment_samples import SMALL, result, save
from typer.testing import CliRunner, Result

from saferule_ros.cli.main import app
from saferule_ros.experiments.plan import plan
from saferule_ros.experiments.settings import GridSettings
from saferule_ros.reporting.readme import EVIDENCE
from saferule_ros.settings import load_settings

SETTINGS = {
    "methods": ["fine_tune", "retrain"], "data": {"behaviour_episodes": 2}, "training_steps": 20,
    "learners": {"bcq_lag": SMALL}, "unlearning": {"fine_tune": {"steps": 10}}, "evaluation_episodes": 1,
}  # fmt: skip
CELL = {"tasks": ["SafetyPointCircle1"], "ratios": [0.3]}


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    return written(tmp_path, SETTINGS)


def written(folder: Path, content: dict) -> Path:
    file = folder / "settings.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)])


def refused(*arguments: object) -> str:
    found = invoke(*arguments)
    assert found.exit_code == 2 and not found.stdout, found.stderr
    return " ".join(found.stderr.split())


def test_compare_prints_the_cell_and_leaves_files(settings: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ("compare", "SafetyPointCircle1", "--ratio", "0.3", "--settings", settings, "--out", out)
    found = invoke(*arguments)
    assert found.exit_code == 0, found.stderr
    lines = [line.split()[0] for line in found.stdout.splitlines()]
    assert lines == ["method", "poisoned", "fine_tune", "retrain"]
    assert "| fine_tune |" in (out / "table.md").read_text()
    cell = "SafetyPointCircle1-v0-bcq_lag-injected-0.3"
    assert all((out / "plots" / f"{cell}-{kind}.svg").exists() for kind in ("light", "dark"))

    again = invoke(*arguments, "--json")
    rows = json.loads(again.stdout)
    assert [row["method"] for row in rows] == ["poisoned", "fine_tune", "retrain"]
    assert rows[1]["cost_spread"] is None and rows[1]["flops_ratio"] == pytest.approx(2.0)

    grid = written(tmp_path, {**SETTINGS, "cells": [CELL]})
    whole = invoke("grid", grid, "--out", out)
    assert whole.exit_code == 0 and whole.stdout.splitlines()[1].split()[:2] == ["poisoned", "1"]


def test_ctrl_c_stops_and_keeps_what_there_is(tmp_path: Path) -> None:
    out, settings = tmp_path / "out", written(tmp_path, {**SETTINGS, "training_steps": 500_000})
    status, rest = interrupted(
        "compare", "SafetyPointCircle1", "--ratio", 0.3, "--settings", settings, "--out", out, sign="/500000",
        cwd=tmp_path,
    )  # fmt: skip
    assert status == 130, rest
    assert "Traceback" not in rest and "cancelled with 0 of 1 trials finished" in rest
    assert list(out.rglob("learners/*/unfinished/latest.json"))


def test_a_trial_that_fails_is_named_and_the_status_says_so(tmp_path: Path) -> None:
    settings = written(tmp_path, {**SETTINGS, "attacks": {"baffle": {"adversary_steps": 1}}})
    found = invoke(
        "compare", "SafetyPointCircle1", "--attack", "baffle", "--ratio", "0.9", "--settings", settings, "--out",
        tmp_path / "out",
    )  # fmt: skip
    assert found.exit_code == 1
    assert "failed: SafetyPointCircle1-v0/bcq_lag/baffle-0.9/seed-1: ratio 0.9" in found.stderr
    assert "all 1 trials failed" in found.stderr


def test_what_is_wrong_is_said_before_anything_runs(tmp_path: Path) -> None:
    out = ("--out", tmp_path / "out")
    assert "unknown attack 'flood'" in refused("compare", "SafetyPointCircle1", "--attack", "flood", *out)
    assert "unknown task 'SafetyPointCircel1'" in refused("compare", "SafetyPointCircel1", *out)
    assert "cells.0.ratios.0 = 0.0" in refused("compare", "SafetyPointCircle1", "--ratio", "0", *out)
    twice = written(tmp_path, {**SETTINGS, "seeds": [4]})
    assert "seeds is given on the command line" in refused("compare", "SafetyPointCircle1", "--settings", twice, *out)
    unknown = written(tmp_path, {**SETTINGS, "cells": [CELL], "methods": ["hope"]})
    assert "unknown unlearning method 'hope'" in refused("grid", unknown, *out)
    assert "cell = " in refused("grid", written(tmp_path, {"cell": []}), *out)
    assert not (tmp_path / "out").exists()


def test_the_table_is_made_again_without_running_anything(tmp_path: Path) -> None:
    grid = written(tmp_path, {**SETTINGS, "cells": [CELL]})
    assert "there are no results in" in refused("grid", grid, "--out", tmp_path / "out", "--table")
    save(tmp_path / "out", result("safe_rule"), result("retrain"))
    readme = tmp_path / "README.md"
    readme.write_text("no place for it")
    assert "has no place for the table" in refused("grid", grid, "--out", tmp_path / "out", "--readme", readme)
    readme.write_text(f"{EVIDENCE.begin}\n{EVIDENCE.end}\n")
    invoke("grid", grid, "--out", tmp_path / "out", "--table", "--readme", readme)
    assert "](out/findings.md)" in readme.read_text()
    found = invoke("grid", grid, "--out", tmp_path / "out", "--table", "--json")
    assert found.exit_code == 0, found.stderr
    assert [row["method"] for row in json.loads(found.stdout)] == ["safe_rule", "retrain"]


def test_without_ray_the_option_says_what_to_do(settings: Path, tmp_path: Path) -> None:
    code = "import sys; sys.modules['ray'] = None; from saferule_ros.cli.main import app; app(prog_name='saferule')"
    arguments = ["compare", "SafetyPointCircle1", "--ray", "auto", "--settings", str(settings), "--out", "out"]
    shown = subprocess.run(
        [COMMAND[0], "-P", "-c", code, *arguments], capture_output=True, text=True, check=False, cwd=tmp_path,
        timeout=DEADLINE,
    )  # fmt: skip
    assert shown.returncode == 2 and "Traceback" not in shown.stderr
    assert "Ray is not installed" in shown.stderr and "saferule_ros[ray]" in shown.stderr


CONFIG = Path(__file__).parent.parent / "config"


def test_the_example_in_config_is_valid_and_shows_every_setting() -> None:
    file = CONFIG / "grid.yaml"
    load_settings(GridSettings, file)
    assert set(yaml.safe_load(file.read_text())) == set(GridSettings.model_fields)


@pytest.mark.parametrize(
    ("name", "trials"),
    [
        ("grid", (2 * 4 * 3 * 2 + 1) * 3),
        ("ablation", 2 * 3),
        ("evidence/circle", 4 * 3 * 2 * 3),
        ("evidence/trigger", 4 * 2 * 3),
        ("evidence/other_tasks", (2 * 2 * 2 + 2) * 3),
        ("evidence/forget_sets", 4 * 2 * 3),
        ("evidence/paper_size", 4),
        ("evidence/paper_size_cpq", 1),
        ("evidence/choices_cpq", 3 * 2 * 3),
        ("evidence/choices_dice", (3 * 2 + 2) * 3),
        ("evidence/velocity_tasks", 2 * 2 * 2 * 3),
        ("evidence/choices_outnumbered", (2 * 3 * 2 + 2 * 2 * 2 + 2 * 2) * 3),
        ("evidence/choices_outnumbered_trigger", 2 * 2 * 3),
        ("evidence/choices_velocity", 2 * 2 * 2 * 3),
        ("evidence/control", (3 * 3 + 2 * 2 + 3) * 3),
        ("evidence/control_trigger", 3 * 3),
        ("evidence/choices_noise", (3 * 3 + 2 * 2 * 2 + 2 * 2) * 3),
        ("evidence/osrl_steps", 2 * 2),
        ("evidence/contest", (5 * 2 * 2 + 2 * 2 + 2) * 3),
    ],
)
def test_every_ready_grid_can_be_planned(name: str, trials: int) -> None:
    assert len(plan(load_settings(GridSettings, CONFIG / f"{name}.yaml"))) == trials
