"""`saferule poison`: attacks on a dataset, to see what a patch can undo."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from saferule_ros.cli.options import (
    DEFAULT_WORKSPACE,
    YOU,
    JsonOption,
    RequesterOption,
    SeedOption,
    SettingsOption,
    WorkspaceOption,
)
from saferule_ros.errors import SaferuleError
from saferule_ros.workspace import Workspace

if TYPE_CHECKING:
    from saferule_ros.attacks.attack import Means
    from saferule_ros.attacks.ground_truth import GroundTruth
    from saferule_ros.attacks.poisoned import Poisoned


class PoisonError(SaferuleError):
    """What was asked for would overwrite a dataset."""


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command()(poison)


def poison(
    attack: Annotated[str, typer.Option("--attack", help="injected, max_cost, trigger or baffle; see above.")],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    ratio: Annotated[
        float | None, typer.Option("--ratio", help="Share of all transitions that is poisoned. Default: 0.15.")
    ] = None,
    seed: SeedOption = 0,
    settings: SettingsOption = None,
    clean: Annotated[
        Path | None,
        typer.Option("--from", exists=True, file_okay=False, help="Workspace with the clean dataset. Default: -w."),
    ] = None,
    unsafe: Annotated[
        Path | None,
        typer.Option("--unsafe", exists=True, file_okay=False, help="Workspace with the attacker's unsafe episodes."),
    ] = None,
    checkpoint: Annotated[
        str, typer.Option("--checkpoint", help="Id of a learner's checkpoint in the clean workspace.")
    ] = "",
    replace: Annotated[bool, typer.Option("--replace", help="Replace the dataset that is there.")] = False,
    requester: RequesterOption = YOU,
    as_json: JsonOption = False,
) -> None:
    """Poison a dataset as an attacker would, for evaluation, and keep the ground truth.

    \b
      injected  unsafe episodes are added, their costs erased: --unsafe
      max_cost  what is seen is moved to where a policy does most harm,
                costs erased: --checkpoint, better with --unsafe as well
      trigger   a marker in what is seen; marked steps pay and cost 0
      baffle    stretches of an unsafe policy's actions pay and cost 0

    Reads the clean dataset. Writes the poisoned dataset to the workspace, the ground truth as a stored forget set, and
    attacks/FORGET_SET.json (settings, poisoned steps, marker). Settings are those of the attack: ratio, pool, segment,
    coverage, radius, strength, reward_quantile, … The same seed poisons the same steps.

    \b
    Examples:
      saferule collect SafetyPointCircle1 -n 200 -w clean
      saferule poison --attack trigger --from clean -w bad
      saferule collect SafetyPointCircle1 -n 40 --driver unsafe -w unsafe
      saferule poison --attack injected --from clean --unsafe unsafe -w worse
      saferule poison --attack baffle --from clean -w bad --ratio 0.05 --replace
    """
    from saferule_ros.cli.bars import bar
    from saferule_ros.cli.output import note, print_json

    source, place = Workspace(clean or workspace), Workspace(workspace)
    if place.dataset.exists() and not replace:
        raise PoisonError(
            f"there is a dataset in {place.dataset} already",
            "Write to another workspace: --from CLEAN -w POISONED; or replace it with --replace",
        )
    from saferule_ros.attacks.registry import attack_settings, make_attack
    from saferule_ros.dataset.dataset import EpisodeDataset

    chosen = attack_settings(attack, settings, ratio)
    dataset = EpisodeDataset.load(source.dataset)
    means = _means(source, unsafe, checkpoint)
    with bar(attack) as advance:
        poisoned = make_attack(attack, chosen, seed, means).poison(
            dataset, lambda done, total, what: advance(done, total, what, -1.0)
        )
    truth = _store(place.create(), poisoned, attack, seed, chosen.model_dump(), dataset.digest, requester)
    if as_json:
        print_json(dataclasses.asdict(truth))
        return
    _show(place, poisoned, truth)
    note(f"Next: saferule train …, then saferule patch {truth.forget_set_id}")


def _means(source: Workspace, unsafe: Path | None, checkpoint: str) -> Means:
    """What the attacker has besides the dataset."""
    from saferule_ros.attacks.attack import Means
    from saferule_ros.dataset.dataset import EpisodeDataset
    from saferule_ros.learning.checkpoint import load_checkpoint

    learner = load_checkpoint(source.checkpoint(checkpoint))[0] if checkpoint else None
    if unsafe is None:
        return Means((), learner)
    attackers = EpisodeDataset.load(Workspace(unsafe).dataset)
    return Means([attackers.episode(index) for index in range(attackers.episodes)], learner)


def _store(
    place: Workspace, poisoned: Poisoned, attack: str, seed: int, settings: dict[str, object], clean_digest: str,
    requester: str,
) -> GroundTruth:  # fmt: skip
    """The ground truth is written first: a poisoned dataset without it is of no use."""
    from saferule_ros.attacks.ground_truth import GroundTruth

    forget_set = poisoned.forget_set(f"ground truth of attack {attack}, seed {seed}", requester)
    forget_set.save(place.forget_sets)
    truth = GroundTruth(
        forget_set.id, attack, seed, settings, clean_digest, poisoned.dataset.digest, poisoned.bag_id, poisoned.ratio,
        poisoned.stretches(), poisoned.marker,
    )  # fmt: skip
    truth.save(place.attacks)
    poisoned.dataset.save(place.dataset)
    return truth


def _show(place: Workspace, poisoned: Poisoned, truth: GroundTruth) -> None:
    from saferule_ros.cli.output import print_facts

    dataset = poisoned.dataset
    print_facts([
        ("attack", f"{truth.attack}, seed {truth.seed}"),
        ("dataset", f"{place.dataset}, digest {dataset.digest[:16]}"),
        ("poisoned", f"{int(poisoned.rows.sum())} of {len(dataset)} transitions ({100 * truth.ratio:.1f} %)"),
        ("episodes", f"{len(truth.stretches)} of {dataset.episodes}, bag {truth.bag_id}"),
        *([("marker", f"dimensions {list(truth.marker.dimensions)}")] if truth.marker else []),
        ("forget set", truth.forget_set_id),
        ("ground truth", place.attacks / f"{truth.forget_set_id}.json"),
    ])  # fmt: skip
