"""The list of learners' checkpoints: what each is, and what was made of it."""

import shutil
from pathlib import Path

from patch_samples import make_workspace

from saferule_ros.patching.checkpoints import stored_checkpoints
from saferule_ros.patching.origin import Origin
from saferule_ros.workspace import Workspace


def test_each_checkpoint_tells_what_it_learned_from_and_forgot_and_which_policies_were_made_of_it(
    tmp_path: Path,
) -> None:
    manifest = make_workspace(tmp_path / "robot")
    workspace = Workspace(tmp_path / "robot")
    learned = workspace.checkpoint(manifest.checkpoint_id)
    patched, damaged = workspace.checkpoint("2" * 16), workspace.checkpoint("3" * 16)
    shutil.copytree(learned, patched)
    Origin(
        parent_checkpoint=learned.name, forget_set_id="f" * 16, method="safe_rule", settings={}, seed=1, steps=5,
        budget={},
    ).save(patched)  # fmt: skip
    shutil.copytree(learned, damaged)
    (damaged / "checkpoint.json").write_text('{"algorithm": "bcq_lag"')

    found = {one.id: one for one in stored_checkpoints(workspace)}
    assert found.keys() == {learned.name, patched.name, damaged.name}
    first = found[learned.name]
    assert (first.algorithm, first.dataset_digest) == ("bcq_lag", manifest.dataset_digest)
    assert (first.policies, first.forget_set_id, first.problem) == ((manifest.bundle_id,), "", "")
    assert first.size == sum(file.stat().st_size for file in learned.iterdir())
    assert (found[patched.name].forget_set_id, found[patched.name].policies) == ("f" * 16, ())
    assert found[damaged.name].problem.startswith("cannot be read") and not found[damaged.name].algorithm


def test_without_a_store_there_is_nothing_to_list(tmp_path: Path) -> None:
    assert stored_checkpoints(Workspace(tmp_path / "nothing")) == []
