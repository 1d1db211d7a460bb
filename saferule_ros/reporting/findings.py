"""What a grid showed, for readers: how many cells each method gets right, and the cells that Safe-RULE does not."""

import statistics
from collections import Counter
from collections.abc import Callable, Sequence

from saferule_ros.reporting.clean_retraining import NO_RIVALS
from saferule_ros.reporting.comparison import RETRAIN, finished, in_order, rows_of
from saferule_ros.reporting.contest import contest
from saferule_ros.reporting.goals import CellGoals, goals_of
from saferule_ros.reporting.harm import Harm, harms, repairable
from saferule_ros.reporting.markdown import table
from saferule_ros.reporting.paired import paired, paired_rows
from saferule_ros.reporting.trials import POISONED, Cell, TrialResult
from saferule_ros.reporting.wording import MISSING, number, percent

SAFE_RULE = "safe_rule"
MOST_NAMED = 10  # trials made by several commits: of grids that grew for weeks it can be most
GOALS = (
    "method", ">cells", ">trials", ">cost kept: trials", ">cells", ">95 % of the return: cells", ">both: cells",
    ">1 % of the FLOPs: cells", ">not worse than poisoned: trials", ">undominated: cells", ">certificates",
    ">cost: share of what is allowed, worst trial", ">return: share of retraining's, median cell", ">worst",
)  # fmt: skip
NOTE = (
    "Cost kept: within the limit, or no more than retraining's where that is over it, without a backdoor's marker and "
    "with it; a cell keeps it if every seed does. Return: over the seeds of a cell whose retraining keeps the limit; "
    "FLOPs: over all. Not worse: within the limit, or no more than the poisoned policy's cost. Undominated: no other "
    "method but retraining has as much return and as little cost, and more or less of one. Certificates: those that "
    "hold. What can be repaired is judged seed by seed; a cell counts in a table with those of its trials that belong "
    "there, and in both tables if its seeds differ."
)
GROUPS = (
    "What can be repaired: trials in which the attack does harm, and the policy that never saw it is safe",
    "All other trials: the attack does no harm, its marker alone does, or there is no safe policy",
)
SHORT = (
    "method", ">what can be repaired: cost kept", ">all trials: cost kept",
    ">return where both keep it: Safe-RULE's minus this method's, % of retraining's",
    ">certificate: rewards suppressed", ">costs separated", ">both",
)  # fmt: skip
ATTACKS = ("cell", "attack", ">poisoned: return", ">cost", ">cost with trigger", ">retrained: return", ">cost")
FAILURES = ("cell", "what", "safe_rule: return / cost, seed by seed", "retrained", "poisoned")
ATTACKS_NOTE = (
    "Harmful: with one seed the poisoned policy's mean cost is over the limit (with its trigger: where it sees the "
    "marker) and that of the policy retrained with the same seed, which never saw the poison, is within it. Returns "
    "and costs: means over all seeds."
)


def findings(results: Sequence[TrialResult]) -> str:
    """All of it as Markdown.

    Args:
        results: at least one.
    """
    whole = finished(results)
    found = goals_of(whole)
    methods = in_order(one.row.method for one in found)
    seeds = sorted({result.seed for result in whole})
    left_out = len(results) - len(whole)
    counted = f"{len(whole)} results, {len({one.row.cell for one in found})} cells, seeds {_list(seeds)}."
    if left_out:
        counted += f" {left_out} more are of trials that are not finished, and do not count."
    counted += _origins(whole) + _commits(whole)
    lines = ["# Findings", "", "<!-- Written by saferule compare or saferule grid; do not edit. -->", "", counted, ""]
    lines += ["## In short", "", *table(SHORT, in_short(whole)), ""]
    for title, group in zip(GROUPS, map(goals_of, repairable(whole)), strict=True):
        if group:
            by_method = ([one for one in group if one.row.method == method] for method in methods)
            lines += [f"## {title}", "", *table(GOALS, [_summary(one) for one in by_method if one]), ""]
    lines += [NOTE, ""]
    against = contest(SAFE_RULE, found, methods)
    lines += ["## Safe-RULE against each other method", "", *against] if against else []
    lines += _trial_by_trial(whole)
    lines += _attacks(whole)
    return "\n".join([*lines, *_failures(whole, [one for one in found if one.row.method == SAFE_RULE])])


def in_short(results: Sequence[TrialResult]) -> list[list[str]]:
    """In how many trials each method keeps the cost and meets the certificate, and what it earns beside Safe-RULE: a
    row with the columns SHORT for each.

    Args:
        results: of finished trials, at least one.
    """
    parts = [goals_of(part) for part in (repairable(results)[0], results)]
    earned = {row[0]: row[-1] for row in paired_rows(SAFE_RULE, results)}
    rows = []
    for method in in_order({one.row.method for one in parts[1]} - NO_RIVALS):
        of_method = ([one for one in part if one.row.method == method] for part in parts)
        kept = (f"{sum(one.kept for one in found)} of {sum(one.trials for one in found)}" for found in of_method)
        rows.append([method, *kept, earned.get(method, MISSING), *_certified(results, method)])
    return rows


def _certified(results: Sequence[TrialResult], method: str) -> list[str]:
    """In how many of the trials that have a certificate each of its conditions holds, and both."""
    found = [one.certificate for one in results if one.method == method and one.certificate is not None]
    conditions = [(one["reward_suppressed"], one["cost_separated"]) for one in found]
    if not found:
        return [MISSING] * 3
    rewards, costs = map(sum, zip(*conditions, strict=True))
    return [f"{count} of {len(found)}" for count in (rewards, costs, sum(map(all, conditions)))]


def _trial_by_trial(results: Sequence[TrialResult]) -> list[str]:
    """The same over pairs of trials: all of them, and those in which something can be repaired."""
    lines = []
    for title, counted in (
        ("Trial by trial: what can be repaired", repairable(results)[0]),
        ("Trial by trial: all cells", results),
    ):
        pairs = paired(SAFE_RULE, counted)
        lines += [f"## {title}", "", *pairs] if pairs else []
    return lines


def _origins(results: Sequence[TrialResult]) -> str:
    """In which trials a method began with another poisoned learner than the one that is listed, or may have."""
    several, unknown = set[str](), set[str]()
    listed = {trial_of(one): one.checkpoint_id for one in results if one.method == POISONED}
    for one in results:
        if one.method not in NO_RIVALS and one.poisoned_id != listed.get(trial_of(one)):
            (several if one.poisoned_id else unknown).add(trial_of(one))
    words = ""
    if several:
        words += (
            f" In {len(several)} trials a method began with another poisoned learner than the one that is listed, from "
            f"the same data and seed: {_list(sorted(several))}."
        )
    if unknown:
        words += f" In {len(unknown)} trials results are older than the note of which poisoned learner they began with."
    return words


def _commits(results: Sequence[TrialResult]) -> str:
    """In which trials methods are compared that were not made by the same code; a shared learner's training aside."""
    of_trials: dict[str, set[str]] = {}
    for one in results:
        of_trials.setdefault(trial_of(one), set()).add(one.versions.get("commit", ""))
    several = sorted(trial for trial, commits in of_trials.items() if len(commits) > 1)
    if not several:
        return ""
    more = f", and {len(several) - MOST_NAMED} more" if len(several) > MOST_NAMED else ""
    return (
        f" In {len(several)} of {len(of_trials)} trials methods were made by several commits, which may differ in more "
        f"than what they are compared for: {_list(several[:MOST_NAMED])}{more}."
    )


def trial_of(result: TrialResult) -> str:
    """Of which trial it is, for people."""
    return f"{result.cell.title} (seed {result.seed})"


def _summary(found: Sequence[CellGoals]) -> list[str]:
    """One method over cells, at least one."""
    returns = [one.return_share for one in found if one.return_share == one.return_share]
    trials = sum(one.trials for one in found)
    certified, certificates = (sum(getattr(one.row, name) for one in found) for name in ("certified", "certificates"))
    not_worse = [one.not_worse for one in found if one.not_worse is not None]
    return [
        found[0].row.method, str(len(found)), str(trials), str(sum(one.kept for one in found)),
        *(_count(found, goal) for goal in (lambda o: o.safe, lambda o: o.earns, lambda o: o.good, lambda o: o.cheap)),
        str(sum(not_worse)) if len(not_worse) == len(found) else MISSING,
        _count(found, lambda one: one.undominated), f"{certified} of {certificates}" if certificates else MISSING,
        percent(max(one.worst_excess for one in found)),
        percent(statistics.median(returns)) if returns else MISSING, percent(min(returns)) if returns else MISSING,
    ]  # fmt: skip


def _count(found: Sequence[CellGoals], goal: Callable[[CellGoals], bool | None]) -> str:
    known = [value for value in map(goal, found) if value is not None]
    return MISSING if not known else f"{sum(known)}" if len(known) == len(found) else f"{sum(known)} of {len(known)}"


def _attacks(results: Sequence[TrialResult]) -> list[str]:
    """What each attack did to the learned policy, beside the policy that there would be without it."""
    of_cells: dict[Cell, list[Harm]] = {}
    for (cell, _), harm in harms(results).items():
        if harm is not None and cell.precision == cell.recall == 1.0:
            of_cells.setdefault(cell, []).append(harm)
    rows = {(row.cell, row.method): row for row in rows_of(results)}
    lines = []
    for cell in sorted(of_cells, key=lambda cell: cell.name):
        poisoned, retrained = rows[cell, POISONED], rows[cell, RETRAIN]
        lines.append([
            cell.title, _in_seeds(of_cells[cell]), number(poisoned.return_mean), number(poisoned.cost_mean),
            number(poisoned.triggered_cost), number(retrained.return_mean), number(retrained.cost_mean),
        ])  # fmt: skip
    if not lines:
        return []
    return ["## What the attacks do", "", *table(ATTACKS, lines), "", ATTACKS_NOTE, ""]


def _in_seeds(found: Sequence[Harm]) -> str:
    """In how many seeds of a cell an attack did what; what can be repaired is emphasised."""
    counted = Counter(found)
    told = [(harm, f"{harm} in {counted[harm]} of {len(found)}") for harm in Harm if harm in counted]
    return ", ".join(f"**{words}**" if harm.repairable else words for harm, words in told)


def _failures(results: Sequence[TrialResult], found: Sequence[CellGoals]) -> list[str]:
    failed = [one for one in found if one.kind_of_failure]
    if not found:
        return []
    if not failed:
        return ["## Where Safe-RULE fails", "", "In no cell.", ""]
    rows = [
        [one.row.cell.title, one.kind_of_failure]
        + [_seeds(results, one, method) for method in (SAFE_RULE, RETRAIN, POISONED)]
        for one in failed
    ]
    return ["## Where Safe-RULE fails", "", *table(FAILURES, rows), ""]


def _seeds(results: Sequence[TrialResult], one: CellGoals, method: str) -> str:
    of_each = [r for r in results if r.cell == one.row.cell and r.method == method]
    shown = (_return_and_cost(r) for r in sorted(of_each, key=lambda r: r.seed))
    return ", ".join(shown) or MISSING


def _return_and_cost(result: TrialResult) -> str:
    with_marker = f" (with marker {number(result.triggered_cost_mean)})" if result.triggered else ""
    return f"{number(result.return_mean)} / {number(result.cost_mean)}{with_marker}"


def _list(things: Sequence[object]) -> str:
    return ", ".join(map(str, things))
