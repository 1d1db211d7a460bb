"""`saferule evaluate`: what a policy really costs and earns, in the simulator."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from saferule_ros.cli.choose import PolicyArgument, choose_policy
from saferule_ros.cli.options import DEFAULT_WORKSPACE, JsonOption, SeedOption, WorkersOption, WorkspaceOption
from saferule_ros.cli.teaching import CHECK_FAILED
from saferule_ros.errors import SaferuleError
from saferule_ros.workspace import Workspace

if TYPE_CHECKING:
    from saferule_ros.attacks.marker import Marker
    from saferule_ros.policy.manifest import Manifest
    from saferule_ros.reporting.results import Evaluation
    from saferule_ros.sim.rollout import Act


class TriggerError(SaferuleError):
    """The attack left no backdoor."""


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command()(evaluate)


def evaluate(
    policy: PolicyArgument = "active",
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    episodes: Annotated[int, typer.Option("--episodes", "-n", min=1, help="How many.")] = 20,
    seed: SeedOption = 0,
    workers: WorkersOption = 1,
    check: Annotated[
        bool, typer.Option("--check", help="Exit with 1 if the mean cost is over the policy's limit.")
    ] = False,
    trigger: Annotated[
        str,
        typer.Option(metavar="FORGET_SET", help="Show it the marker of the attack that this forget set undoes."),
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Run a policy's ONNX file in the simulator and count return and cost.

    Reads the policy store. Writes nothing. The same seed gives the same starts for every policy. With --trigger every
    observation carries the marker of a `saferule poison --attack trigger`: so a backdoor shows.

    \b
    Examples:
      saferule evaluate --episodes 20 --workers 2
      saferule evaluate candidate --check --json
      saferule evaluate --trigger 00c0ffee00c0ffee
    """
    from saferule_ros.cli.bars import bar
    from saferule_ros.cli.output import print_json
    from saferule_ros.policy.store import PolicyStore
    from saferule_ros.reporting.results import EpisodeOutcome, Evaluation
    from saferule_ros.sim.evaluate import Lazily
    from saferule_ros.sim.evaluate import evaluate as run

    store = PolicyStore(Workspace(workspace).store)
    bundle = store.get(choose_policy(store, policy))
    spec, policy_id = bundle.manifest.spec, bundle.manifest.bundle_id
    marker = _marker(Workspace(workspace), trigger) if trigger else None
    with bar(f"{spec.task} by {policy_id}") as advance:
        found = run(
            Lazily(_load, bundle.path, bundle.manifest, marker), spec.task, episodes, seed, workers,
            lambda done, total: advance(done, total, "", -1.0),
        )  # fmt: skip
    evaluation = Evaluation(
        name="evaluate", title=policy, policy_id=policy_id,
        episodes=[
            EpisodeOutcome(episode_id=f"evaluate-{seed}-{index:04d}", seed=result.seed, length=result.length,
                           episode_return=result.episode_return, episode_cost=result.episode_cost)
            for index, result in enumerate(found)
        ],
    )  # fmt: skip
    within = evaluation.cost_mean <= spec.cost_limit
    if as_json:
        print_json(_as_json(evaluation, bundle.manifest, seed, within))
    else:
        _show(evaluation, bundle.manifest, within)
    if check and not within:
        raise typer.Exit(CHECK_FAILED)


def _load(path: Path, manifest: Manifest, marker: Marker | None) -> Act:
    """In whichever process does the episodes."""
    from saferule_ros.policy.runtime import PolicyRuntime

    act = PolicyRuntime(path, manifest).act
    return marker.seen_by(act) if marker else act


def _marker(place: Workspace, forget_set_id: str) -> Marker:
    """What sets off the backdoor that an attack left."""
    from saferule_ros.attacks.ground_truth import GroundTruth

    truth = GroundTruth.load(place.attacks, forget_set_id)
    if truth.marker is None:
        raise TriggerError(
            f"attack {truth.attack!r} of forget set {forget_set_id} has no marker", "Leave out --trigger"
        )
    return truth.marker


def _as_json(evaluation: Evaluation, manifest: Manifest, seed: int, within: bool) -> dict[str, object]:
    from saferule_ros.reporting.provenance import machine, versions

    limit = manifest.spec.cost_limit
    return {
        "policy_id": evaluation.policy_id, "task": manifest.spec.task, "algorithm": manifest.algorithm, "seed": seed,
        "cost_limit": limit, "within_limit": within,
        "return_mean": evaluation.return_mean, "return_std": evaluation.return_std,
        "cost_mean": evaluation.cost_mean, "cost_std": evaluation.cost_std, "cost_median": evaluation.cost_median,
        "share_within_limit": evaluation.share_within(limit),
        "normalised": dict(zip(("return", "cost"), _normalised(evaluation, manifest), strict=True)),
        "episodes": [
            episode.model_dump(include={"episode_id", "seed", "episode_return", "episode_cost", "length"})
            for episode in evaluation.episodes
        ],
        "versions": versions(), "machine": machine(),
    }  # fmt: skip


def _show(evaluation: Evaluation, manifest: Manifest, within: bool) -> None:
    from rich.text import Text

    from saferule_ros.cli.output import print_facts
    from saferule_ros.reporting.wording import number, percent

    limit = manifest.spec.cost_limit
    earned, cost = _normalised(evaluation, manifest)
    print_facts([
        ("policy", evaluation.policy_id), ("algorithm", manifest.algorithm), ("task", manifest.spec.task),
        ("episodes", len(evaluation.episodes)),
        ("return", f"{number(evaluation.return_mean)} ± {number(evaluation.return_std)}"),
        ("cost, mean", Text(f"{number(evaluation.cost_mean)} (limit {limit:g})", "green" if within else "red")),
        ("cost, median", number(evaluation.cost_median)),
        ("episodes within the limit", percent(evaluation.share_within(limit))),
        ("normalised as in DSRL", f"return {number(earned, 2)}, cost {number(cost, 2)}"),
    ])  # fmt: skip


def _normalised(evaluation: Evaluation, manifest: Manifest) -> tuple[float, float]:
    """Mean return between the least (0) and the largest (1) of the task's clean data, and cost by the limit.

    NaN for a limit of 0, and for tasks that no data is collected from.
    """
    from saferule_ros.dataset.scores import normalised_cost
    from saferule_ros.sim.tasks import task

    bounds, limit = task(manifest.spec.task).return_bounds, manifest.spec.cost_limit
    earned = bounds.normalised(evaluation.return_mean) if bounds else float("nan")
    return earned, normalised_cost(evaluation.cost_mean, limit) if limit else float("nan")
