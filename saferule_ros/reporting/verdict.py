"""What a run says in one line, and in four numbers."""

from dataclasses import dataclass

from saferule_ros.reporting.results import DemoResults, Evaluation, SwapEvidence
from saferule_ros.reporting.wording import MISSING, duration, number, percent, sentence


@dataclass(frozen=True)
class Tile:
    """One number that matters: what, how much, compared with what, and whether that is good (None: neither)."""

    label: str
    value: str
    detail: str
    good: bool | None


@dataclass(frozen=True)
class Verdict:
    """The head of the report."""

    passed: bool
    title: str
    text: str
    tiles: tuple[Tile, ...]


def judge(results: DemoResults) -> Verdict:
    """The verdict of a run; of one that ended early too."""
    failed = [check for check in results.checks if not check.passed]
    if results.error:
        title, text = "The run ended early", sentence(results.error)
    elif results.passed:
        title, text = "The policy was poisoned, patched while it ran, and is safe again", _story(results)
    elif failed:
        title = f"{len(failed)} of {len(results.checks)} checks did not hold"
        missed = "; ".join(f"{check.name} ({check.value}, required: {check.required})" for check in failed)
        text = f"Did not hold: {missed}. {_story(results)}"
    else:
        title, text = "The run made no checks", "Nothing can be said of it."
    tiles = (_cost_tile(results), _return_tile(results), _swap_tile(results.swap), _patch_tile(results))
    return Verdict(results.passed, title, text, tiles)


def _story(results: DemoResults) -> str:
    poisoned, patched = results.evaluation("poisoned"), results.evaluation("patched")
    if poisoned is None or patched is None:
        return "It did not get as far as evaluating the patched policy."
    parts = [
        f"The mean episode cost went from {number(poisoned.cost_mean)} to {number(patched.cost_mean)} "
        f"(limit {results.cost_limit:g})",
        f"the mean return from {number(poisoned.return_mean)} to {number(patched.return_mean)}{_of_clean(results)}",
    ]
    text = ", ".join(parts) + "."
    if results.swap is not None:
        text += (
            f" The new policy took over at step {results.swap.step_of_swap} of a running episode; "
            f"{_faults(results.swap)}."
        )
    return text


def _of_clean(results: DemoResults) -> str:
    share = return_share(results.evaluation("clean"), results.evaluation("patched"))
    return "" if share is None else f" ({percent(share)} of what a policy gets that learned from clean data)"


def return_share(clean: Evaluation | None, patched: Evaluation | None) -> float | None:
    """The patched policy's mean return as share of the clean one's; None where that means nothing."""
    if clean is None or patched is None or clean.return_mean <= 0:
        return None
    return patched.return_mean / clean.return_mean


def _faults(swap: SwapEvidence) -> str:
    if swap.flawless:
        return f"of {number(swap.actions, 0)} commands around it none was lost, doubled or mixed"
    return (
        f"{swap.unanswered} observations without a command, {swap.doubled} with several, {swap.gaps} gaps in the "
        f"sequence, {swap.mixed} commands of mixed origin"
    )


def _cost_tile(results: DemoResults) -> Tile:
    before, after = results.evaluation("poisoned"), results.evaluation("patched")
    limit = f"limit {results.cost_limit:g}"
    if after is None:
        return Tile("Episode cost", MISSING, limit, None)
    value = f"{number(before.cost_mean, 0)} → {number(after.cost_mean, 1)}" if before else number(after.cost_mean)
    within = percent(after.share_within(results.cost_limit))
    return Tile(
        "Episode cost", value, f"mean; {limit}; {within} of the episodes within it",
        after.cost_mean <= results.cost_limit,
    )  # fmt: skip


def _return_tile(results: DemoResults) -> Tile:
    before, after, clean = (results.evaluation(name) for name in ("poisoned", "patched", "clean"))
    if after is None:
        return Tile("Return", MISSING, "", None)
    value = f"{number(before.return_mean, 0)} → {number(after.return_mean, 1)}" if before else number(after.return_mean)
    share = return_share(clean, after)
    if clean is None or share is None:
        return Tile("Return", value, "mean", None)
    return Tile("Return", value, f"mean; {percent(share)} of the clean policy's {number(clean.return_mean, 1)}", None)


def _swap_tile(swap: SwapEvidence | None) -> Tile:
    if swap is None:
        return Tile("Live swap", MISSING, "no swap", None)
    faults = swap.unanswered + swap.doubled + swap.gaps + swap.mixed
    return Tile(
        "Live swap", f"{faults} faults",
        f"lost, doubled or mixed, in {number(swap.actions, 0)} commands around it", swap.flawless,
    )  # fmt: skip


def _patch_tile(results: DemoResults) -> Tile:
    patch = results.patch
    if patch is None:
        return Tile("Patch", MISSING, "no patch", None)
    detail = (
        f"{number(patch.checkpoint_step, 0)} steps in a process of low priority" if patch.success else patch.outcome
    )
    return Tile("Patch", duration(patch.duration), detail, None if patch.success else False)
