import json

import pytest
import torch
from learning_cases import SMALL, bandit, learner_for

from saferule_ros.learning.checkpoint import CheckpointError, copy_checkpoint, load_checkpoint, save_checkpoint


def steps(learner, dataset, count):
    replay = learner.replay(dataset)
    for _ in range(count):
        learner.update(replay.sample(learner.settings.batch, learner.generator), replay)
        learner.steps_done += 1


def parameters(learner):
    return torch.cat([p.detach().flatten() for network in learner.networks().values() for p in network.parameters()])


def test_resumed_learning_is_bit_equal_to_not_having_stopped(tmp_path):
    dataset = bandit(episodes=50)
    straight = learner_for(dataset)
    steps(straight, dataset, 12)
    stopped = learner_for(dataset)
    steps(stopped, dataset, 5)
    checkpoint = save_checkpoint(stopped, tmp_path, dataset.digest)
    resumed, digest = load_checkpoint(tmp_path / checkpoint)
    steps(resumed, dataset, 7)
    assert digest == dataset.digest
    assert torch.equal(parameters(resumed), parameters(straight))
    assert (resumed.state(), resumed.steps_done) == (straight.state(), straight.steps_done)


def test_checkpoint_id_follows_the_content(tmp_path):
    dataset = bandit(episodes=20)
    learner = learner_for(dataset)
    first = save_checkpoint(learner, tmp_path, dataset.digest)
    assert save_checkpoint(learner, tmp_path, dataset.digest) == first
    steps(learner, dataset, 1)
    assert save_checkpoint(learner, tmp_path, dataset.digest) != first
    assert len(list(tmp_path.iterdir())) == 2  # nothing half-written stays behind


def test_what_was_made_for_something_else_is_another_checkpoint(tmp_path):
    learner = learner_for(bandit(episodes=20))
    ids = {save_checkpoint(learner, tmp_path, "digest", made_for) for made_for in (None, {"seed": 1}, {"seed": 2})}
    assert len(ids) == 3
    assert all(torch.equal(parameters(load_checkpoint(tmp_path / one)[0]), parameters(learner)) for one in ids)


@pytest.mark.parametrize("damaged", ["tensors.safetensors", "checkpoint.json"])
@pytest.mark.parametrize("harm", [lambda path: path.unlink(), lambda path: path.write_bytes(b"{}")])
def test_a_damaged_checkpoint_is_mended_when_the_same_is_saved_again(tmp_path, damaged, harm):
    learner = learner_for(bandit(episodes=20))
    folder = tmp_path / save_checkpoint(learner, tmp_path, "digest")
    (folder / "origin.json").write_text("what lies beside it")
    harm(folder / damaged)
    with pytest.raises(CheckpointError):
        load_checkpoint(folder)
    assert tmp_path / save_checkpoint(learner, tmp_path, "digest") == folder
    assert torch.equal(parameters(load_checkpoint(folder)[0]), parameters(learner))
    assert (folder / "origin.json").read_text() == "what lies beside it"
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


def test_changed_tensors_are_refused(tmp_path):
    dataset = bandit(episodes=20)
    folder = tmp_path / save_checkpoint(learner_for(dataset), tmp_path, dataset.digest)
    content = bytearray((folder / "tensors.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "tensors.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match="SHA-256"):
        load_checkpoint(folder)


def test_missing_and_foreign_checkpoints_are_named(tmp_path):
    with pytest.raises(CheckpointError, match="nowhere"):
        load_checkpoint(tmp_path / "nowhere")
    dataset = bandit(episodes=20)
    folder = tmp_path / save_checkpoint(learner_for(dataset, SMALL), tmp_path, dataset.digest)
    description = json.loads((folder / "checkpoint.json").read_text())
    (folder / "checkpoint.json").write_text(json.dumps(description | {"algorithm": "dreamer"}))
    with pytest.raises(CheckpointError, match="dreamer"):
        load_checkpoint(folder)
    (folder / "checkpoint.json").write_text("{")
    with pytest.raises(CheckpointError, match="not JSON"):
        load_checkpoint(folder)


def test_a_changed_description_is_refused(tmp_path):
    dataset = bandit(episodes=20)
    folder = tmp_path / save_checkpoint(learner_for(dataset), tmp_path, dataset.digest)
    description = json.loads((folder / "checkpoint.json").read_text())
    description["limits"]["cost_limit"] *= 10
    (folder / "checkpoint.json").write_text(json.dumps(description, indent=1, sort_keys=True))
    with pytest.raises(CheckpointError, match="is not what the name of its folder says"):
        load_checkpoint(folder)


def test_a_copy_is_the_same_checkpoint(tmp_path):
    dataset = bandit(episodes=20)
    learner = learner_for(dataset)
    folder = tmp_path / "one" / save_checkpoint(learner, tmp_path / "one", dataset.digest)
    for _ in range(2):  # a second time changes nothing
        assert copy_checkpoint(folder, tmp_path / "other") == folder.name
    assert [path.name for path in (tmp_path / "other").iterdir()] == [folder.name]
    again, digest = load_checkpoint(tmp_path / "other" / folder.name)
    assert torch.equal(parameters(again), parameters(learner)) and digest == dataset.digest
