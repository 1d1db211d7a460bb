"""`saferule poison`: the poisoned dataset, the ground truth as a forget set, and wrong orders that are named."""

import dataclasses
import json
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="learning is not installed")

from cli_process import refused
from dataset_samples import make_episode
from typer.testing import CliRunner

from saferule_ros.attacks.ground_truth import GroundTruth
from saferule_ros.cli.main import app
from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.dataset.forget_set import ForgetSet
from saferule_ros.workspace import Workspace


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with 20 episodes; the later ones cost something."""
    root = tmp_path_factory.mktemp("poison") / "clean"
    episodes = [make_episode(number, length=20) for number in range(20)]
    EpisodeDataset.from_episodes(
        dataclasses.replace(episode, costs=episode.costs * (number >= 10)) for number, episode in enumerate(episodes)
    ).save(Workspace(root).create().dataset)
    return root


def poison(*arguments: object, status: int = 0) -> str:
    """What `saferule poison` prints, in this process: another one would take seconds to load torch."""
    result = CliRunner().invoke(app, ["poison", *map(str, arguments)], prog_name="saferule")
    assert result.exit_code == status, result.output
    return result.stdout if status == 0 else result.stderr


def test_a_poisoned_dataset_is_written_with_its_ground_truth(clean: Path, tmp_path: Path) -> None:
    before = EpisodeDataset.load(Workspace(clean).dataset)
    target = Workspace(tmp_path / "bad")
    order = ("--attack", "trigger", "--from", clean, "-w", target.root, "--ratio", "0.1", "--seed", 3)
    told = json.loads(poison(*order, "--json"))
    poisoned = EpisodeDataset.load(target.dataset)
    forget_set = ForgetSet.load(target.forget_sets, told["forget_set_id"])
    truth = GroundTruth.load(target.attacks, forget_set.id)
    assert (truth.attack, truth.seed, truth.settings["ratio"], truth.ratio) == ("trigger", 3, 0.1, 0.1)
    assert (truth.clean_digest, truth.poisoned_digest) == (before.digest, poisoned.digest)
    assert poisoned.bag_ids == ("monday", "trigger-3")
    assert forget_set.chosen(poisoned).sum() == 40 and len(truth.stretches) == 2
    assert forget_set.reason == "ground truth of attack trigger, seed 3"
    assert EpisodeDataset.load(Workspace(clean).dataset).digest == before.digest

    shown = poison(*order, "--replace")
    assert "40 of 400 transitions (10.0 %)" in shown and "2 of 20, bag trigger-3" in shown and "marker" in shown
    assert EpisodeDataset.load(target.dataset).digest == poisoned.digest, "the same seed, the same poison"


def test_injection_takes_the_episodes_of_another_workspace(clean: Path, tmp_path: Path) -> None:
    unsafe = Workspace(tmp_path / "unsafe").create()
    EpisodeDataset.from_episodes(make_episode(n, length=20) for n in range(100, 106)).save(unsafe.dataset)
    target = tmp_path / "bad"
    order = ("--attack", "injected", "--from", clean, "--unsafe", unsafe.root, "-w", target)
    told = json.loads(poison(*order, "--json"))
    assert list(told["stretches"].values()) == [[[0, 20]]] * 4
    said = poison(*order, "--ratio", 0.5, "--replace", status=2)
    assert "needs about 400 transitions of unsafe episodes, 120 were given" in said and "--driver unsafe" in said


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["--attack", "triger"], "unknown attack 'triger'\n  Did you mean 'trigger'"),
        (["--attack", "trigger", "--ratio", "15"], "ratio 15 is out of range\n  It is the share"),
        (["--attack", "max_cost"], "attack 'max_cost' needs a learner that was trained on clean data, none was given"),
        (["--attack", "max_cost", "--checkpoint", "00c0ffee"], "there is no checkpoint in"),
        (["--attack", "injected"], "ratio 0.15 needs about 71 transitions of unsafe episodes, 0 were given"),
        (["--attack", "trigger", "--settings", "wrong.yaml"], "marker = 3"),
    ],
)
def test_wrong_orders_are_named_and_write_nothing(clean: Path, tmp_path: Path, arguments: list[str], what: str) -> None:
    (tmp_path / "wrong.yaml").write_text("marker: 3\n")
    target = tmp_path / "bad"
    arguments = [str(tmp_path / "wrong.yaml") if word == "wrong.yaml" else word for word in arguments]
    assert what in poison(*arguments, "--from", clean, "-w", target, status=2)
    assert not Workspace(target).dataset.exists()


def test_a_dataset_is_not_overwritten_by_accident(clean: Path) -> None:
    assert "there is a dataset in" in refused("poison", "--attack", "trigger", workspace=clean)
