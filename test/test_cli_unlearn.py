"""Any method from checkpoint to checkpoint, and from there to a policy, on the command line."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnxruntime", reason="a policy is exported to ONNX")

import torch
import yaml
from cli_process import interrupted
from patch_samples import BAD_BAG, SPEC, STEPS, make_workspace
from typer.testing import CliRunner, Result

from saferule_ros.cli.main import app
from saferule_ros.patching.forget import store_forget_set
from saferule_ros.patching.origin import Origin
from saferule_ros.policy.store import PolicyStore
from saferule_ros.unlearning.methods import NAMES
from saferule_ros.workspace import Workspace


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    root = tmp_path_factory.mktemp("unlearn") / "robot"
    make_workspace(root)
    return Workspace(root)


@pytest.fixture(scope="module")
def forget_set(place: Workspace) -> str:
    return store_forget_set(place, [BAD_BAG], (), "test", "me").forget_set.id


def invoke(place: Workspace, *arguments: object) -> Result:
    """In this process: what is looked at is files and text, and torch is loaded already."""
    return CliRunner().invoke(app, [*map(str, arguments), "-w", str(place.root)])


def as_json(place: Workspace, *arguments: object) -> Any:
    result = invoke(place, *arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


@pytest.mark.parametrize("method", NAMES)
def test_every_method_makes_a_checkpoint_that_says_where_it_comes_from(place, forget_set, method) -> None:
    before = PolicyStore(place.store).places()
    made = as_json(place, "unlearn", forget_set, "--method", method, "--steps", 6, "--seed", 5)
    origin = Origin.load(place.checkpoint(made["checkpoint_id"]))
    parent = PolicyStore(place.store).active().manifest.checkpoint_id
    assert (origin.method, origin.steps, origin.seed, origin.parent_checkpoint) == (method, 6, 5, parent)
    assert origin.certificate is not None and origin.budget["flops"] > 0
    assert PolicyStore(place.store).places() == before, "the store is not touched"


def test_an_unlearned_checkpoint_becomes_a_policy_that_can_be_traced(place, forget_set) -> None:
    made = as_json(place, "unlearn", forget_set, "--method", "fine_tune", "--steps", 4)
    active = PolicyStore(place.store).active().manifest
    exported = as_json(place, "export", made["checkpoint_id"])
    assert exported["algorithm"] == "bcq_lag+fine_tune"
    assert (exported["parent"], exported["forget_set_id"]) == (active.bundle_id, forget_set)
    assert exported["certificate"]["q_cost_required"] == made["certificate"]["q_cost_required"]
    assert PolicyStore(place.store).active().manifest == active


def test_an_onnx_file_alone_needs_neither_store_nor_dataset(place, tmp_path) -> None:
    import onnx

    checkpoint = PolicyStore(place.store).active().manifest.checkpoint_id
    alone = Workspace(tmp_path / "alone").create()
    place.checkpoint(checkpoint).rename(alone.checkpoint(checkpoint))
    try:
        robot = tmp_path / "robot.yaml"
        robot.write_text(yaml.safe_dump({"horizon": STEPS, "spec": SPEC.model_dump(mode="json")}))
        for more in (("--json",), ("--seed", "3"), ("--reason", "why")):
            of_a_bundle = invoke(
                alone, "export", checkpoint, "--robot", robot, "--onnx", tmp_path / "policy.onnx", *more
            )
            assert of_a_bundle.exit_code == 2 and "Leave them out" in of_a_bundle.output
            assert not (tmp_path / "policy.onnx").exists()
        result = invoke(alone, "export", checkpoint, "--robot", robot, "--onnx", tmp_path / "policy.onnx")
        assert result.exit_code == 0, result.stderr
    finally:
        alone.checkpoint(checkpoint).rename(place.checkpoint(checkpoint))
    model = onnx.load(tmp_path / "policy.onnx")
    traced = {entry.key: entry.value for entry in model.metadata_props}
    assert traced["saferule.checkpoint_id"] == checkpoint and traced["saferule.algorithm"] == "bcq_lag"


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["--method", "forget_me_not"], "unknown unlearning method 'forget_me_not'"),
        (["--checkpoint", "5ca1ab1e"], "there is no checkpoint in"),
    ],
)
def test_wrong_input_is_named(place, forget_set, arguments, what) -> None:
    result = invoke(place, "unlearn", forget_set, *arguments)
    assert result.exit_code == 2 and result.stderr.startswith(f"error: {what}")


@pytest.fixture
def robot_file(tmp_path: Path) -> Path:
    file = tmp_path / "robot.yaml"
    file.write_text(yaml.safe_dump({"horizon": STEPS, "spec": SPEC.model_dump(mode="json")}))
    return file


def train(place: Workspace, robot_file: Path, settings: str, *arguments: str) -> Result:
    file = robot_file.parent / "settings.yaml"
    file.write_text(settings)
    return invoke(
        place, "train", "--robot", robot_file, "--steps", 4, "--no-activate", "--settings", file, *arguments
    )  # fmt: skip


def test_what_is_learned_becomes_active_only_where_nothing_is_unless_it_is_said(place, robot_file, tmp_path) -> None:
    new = Workspace(tmp_path / "new").create()
    shutil.copytree(place.dataset, new.dataset, dirs_exist_ok=True)
    arguments = ("train", "--robot", robot_file, "--steps", 2)
    first, second, third = (
        as_json(new, *arguments, "--seed", seed, *more) for seed, more in enumerate([(), (), ("--activate",)])
    )
    assert (first["active"], second["active"], third["active"]) == (True, False, True)
    places = PolicyStore(new.store).places()
    assert (places.active, places.previous) == (third["policy_id"], first["policy_id"])


def stopped_by_ctrl_c(place: Workspace, *arguments: object) -> int:
    """Presses Ctrl-C once a run of 90,000 steps is seen to move; returns after how many it says that it stopped."""
    status, rest = interrupted(
        *arguments, "--steps", 90000, "-w", place.root, sign="/90000", cwd=place.root.parent
    )  # fmt: skip
    assert status == 130 and "Traceback" not in rest, rest
    assert "The same command goes on from there" in rest
    (steps,) = re.findall(r"cancelled after (\d+) of 90000 steps", rest)
    assert len(list(place.training.iterdir())) == 1
    return int(steps)


def test_learning_that_ctrl_c_stopped_goes_on_with_the_same_command(place, robot_file) -> None:
    arguments = ("train", "--robot", robot_file, "--no-activate")
    steps = stopped_by_ctrl_c(place, *arguments) + 3
    resumed, straight = (as_json(place, *arguments, "--steps", steps) for _ in range(2))
    assert not list(place.training.iterdir()), "so the second had nothing to go on from"
    assert resumed["checkpoint_id"] == straight["checkpoint_id"]
    assert resumed["versions"]["torch"] and resumed["settings"]["algorithm"] == "bcq_lag"


def test_unlearning_that_ctrl_c_stopped_leaves_no_checkpoint_and_can_go_on(place, forget_set) -> None:
    """Bit for bit: see test_unlearning_resumable.py. With another number of steps it is another run."""
    before = set(place.checkpoints.iterdir())
    stopped_by_ctrl_c(place, "unlearn", forget_set)
    assert set(place.checkpoints.iterdir()) == before
    as_json(place, "unlearn", forget_set, "--steps", 3)
    (kept,) = place.training.iterdir()
    shutil.rmtree(kept)


def test_a_device_that_is_not_there_is_refused(place, robot_file, forget_set) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    for arguments in (("train", "--robot", robot_file), ("unlearn", forget_set)):
        found = invoke(place, *arguments, "--device", "cuda")
        assert found.exit_code == 2 and "finds no CUDA device" in found.stderr


def test_an_algorithm_is_chosen_by_name_or_by_its_settings(place, robot_file) -> None:
    assert "copti_dice" not in {m.algorithm for m in manifests(place)}
    result = train(place, robot_file, "hidden: 8\nbatch: 8\n", "--algorithm", "copti_dice")
    assert result.exit_code == 0, result.stderr
    assert "copti_dice" in {m.algorithm for m in manifests(place)}
    before = len(manifests(place))
    named = train(place, robot_file, "algorithm: copti_dice\nhidden: 8\nbatch: 9\n")
    assert named.exit_code == 0, named.stderr
    assert [m.algorithm for m in manifests(place)[before:]] == ["copti_dice"]


def manifests(place: Workspace) -> list[Any]:
    return [entry.manifest for entry in PolicyStore(place.store).list() if entry.manifest]


@pytest.mark.parametrize(
    ("arguments", "settings", "what"),
    [
        (["--algorithm", "ppo"], "{}", "unknown algorithm 'ppo' Known: bcq_lag"),
        (["--algorithm", "bcq_lag"], "algorithm: cpq", "algorithm = 'cpq'"),
        ([], "algorithm: copti_dice\nreach: 0.1", "reach = 0.1"),
    ],
)
def test_settings_of_another_algorithm_are_refused(place, robot_file, arguments, settings, what) -> None:
    result = train(place, robot_file, settings, *arguments)
    assert result.exit_code == 2 and what in " ".join(result.stderr.split()), result.stderr
