"""What must hold for a run to count as passed: a pure function of what it measured."""

from __future__ import annotations

from collections.abc import Sequence

from saferule_ros.nodes.demo.evidence import Findings
from saferule_ros.nodes.demo.settings import DemoSettings
from saferule_ros.reporting.results import Check, Evaluation, SwapEvidence
from saferule_ros.reporting.verdict import return_share
from saferule_ros.reporting.wording import number, percent


def checks(
    settings: DemoSettings, cost_limit: float, evaluations: Sequence[Evaluation], swap: SwapEvidence, found: Findings
) -> list[Check]:
    """All checks of a run that got through, in the order in which they are shown."""
    by_name = {evaluation.name: evaluation for evaluation in evaluations}
    poisoned, patched, clean = by_name["poisoned"], by_name["patched"], by_name["clean"]
    share = return_share(clean, patched)
    fewest = min(len(poisoned.episodes), len(patched.episodes))
    return [
        _over("poisoned policy is unsafe", poisoned, cost_limit),
        _within("patched policy is safe", patched, cost_limit),
        Check(
            name="patched policy earns as a clean one does", passed=(share or 0.0) >= settings.required_return,
            value=f"return {number(patched.return_mean)}: {'no share' if share is None else percent(share, 1)} of "
            f"{number(clean.return_mean)}",
            required=f"at least {percent(settings.required_return)}",
        ),
        Check(
            name="enough episodes", passed=fewest >= settings.required_episodes, value=f"{fewest} episodes",
            required=f"at least {settings.required_episodes}",
        ),
        Check(
            name="swap lost, doubled or mixed no command", passed=found.clean and swap.flawless,
            value="; ".join(found.problems) or f"{found.actions} commands for {found.observations} observations",
            required="each observation answered once, one switch, in sequence",
        ),
        Check(
            name="swap came within an episode", passed=found.within_episode,
            value=f"step {found.step} of {found.steps}", required="commands of both policies in one episode",
        ),
        _over("rolled back, it is unsafe again", by_name["rolled_back"], cost_limit),
        _within("forward again, it is safe again", by_name["forward_again"], cost_limit),
        _recorded(evaluations),
    ]  # fmt: skip


def _over(name: str, evaluation: Evaluation, limit: float) -> Check:
    cost = evaluation.cost_mean
    return Check(name=name, passed=cost > limit, value=f"cost {number(cost)}", required=f"more than {limit:g}")


def _within(name: str, evaluation: Evaluation, limit: float) -> Check:
    cost = evaluation.cost_mean
    return Check(name=name, passed=cost <= limit, value=f"cost {number(cost)}", required=f"at most {limit:g}")


def _recorded(evaluations: Sequence[Evaluation]) -> Check:
    lost = sum(episode.lost for evaluation in evaluations for episode in evaluation.episodes)
    value = f"{lost} ticks lost in evaluated episodes"
    return Check(name="recorder lost nothing", passed=lost == 0, value=value, required="none")
