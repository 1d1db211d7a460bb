"""Names that come in from outside stay inside the workspace."""

import pytest

from saferule_ros.workspace import Workspace, WorkspaceError


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../store", "a/b", "/etc", "a b", "-rf", ".hidden", "ä", "x" * 129, "a\n"]
)
def test_names_that_could_lead_out_are_refused(tmp_path, name):
    for path in (Workspace(tmp_path).bag, Workspace(tmp_path).checkpoint, Workspace(tmp_path).job):
        with pytest.raises(WorkspaceError, match="cannot be a folder name"):
            path(name)


def test_folders_lie_where_they_are_said_to_lie(tmp_path):
    workspace = Workspace(tmp_path / "robot").create()
    assert workspace.bag("2026-11-21_run.1") == tmp_path / "robot" / "bags" / "2026-11-21_run.1"
    assert sorted(path.name for path in workspace.root.iterdir()) == [
        "bags",
        "checkpoints",
        "forget_sets",
        "jobs",
    ]
    assert workspace.create() == workspace


def test_a_workspace_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkspaceError, match="file/robot' cannot be made"):
        Workspace(tmp_path / "file" / "robot").create()
