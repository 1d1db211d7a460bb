"""From the settings of a grid to its trials, with every name and number checked before anything runs."""

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from saferule_ros.attacks.registry import ATTACKS
from saferule_ros.dataset.storage import INDEX_NAME
from saferule_ros.errors import SettingsError
from saferule_ros.experiments.settings import DataSettings, GridSettings, Trial, Variant
from saferule_ros.learning.algorithms import ALGORITHMS
from saferule_ros.learning.choice import settings_classes
from saferule_ros.reporting.trials import Cell
from saferule_ros.sim.tasks import full_id
from saferule_ros.unlearning.methods import NAMES, method_for
from saferule_ros.unlearning.retrain import Retrain


def plan(grid: GridSettings) -> list[Trial]:
    """All trials: seed by seed, so that a grid that is stopped early has every cell at least once.

    Raises:
        SettingsError: an unknown task, algorithm, attack, method or setting, or a value out of range.
    """
    _check_names(grid)
    cells = [cell.model_copy(update={"task": full_id(cell.task)}) for cell in grid.all_cells()]
    return [_trial(grid, cell, seed) for seed in dict.fromkeys(grid.seeds) for cell in cells]


def _trial(grid: GridSettings, cell: Cell, seed: int) -> Trial:
    settings = {**grid.attacks.get(cell.attack, {}), "ratio": cell.ratio}
    return Trial(
        cell=cell, seed=seed, data=_data(grid.data), device=grid.device,
        training_steps=grid.training_steps_of.get(cell.algorithm, grid.training_steps),
        learner=_checked(settings_classes()[cell.algorithm], grid.learners.get(cell.algorithm, {}), cell.algorithm),
        attack=_checked(ATTACKS[cell.attack].SETTINGS, settings, cell.attack),
        methods=_methods(grid, cell.algorithm),
        variants={name: variant.method for name, variant in grid.variants.items()},
        evaluation_episodes=grid.evaluation_episodes,
    )  # fmt: skip


def _data(data: DataSettings) -> DataSettings:
    """With full task names and paths, as it goes into what is kept.

    Raises:
        SettingsError: there is no dataset where one is said to be.
    """
    places: dict[str, dict[str, Path]] = {}
    for kind in ("clean", "unsafe"):
        places[kind] = {full_id(name): path.resolve() for name, path in getattr(data, kind).items()}
        for name, path in places[kind].items():
            if not (path / INDEX_NAME).is_file():
                raise SettingsError(f"there is no dataset in {str(path)!r} for {name}", "Correct its path")
    return data.model_copy(update=places)


def _methods(grid: GridSettings, algorithm: str) -> dict[str, dict[str, Any]]:
    """Methods, then variants, with all of their settings."""
    asked = {name: Variant(method=name, settings={}) for name in grid.methods} | grid.variants
    found = {}
    for name, variant in asked.items():
        method = method_for(variant.method, ALGORITHMS[algorithm])
        settings = grid.unlearning.get(variant.method, {}) | variant.settings
        if variant.method == Retrain.NAME and settings.keys() - {"steps"}:
            raise SettingsError(
                f"settings of {name}: {', '.join(sorted(settings.keys() - {'steps'}))}",
                "Retraining is learning as the poisoned agent did, from the keep data: it can be told its steps alone",
            )
        found[name] = _checked(method.settings, settings, name)
    return found


def _check_names(grid: GridSettings) -> None:
    cells = grid.all_cells()
    for kind, asked, known in (
        ("attack", grid.data.unsafe_for, ATTACKS),
        ("algorithm", [*(c.algorithm for c in cells), *grid.learners, *grid.training_steps_of], ALGORITHMS),
        ("attack", [*(cell.attack for cell in cells), *grid.attacks], ATTACKS),
        ("unlearning method", [*grid.methods, *grid.unlearning, *(v.method for v in grid.variants.values())], NAMES),
    ):
        for name in asked:
            if name not in known:
                raise _unknown(kind, name, known)
    for name, settings in grid.attacks.items():
        if "ratio" in settings:
            raise SettingsError(
                f"settings of attack {name}: ratio = {settings['ratio']!r}",
                "The ratio is the cells' affair, which are named by it: put it under ratios",
            )
    for name in grid.variants:
        if name in NAMES:
            raise SettingsError(f"a variant is called {name!r}, as a method is", "Give it a name of its own")


def _checked(model: type[BaseModel], values: Mapping[str, Any], of: str) -> dict[str, Any]:
    """All settings of a model as plain data."""
    try:
        return model.model_validate(values).model_dump(mode="json")
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(map(str, item['loc']))} = {item['input']!r}: {item['msg']}" for item in error.errors()
        )
        raise SettingsError(f"settings of {of}: {wrong}", f"Known settings: {', '.join(model.model_fields)}") from error


def _unknown(kind: str, name: str, known: Iterable[str]) -> SettingsError:
    close = difflib.get_close_matches(name, list(known), n=1)
    hint = f"Did you mean {close[0]!r}? " if close else ""
    return SettingsError(f"unknown {kind} {name!r}", f"{hint}Known: {', '.join(known)}")
