"""The demo's report: every section, self-contained, well-formed, and plots that show what was measured."""

import base64
import math
import re
import socket
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="the report needs matplotlib")
pytest.importorskip("jinja2", reason="the report needs jinja2")

from reporting_samples import CLEAN, LIMIT, PATCHED, POISONED, make_evaluation, make_patch, make_results, make_values
from reporting_samples import make_swap as swap

from saferule_ros.patching.report import Outcome
from saferule_ros.patching.request import PatchRequest
from saferule_ros.reporting.figures import episodes_plot, values_plot
from saferule_ros.reporting.html import write_report
from saferule_ros.reporting.pictures import PathPicture
from saferule_ros.reporting.provenance import machine, versions
from saferule_ros.reporting.report import make_report
from saferule_ros.reporting.results import DemoResults
from saferule_ros.workspace import Workspace

SECTIONS = ["checks", "evaluations", "paths", "swap", "forgetting", "gate", "data", "times", "provenance"]
# A valid PNG of one pixel.
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
VOID = {"meta", "img", "source", "br", "link", "input", "hr"}
SVG = "{http://www.w3.org/2000/svg}"
XLINK = "{http://www.w3.org/1999/xlink}href"


class Page(HTMLParser):
    """A page taken apart; raises where tags do not nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]} at {self.getpos()}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def page(folder: Path, results: DemoResults, **more: object) -> Page:
    file = write_report(results, folder, **more)  # type: ignore[arg-type]
    assert file == folder / "index.html"
    return Page(file.read_text())


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Page:
    pictures = [PathPicture(PIXEL, f"path of {name}", name.title()) for name in ("clean", "poisoned", "patched")]
    return page(tmp_path_factory.mktemp("report"), make_results(), values=make_values(), pictures=pictures)


def test_report_has_every_section_and_none_is_empty(full: Page) -> None:
    assert [section["id"] for section in full.all("section")] == SECTIONS
    assert "missing" not in {attributes.get("class") for _, attributes in full.elements}


def test_report_says_the_verdict_and_the_numbers_behind_it(full: Page) -> None:
    assert "Passed The policy was poisoned, patched while it ran, and is safe again" in full.text
    before, after = make_evaluation("poisoned"), make_evaluation("patched")
    assert f"from {before.cost_mean:.1f} to {after.cost_mean:.1f} (limit 25)" in full.text
    for shown in (
        CLEAN, POISONED, PATCHED, f"{after.return_mean:.1f} ± {after.return_std:.1f}", f"{after.cost_median:.1f}",
        "90 %", "0 faults", "number 5251, at step 250 of 500", "0.2 ms", "≤ 3.40", "≥ 9.10", "7.2e-07", "7,500",
        "1 min 20 s", "make demo SEED=1", "d" * 64, "AMD EPYC", "kilted", '"steps": 8000',
        make_results().settings_digest, "21 November 2026, 10:12 UTC",
        "Measured on 3,500 transitions to forget and 20,000 transitions to keep that were withheld",
    ):  # fmt: skip
        assert shown in full.text, shown


def test_report_needs_no_network_and_every_picture_has_a_text(full: Page) -> None:
    images = full.all("img")
    assert len(images) == 5  # two plots, three paths
    for image in images:
        assert image["alt"] and len(image["alt"]) > 5
    for _, attributes in full.elements:
        for name in ("src", "srcset", "href"):
            assert (attributes.get(name) or "data:").startswith("data:")
    assert not full.all("script") and not full.all("link")


def test_report_has_a_dark_variant_of_each_plot(full: Page) -> None:
    dark = full.all("source")
    assert [source["media"] for source in dark] == ["(prefers-color-scheme: dark)"] * 2
    light = [image["src"] for image in full.all("img") if image.get("class") == "plot"]
    for one, other in zip(light, (source["srcset"] for source in dark), strict=True):
        assert one and other and one != other
        for uri in (one, other):
            kind, _, content = uri.partition(";base64,")
            assert kind == "data:image/svg+xml"
            assert ET.fromstring(base64.b64decode(content)).tag == f"{SVG}svg"


def test_text_from_elsewhere_cannot_break_the_page(tmp_path: Path) -> None:
    hostile = '<script>alert("x")</script> & "quotes"'
    results = make_results(error=hostile, passed=False, settings={"note": hostile}, digests={hostile: hostile})
    found = page(tmp_path, results)
    assert not found.all("script")
    assert found.text.count(hostile) >= 3


def test_a_run_that_ended_early_is_reported_with_what_it_has(tmp_path: Path) -> None:
    failed = {"message": "loss_cost is nan. Lower learning_rate", "certificate": {}, "gate": {}}
    results = make_results(
        evaluations=[make_evaluation("clean"), make_evaluation("poisoned")],
        patch=make_patch(Outcome.FAILED).model_copy(update=failed),
        swap=None, checks=[], passed=False, error="the patch failed: loss_cost is nan at step 31",
    )  # fmt: skip
    found = page(tmp_path, results)
    assert "Failed The run ended early The patch failed: loss_cost is nan at step 31." in found.text
    assert [section["id"] for section in found.all("section")] == SECTIONS
    for shown in ("Lower learning_rate", "No policy was swapped in.", "No patched policy reached the gate.", CLEAN):
        assert shown in found.text
    nothing = make_results(
        evaluations=[], patch=None, swap=None, checks=[], stages=[], data=[], passed=False, error="x"
    )
    assert "No policy was evaluated." in page(tmp_path, nothing).text


def test_a_failed_check_makes_the_headline(tmp_path: Path) -> None:
    checks = [c.model_copy(update={"passed": c.name != "swap"}) for c in make_results().checks]
    found = page(tmp_path, make_results(checks=checks, passed=False, swap=swap(gaps=2)))
    assert (
        "Failed 1 of 3 checks did not hold Did not hold: swap (0 lost, 0 doubled, 0 mixed, required: none)."
        in found.text
    )
    assert "2 gaps in the sequence" in found.text and "2 faults" in found.text


def test_make_report_takes_the_values_from_the_patch_job(tmp_path: Path) -> None:
    results = make_results(evaluations=[])
    workspace = Workspace(tmp_path / "workspace").create()
    assert results.patch is not None
    job = workspace.job(results.patch.job_id)
    job.mkdir()
    np.savez(job / "values.npz", **make_values())
    found = Page(make_report(results, workspace, tmp_path / "report").read_text())
    assert any("Histograms" in (image["alt"] or "") for image in found.all("img"))
    assert "No pictures: no path was recorded." in found.text


def points(svg: str) -> int:
    """Points of the scatter plots in an SVG."""
    groups = [g for g in ET.fromstring(svg).iter(f"{SVG}g") if g.get("id", "").startswith("PathCollection")]
    return sum(len(list(group.iter(f"{SVG}use"))) for group in groups)


def test_every_episode_is_a_point_in_both_panels_and_the_limit_is_drawn() -> None:
    evaluations = make_results().evaluations
    plot = episodes_plot(evaluations, LIMIT)
    for svg in (plot.light, plot.dark):
        assert points(svg) == 2 * sum(len(e.episodes) for e in evaluations) == 100
        for words in ("limit", "25", "Cost per episode", "Return per episode", "poisoned", "median"):
            assert f"<!-- {words} -->" in svg
    assert "limit 25" in plot.alt and "learned from poisoned data: cost 154 to 230" in plot.alt


def test_points_of_equal_value_do_not_hide_each_other() -> None:
    evaluation = make_evaluation("patched")
    same = {"episode_cost": 0.0, "episode_return": 30.0}
    alike = evaluation.model_copy(update={"episodes": [e.model_copy(update=same) for e in evaluation.episodes]})
    svg = episodes_plot([alike], LIMIT).light
    places = [
        (use.get("x"), use.get("y"))
        for group in ET.fromstring(svg).iter(f"{SVG}g")
        if group.get("id", "").startswith("PathCollection")
        for use in group.iter(f"{SVG}use")
    ]
    assert len(places) == len(set(places)) == 20


def test_histograms_show_both_sets_before_and_after_with_their_bounds() -> None:
    values = make_values()
    plot = values_plot(values, 3.4, 9.1)
    for words in ("≤ 3.4", "≥ 9.1", "keep data", "forget data", "bound for forget data's mean"):
        assert f"<!-- {words} -->" in plot.light
    # Two filled and two outlined histograms in each of four panels, and two keys.
    filled = re.findall(r'<path d="[^"]{200,}" clip-path', plot.light)
    assert len(filled) >= 16
    assert "Q_c of forget data: mean 0.96 before, 10.94 after" in plot.alt
    assert "≤" not in values_plot(values, math.nan, math.nan).light


def test_plots_of_the_same_values_are_the_same_files() -> None:
    evaluations = make_results().evaluations
    assert episodes_plot(evaluations, LIMIT) == episodes_plot(evaluations, LIMIT)


def test_one_outlier_does_not_flatten_a_histogram() -> None:
    values = make_values()
    values["after_cost_forget"][0] = 1e9
    values["before_reward_forget"][:] = 0.0  # and a constant is no error
    assert "<!-- 10 -->" in values_plot(values, 3.4, 9.1).light, "the axis of Q_c does not show 0 to 14 any more"


def test_provenance_names_versions_and_machine_but_not_its_name() -> None:
    found = versions()
    assert {"saferule_ros", "python", "numpy"} <= set(found)
    described = machine()
    assert set(described) == {"system", "processor", "cores", "memory"} and all(described.values())
    assert socket.gethostname() not in " ".join(described.values())


def test_a_job_id_of_the_samples_is_one_that_jobs_may_have() -> None:
    """Otherwise the samples would not be shaped as real runs are."""
    patch = make_patch()
    PatchRequest(job_id=patch.job_id, workspace=Path("w"), forget_set_id=patch.forget_set_id)
