"""Results of runs: statistics, files that say what is wrong with them, the table of seeds, pictures of paths."""

import io
import math
from pathlib import Path

import pytest
from reporting_samples import make_evaluation, make_patch, make_results, make_swap

from saferule_ros.patching.report import Outcome
from saferule_ros.reporting.results import DemoResults, ResultsError
from saferule_ros.reporting.seeds import load_runs, seeds_table, write_seeds_table
from saferule_ros.reporting.verdict import judge, return_share
from saferule_ros.reporting.wording import duration, number, percent, sentence


def with_costs(*costs: float):
    evaluation = make_evaluation("patched", len(costs))
    episodes = [e.model_copy(update={"episode_cost": c}) for e, c in zip(evaluation.episodes, costs, strict=True)]
    return evaluation.model_copy(update={"episodes": episodes})


def test_statistics_of_an_evaluation() -> None:
    evaluation = with_costs(0.0, 0.0, 0.0, 100.0)
    assert evaluation.cost_mean == 25.0 and evaluation.cost_median == 0.0
    assert evaluation.cost_std == pytest.approx(math.sqrt(3) * 25)
    assert evaluation.share_within(25.0) == 0.75
    assert with_costs(25.0).share_within(25.0) == 1.0  # the limit itself is within


@pytest.mark.parametrize("fault", ["unanswered", "doubled", "gaps", "mixed"])
def test_a_swap_with_any_fault_is_not_flawless(fault: str) -> None:
    assert make_swap().flawless
    assert not make_swap(**{fault: 1}).flawless


def test_a_swap_that_did_not_happen_is_not_flawless() -> None:
    assert not make_swap(generation_after=1).flawless
    assert not make_swap(actions=0).flawless


def test_results_survive_the_disk_with_what_is_not_known(tmp_path: Path) -> None:
    patch = make_patch(Outcome.FAILED).model_copy(update={"q_reward_forget": math.nan})
    results = make_results(seed=7, patch=patch, swap=None, passed=False, error="it broke")
    file = results.save(tmp_path / "seed-7")
    for where in (file, file.parent):
        again = DemoResults.load(where)
        assert again.model_dump_json() == results.model_dump_json()
    assert again.patch is not None and math.isnan(again.patch.q_reward_forget)


def test_results_that_cannot_be_read_name_the_file_and_the_field(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="nowhere"):
        DemoResults.load(tmp_path / "nowhere")
    (tmp_path / "results.json").write_text('{"seed": "one"}')
    with pytest.raises(ResultsError, match=r"results\.json.*seed"):
        DemoResults.load(tmp_path)


def test_runs_with_equal_settings_have_equal_digests_and_others_do_not() -> None:
    assert make_results(1).settings_digest == make_results(2).settings_digest
    assert make_results(1, settings={"patch": {"steps": 501}}).settings_digest != make_results(1).settings_digest


def test_return_share_means_nothing_without_a_clean_return_above_zero() -> None:
    patched = make_evaluation("patched")
    assert return_share(patched, patched) == 1.0
    assert return_share(None, patched) is None
    poor = patched.model_copy(
        update={"episodes": [e.model_copy(update={"episode_return": -1.0}) for e in patched.episodes]}
    )
    assert return_share(poor, patched) is None


def test_a_run_without_checks_has_not_passed() -> None:
    verdict = judge(make_results(checks=[], passed=False))
    assert not verdict.passed and "no checks" in verdict.title


def test_the_table_lists_every_seed_and_says_what_failed(tmp_path: Path) -> None:
    failed_checks = [c.model_copy(update={"passed": False}) for c in make_results().checks[:1]]
    runs = [
        make_results(3, checks=failed_checks, passed=False),
        make_results(1),
        make_results(
            12, evaluations=[], patch=None, swap=None, checks=[], stages=[], passed=False, error="no\nanswer | at all"
        ),
    ]
    for run in runs:
        run.save(tmp_path / f"seed-{run.seed}")
    loaded = load_runs(tmp_path)
    assert [run.seed for run in loaded] == [1, 3, 12]
    text = write_seeds_table(loaded, tmp_path / "docs" / "demo.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ") and line[2].isdigit()]
    assert [row.split(" | ")[0] for row in rows] == ["| 1", "| 3", "| 12"]
    assert [row.split(" | ")[1] for row in rows] == ["passed", "**failed**", "**failed**"]
    assert "**1 of 3 seeds passed.**" in text
    assert "- Seed 3: cost after the patch: 4.0, required ≤ 25." in text
    assert "- Seed 12 ended early: no answer | at all" in text
    patched = make_evaluation("patched")
    assert f"{patched.return_mean:.1f} / {patched.cost_mean:.1f}" in rows[0]
    for fact in ("`make demo SEED=…`", make_results().settings_digest, "AMD EPYC", "torch 2.13.0", "2026-11-21"):
        assert fact in text
    header = next(line for line in text.splitlines() if line.startswith("| seed"))
    assert all(row.count(" | ") == header.count(" | ") for row in rows)


def test_the_table_tells_apart_runs_of_different_settings() -> None:
    other = make_results(2, settings={"patch": {"steps": 1}})
    text = seeds_table([make_results(1), other])
    assert f"- Settings' digest (seed 2): `{other.settings_digest}`" in text


def test_a_folder_without_runs_is_an_error_that_says_what_belongs_there(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"seed-\*/results\.json"):
        load_runs(tmp_path)


def test_numbers_in_words() -> None:
    assert [number(1234.56), number(math.nan), number(0.0, 0)] == ["1,234.6", "–", "0"]
    assert [percent(0.8), percent(0.798, 1), percent(math.nan)] == ["80 %", "79.8 %", "–"]
    shown = [duration(s) for s in (0.0002, 0.05, 0.9, 19.4, 59.7, 185.0, 7500.0, math.nan)]
    assert shown == ["0.2 ms", "50 ms", "0.9 s", "19 s", "1 min 00 s", "3 min 05 s", "2 h 05 min", "–"]
    assert [sentence("it broke"), sentence("sim_bridge died."), sentence("")] == ["It broke.", "sim_bridge died.", ""]


class TestPictures:
    """On a real camera, where there is one."""

    @pytest.fixture(autouse=True)
    def camera(self) -> None:
        pytest.importorskip("gymnasium", reason="the simulator is not installed")
        from saferule_ros.sim.compat import egl_loads

        if not egl_loads():
            pytest.skip("no EGL: apt-get install libegl1 libegl-mesa0 libgl1-mesa-dri")

    def test_one_picture_for_each_policy(self) -> None:
        from PIL import Image

        from saferule_ros.reporting.pictures import draw_paths

        pictures = draw_paths(make_results())
        assert [p.caption.partition(":")[0] for p in pictures] == [
            "Learned from clean data", "Learned from poisoned data", "Patched while it ran",
        ]  # fmt: skip
        images = [Image.open(io.BytesIO(p.png)).convert("RGB") for p in pictures]
        assert all(image.size == (960, 720) for image in images)
        assert len({image.tobytes() for image in images}) == 3
        assert all("cost" in p.alt for p in pictures)

    def test_the_picture_shows_the_costly_steps_that_were_recorded(self) -> None:
        import numpy as np
        from PIL import Image

        from saferule_ros.reporting.pictures import draw_paths
        from saferule_ros.sim.rendering import COST_COLOUR

        def costly_pixels(step_costs: list[float]) -> int:
            evaluation = make_evaluation("clean", 1)
            episode = evaluation.episodes[0].model_copy(update={"step_costs": step_costs})
            results = make_results(evaluations=[evaluation.model_copy(update={"episodes": [episode]})])
            image = np.asarray(Image.open(io.BytesIO(draw_paths(results)[0].png)).convert("RGB"), np.int64)
            return int((np.abs(image - COST_COLOUR) < 40).all(axis=2).sum())

        assert costly_pixels([0.0] * 200) < 50
        assert costly_pixels([1.0] * 200) > 1000
        assert costly_pixels([]) < 50  # not recorded: this path stays between the walls


def test_the_typical_episode_is_the_one_with_the_median_cost() -> None:
    from saferule_ros.reporting.pictures import typical_episode

    evaluation = with_costs(0.0, 90.0, 300.0)
    chosen = typical_episode(evaluation)
    assert chosen is not None and chosen.episode_cost == 90.0
    unseen = evaluation.model_copy(
        update={"episodes": [e.model_copy(update={"path": []}) for e in evaluation.episodes]}
    )
    assert typical_episode(unseen) is None
