"""The report of a run: one HTML file that holds all of it and needs no network."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from numpy.typing import NDArray

from saferule_ros.dataset.durable import write_atomically
from saferule_ros.reporting.figures import episodes_plot, values_plot
from saferule_ros.reporting.pictures import PathPicture
from saferule_ros.reporting.results import DemoResults, Evaluation, SwapEvidence
from saferule_ros.reporting.verdict import judge
from saferule_ros.reporting.wording import MISSING, duration, measured_on, number, percent, sentence, sentence_case

REPORT_PAGE = "index.html"
_TEMPLATES = Path(__file__).parent / "templates"
_NOT_DRAWN = "none were drawn."


def write_report(
    results: DemoResults,
    folder: Path,
    values: Mapping[str, NDArray[np.floating]] | None = None,
    pictures: Sequence[PathPicture] = (),
    no_pictures: str = _NOT_DRAWN,
) -> Path:
    """Writes <folder>/index.html and returns its path.

    Args:
        results: of the run; of one that failed too.
        values: the critics' values, as patching.values.load_values gives them; None where there was no patch.
        pictures: of the policies' paths.
        no_pictures: why there are none.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {"svg_uri": _svg_uri, "png_uri": _png_uri, "sentence_case": sentence_case}
    page = environment.get_template("report.html.j2").render(
        style=jinja2.utils.markupsafe.Markup((_TEMPLATES / "report.css").read_text()),
        pictures=pictures,
        no_pictures=no_pictures,
        **_content(results, values),
    )
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / REPORT_PAGE, page.encode())
    return folder / REPORT_PAGE


def _content(results: DemoResults, values: Mapping[str, NDArray[np.floating]] | None) -> dict[str, Any]:
    patch, gate = results.patch, results.patch.gate if results.patch else {}
    wall_time = duration(results.seconds) if results.stages else MISSING
    return {
        "run": results,
        "verdict": judge(results),
        "date": _moment(results.started, "%-d %B %Y"),
        "evaluations": [_evaluation_row(e, results.cost_limit) for e in results.evaluations],
        "episodes_plot": episodes_plot(results.evaluations, results.cost_limit) if results.evaluations else None,
        "swap": _swap_tables(results.swap) if results.swap else [],
        "values_plot": values_plot(values, patch.q_reward_reference, patch.q_cost_required)
        if values and patch
        else None,
        "certificate": _certificate_rows(patch.certificate) if patch else [],
        "measured_on": measured_on(patch.certificate) if patch else "",
        "no_certificate": sentence(patch.message) if patch and patch.message else "No patch was made.",
        "gate": gate.get("checks", []),
        "gate_seconds": f" ({duration(gate['seconds'])})" if "seconds" in gate else "",
        "data": [
            {**bag.model_dump(), "transitions": number(bag.transitions, 0),
             "return_mean": number(bag.return_mean), "cost_mean": number(bag.cost_mean)}
            for bag in results.data
        ],
        "times": _times(results),
        "machine": [(sentence_case(name), value) for name, value in results.machine.items()],
        "provenance": [("Started", _moment(results.started)), ("Wall time", wall_time),
                       ("Settings' digest", results.settings_digest), ("Seed", str(results.seed))],
        "digests": _digests(results),
        "settings": json.dumps(results.settings, indent=2, default=str),
    }  # fmt: skip


def _evaluation_row(evaluation: Evaluation, cost_limit: float) -> dict[str, Any]:
    return {
        "heading": sentence_case(evaluation.heading), "policy_id": evaluation.policy_id,
        "episode_return": f"{number(evaluation.return_mean)} ± {number(evaluation.return_std)}",
        "cost_mean": number(evaluation.cost_mean), "cost_median": number(evaluation.cost_median),
        "within": evaluation.cost_mean <= cost_limit, "share": percent(evaluation.share_within(cost_limit)),
        "episodes": len(evaluation.episodes), "fallbacks": sum(e.fallbacks for e in evaluation.episodes),
    }  # fmt: skip


def _swap_tables(swap: SwapEvidence) -> list[tuple[str, list[tuple[str, str]]]]:
    of = f" of {swap.steps}" if swap.steps else ""
    counted = [
        ("Observations", number(swap.observations, 0)),
        ("Commands", number(swap.actions, 0)),
        ("Observations without a command", str(swap.unanswered)),
        ("Observations with several", str(swap.doubled)),
        ("Gaps in the sequence", str(swap.gaps)),
        ("Commands of mixed origin", str(swap.mixed)),
        ("Commands by the fallback", str(swap.fallbacks)),
        ("Commands while the patch was computed", number(swap.while_patched, 0)),
    ]
    switch = [
        ("Episode", swap.episode_id),
        ("Policy", f"{swap.policy_before or '?'} → {swap.policy_after or '?'}"),
        ("Generation", f"{swap.generation_before} → {swap.generation_after}"),
        ("First command by the new policy", f"number {swap.first_sequence}, at step {swap.step_of_swap}{of}"),
        *([] if math.isnan(swap.seconds_gate) else [("Gate, in a process of its own", duration(swap.seconds_gate))]),
        ("From the old policy's last command to the new one's first", duration(swap.seconds_switch)),
        ("Service call, request to reply", duration(swap.seconds_call)),
    ]
    return [("Counted on the topics", counted), ("The switch", switch)]


def _certificate_rows(certificate: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Empty for a patch that did not get as far as its certificate."""
    if not certificate:
        return []
    rows = (
        ("Reward suppressed: Qr no higher than on keep data", "≤", "reward_suppressed",
         ("q_reward_forget", "q_reward_reference", "residual_reward")),
        ("Cost separated: Qc above what the limit allows", "≥", "cost_separated",
         ("q_cost_forget", "q_cost_required", "residual_cost")),
    )  # fmt: skip
    found = []
    for condition, sign, passed, names in rows:
        value, bound, residual = (number(certificate[name], 2) for name in names)
        found.append({
            "condition": condition, "value": value, "bound": f"{sign} {bound}", "residual": residual,
            "passed": certificate[passed],
        })  # fmt: skip
    return found


def _times(results: DemoResults) -> list[dict[str, Any]]:
    groups = [("The run", [(stage.name, stage.seconds) for stage in results.stages])]
    if results.patch:
        groups.append(("The patch", list(results.patch.seconds.items())))
    shown = []
    for caption, rows in groups:
        if rows:
            longest, total = max(seconds for _, seconds in rows), math.fsum(seconds for _, seconds in rows)
            shown.append({
                "caption": f"{caption}: {duration(total)}",
                "rows": [{"name": sentence_case(name), "time": duration(seconds),
                          "width": round(100 * seconds / longest, 1) if longest else 0} for name, seconds in rows],
            })  # fmt: skip
    return shown


def _digests(results: DemoResults) -> list[tuple[str, str]]:
    of_patch = results.patch.digests if results.patch else {}
    return [*results.digests.items(), *((f"patch: {name}", value) for name, value in of_patch.items())]


def _moment(started: str, form: str = "%-d %B %Y, %H:%M %Z") -> str:
    try:
        return datetime.fromisoformat(started).strftime(form)
    except ValueError:
        return started


def _svg_uri(svg: str) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode("ascii")


def _png_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")
