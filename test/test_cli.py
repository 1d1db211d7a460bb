"""The command line without data: help that teaches, quick start, wrong input named, exit status."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cli_process import COMMAND, as_json, done, refused, saferule
from dataset_samples import make_dataset, make_episode
from recording_samples import ObservationMessage, received, record, record_episodes, stream
from reporting_samples import make_results

from saferule_ros import __version__
from saferule_ros.attacks.registry import ATTACKS
from saferule_ros.cli.robot import RobotError, robot
from saferule_ros.errors import SettingsError
from saferule_ros.learning.algorithms import ALGORITHMS
from saferule_ros.policy.errors import SpecError
from saferule_ros.workspace import Workspace

VERBS = (
    ["collect"], ["safeguard", "check"], ["data", "ingest"], ["data", "info"], ["poison"], ["train"], ["evaluate"],
    ["forget", "new"], ["forget", "list"], ["forget", "show"], ["unlearn"], ["checkpoints"], ["export"], ["patch"],
    ["policy", "list"], ["policy", "show"], ["policy", "verify"], ["policy", "activate"], ["policy", "rollback"],
    ["policy", "export"], ["policy", "import"], ["policy", "prune"], ["policy", "replay"], ["keys", "new"],
    ["keys", "trust"], ["keys", "list"], ["audit"], ["compare"], ["grid"], ["demo"],
)  # fmt: skip


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    return tmp_path / "robot"


@pytest.fixture
def with_data(workspace: Path) -> Path:
    make_dataset().save(Workspace(workspace).create().dataset)
    return workspace


def test_help_lists_the_verbs_in_the_order_of_use_and_the_exit_status(workspace: Path) -> None:
    text = done("--help", workspace=workspace)
    firsts = list(dict.fromkeys(verb[0] for verb in VERBS))
    # Not the lines on which a verb's explanation goes on.
    lines = [line[2:].split(" ")[0] for line in text.splitlines() if line.startswith("│ ") and line[2] != " "]
    assert [word for word in lines if word in firsts] == firsts
    assert "Exit status: 0 done, 1 a check failed, 2 wrong input, 130 cancelled." in text
    assert "demo-results" not in text


def test_every_verb_has_help_that_teaches(workspace: Path) -> None:
    """In one process: what is looked at is text."""
    from typer.testing import CliRunner

    from saferule_ros.cli.main import app

    for verb in VERBS:
        shown = CliRunner().invoke(app, [*verb, "--help"], prog_name="saferule")
        assert shown.exit_code == 0, shown.output
        text = " ".join(shown.output.replace("│", " ").split())
        assert f"saferule {' '.join(verb)}" in text.partition("Example")[2], f"{verb} has no example"
        if verb[0] != "policy" or verb[1] == "verify":
            assert "rites" in text or verb[1:] in (["list"], ["show"]), f"{verb} does not say what it writes"


def test_what_may_be_asked_for_is_named_in_the_help(workspace: Path) -> None:
    for verb, names in (("compare", [*ATTACKS, *ALGORITHMS]), ("poison", ATTACKS), ("train", ALGORITHMS)):
        text = done(verb, "--help", workspace=workspace)
        assert not [name for name in names if name not in text], verb


def test_help_imports_nothing_heavy() -> None:
    """The reason why it answers in a fraction of a second."""
    code = (
        "import sys; from typer.testing import CliRunner; from saferule_ros.cli.main import app;"
        "assert CliRunner().invoke(app, ['patch', '--help']).exit_code == 0;"
        "print([m for m in ('torch', 'numpy', 'matplotlib', 'mujoco', 'onnxruntime', 'rclpy', 'yaml')"
        " if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_a_reader_that_has_read_enough_is_no_error(tmp_path: Path) -> None:
    """As in `saferule … | head`, where the reader goes between two of the verb's lines."""
    script = tmp_path / "speaks.py"
    script.write_text("""
import sys, typer
from saferule_ros.cli.teaching import TeachingGroup
app = typer.Typer(cls=TeachingGroup)
@app.callback()
def root(): pass
@app.command("data")
def speak():
    while True:
        sys.stdout.write("a line\\n")
app()
""")
    speaking = subprocess.Popen(
        [sys.executable, "-P", str(script), "data"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert speaking.stdout is not None and speaking.stderr is not None
    assert speaking.stdout.readline() == "a line\n"
    speaking.stdout.close()
    assert speaking.stderr.read() == ""
    speaking.wait()


def test_version_and_the_installed_script(workspace: Path) -> None:
    assert done("--version", workspace=workspace).strip() == f"saferule_ros {__version__}"
    script = Path(__file__).parent.parent / "scripts" / "saferule"
    assert os.access(script, os.X_OK)
    shown = subprocess.run([sys.executable, script, "--version"], capture_output=True, text=True, check=True)
    assert __version__ in shown.stdout


def test_an_unknown_verb_or_option_is_wrong_input(workspace: Path) -> None:
    for arguments in (["bake"], ["patch"], ["policy", "list", "--jsn"], ["collect", "SafetyPointCircle1", "-n", "0"]):
        result = saferule(*arguments, workspace=workspace)
        assert result.returncode == 2 and "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["data", "info"], "there is no dataset in"),
        (["data", "ingest"], "there is no bag in"),
        (["data", "ingest", "monday"], "there is no bag 'monday'"),
        (["policy", "list"], "there is no policy store in"),
        (["policy", "rollback"], "there is no policy store in"),
        (["evaluate"], "there is no policy store in"),
        (["forget", "new", "--bag", "x"], "there is no dataset in"),
        (["forget", "show", "00c0ffee"], "unknown forget set '00c0ffee'"),
        (["patch", "00c0ffee"], "unknown forget set '00c0ffee'"),
        (["demo-results", "no/such/folder"], "there are no results in 'no/such/folder'"),
        (["train"], "neither --task nor --robot was given"),
    ],
)
def test_what_is_missing_is_named_with_a_hint(workspace: Path, arguments: list[str], what: str) -> None:
    said = refused(*arguments, workspace=workspace)
    assert said.startswith(f"error: {what}")
    assert len(said.splitlines()) == 2, "one line that says what is wrong, one that says what to do"


def test_a_workspace_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    said = refused("collect", "SafetyPointCircle1", "-w", tmp_path / "file" / "robot", workspace=tmp_path / "robot")
    assert "file/robot" in said


def test_without_ros_the_demo_says_what_to_do(workspace: Path) -> None:
    code = "import sys; sys.modules['rclpy'] = None; from saferule_ros.cli.main import app; app(prog_name='saferule')"
    shown = subprocess.run(
        [sys.executable, "-P", "-c", code, "demo"], capture_output=True, text=True, check=False, cwd=workspace.parent
    )
    assert shown.returncode == 2 and "Traceback" not in shown.stderr
    assert "error: 'demo' needs rclpy, which is not installed" in shown.stderr
    assert "make demo" in shown.stderr


def test_a_defect_keeps_its_traceback(workspace: Path) -> None:
    code = "import sys; sys.modules['json'] = None; from saferule_ros.cli.main import app; app(prog_name='saferule')"
    shown = subprocess.run(
        [sys.executable, "-P", "-c", code, "policy", "list"], capture_output=True, text=True, check=False,
        cwd=workspace.parent,
    )  # fmt: skip
    assert shown.returncode == 1 and "Traceback" in shown.stderr


def test_ingest_makes_a_dataset_from_bags_of_the_workspace(workspace: Path) -> None:
    place = Workspace(workspace).create()
    episodes = [make_episode(number) for number in range(3)]
    record_episodes(place.bag("monday"), episodes[:2])
    record_episodes(place.bag("tuesday"), episodes[2:])
    report = as_json("data", "ingest", workspace=workspace)
    assert report["complete"] and report["episodes"] == 3
    assert [bag["bag_id"] for bag in report["bags"]] == ["monday", "tuesday"]
    info = as_json("data", "info", workspace=workspace)
    assert info["digest"] == report["dataset_digest"]
    assert [(bag["name"], bag["episodes"]) for bag in info["bags"]] == [("monday", 2), ("tuesday", 1)]
    kept = refused("data", "ingest", place.bag("tuesday"), workspace=workspace)
    assert "has episodes of monday that would be gone" in kept
    one = saferule("data", "ingest", place.bag("tuesday"), "--replace", workspace=workspace)
    assert one.returncode == 0 and "1 episodes" in one.stderr and "complete" in one.stderr
    moved = place.bag("tuesday").rename(place.bags / "archive")
    assert as_json("data", "ingest", moved, workspace=workspace)["bags"][0]["bag_id"] == "tuesday", "the same bag"


def test_ingest_of_a_bag_with_losses_is_partial_and_says_what_was_lost(workspace: Path) -> None:
    place = Workspace(workspace).create()
    whole = stream(make_episode(0))
    seen = [m for m in whole if not (isinstance(m, ObservationMessage) and m.step == 3)]
    record(place.bag("monday"), received(seen))
    record_episodes(place.bag("tuesday"), [make_episode(1)])
    result = saferule("data", "ingest", workspace=workspace)
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert "PARTIAL: " in result.stderr and "lost" in result.stderr
    assert as_json("data", "info", workspace=workspace)["whole"]["episodes"] == 2


def test_ingest_of_a_damaged_bag_names_the_file_and_takes_what_is_left(with_data: Path) -> None:
    place = Workspace(with_data)
    record_episodes(place.bag("monday"), [make_episode(0), make_episode(1)])
    last = sorted(place.bag("monday").glob("*.mcap"))[-1]
    last.write_bytes(last.read_bytes()[:100])
    result = saferule("data", "ingest", "--replace", workspace=with_data)
    assert result.returncode == 1 and last.name in result.stderr and "PARTIAL" in result.stderr
    assert as_json("data", "info", workspace=with_data)["whole"]["episodes"] == 1
    first = last.with_name("monday_0.mcap")
    first.write_bytes(b"")
    before = as_json("data", "info", workspace=with_data)
    assert first.name in refused("data", "ingest", workspace=with_data)
    assert as_json("data", "info", workspace=with_data) == before


def test_data_info_shows_bags_and_the_whole(with_data: Path) -> None:
    lines = done("data", "info", workspace=with_data).splitlines()
    rows = {line.split()[0]: line.split() for line in lines}
    assert rows["monday"][1:3] == ["3", "12"] and rows["tuesday"][1:3] == ["2", "13"]
    assert rows["all"][1:3] == ["5", "25"]


def test_forget_sets_are_made_listed_and_shown(with_data: Path) -> None:
    first = as_json(
        "forget", "new", "--bag", "tuesday", "--reason", "sensor", "--requester", "ada", workspace=with_data
    )
    assert (first["forget_episodes"], first["forget_transitions"]) == (2, 13)
    assert (first["keep_episodes"], first["keep_transitions"]) == (3, 12)
    second = done("forget", "new", "-e", "walk-000", "-e", "walk-001", workspace=with_data)
    assert "2 episodes, 7 transitions" in second
    third = as_json("forget", "new", "--steps", "walk-002:1-3", workspace=with_data)
    assert (third["forget_transitions"], third["keep_transitions"], third["keep_episodes"]) == (3, 22, 5)
    assert "walk-002, steps 1 to 3" in done("forget", "show", third["id"], workspace=with_data)
    listed = as_json("forget", "list", workspace=with_data)
    assert [entry["episode_ids"] for entry in listed] == [["walk-003", "walk-004"], ["walk-000", "walk-001"], []]
    assert listed[0]["requester"] == "ada" and listed[0]["reason"] == "sensor"
    assert as_json("forget", "show", first["id"], workspace=with_data) == listed[0]
    assert "walk-004" in done("forget", "show", first["id"], workspace=with_data)


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["--bag", "tusday"], "unknown bag 'tusday'\n  Did you mean 'tuesday'"),
        (["-e", "walk-9"], "unknown episode 'walk-9'"),
        ([], "the forget set is empty"),
        (["--steps", "walk-002:3-9"], "episode 'walk-002' has no steps 3 to 9"),
        (["--steps", "walk-002"], "'walk-002' is no range of steps"),
        (["-b", "monday", "-b", "tuesday"], "nothing would be left to keep: all 5 episodes"),
    ],
)
def test_a_forget_set_that_makes_no_sense_is_refused(with_data: Path, arguments: list[str], what: str) -> None:
    assert what in refused("forget", "new", *arguments, workspace=with_data)
    assert as_json("forget", "list", workspace=with_data) == []


def test_a_dataset_of_another_robot_is_refused_before_learning(with_data: Path) -> None:
    file = with_data / "robot.yaml"
    file.write_text(ROBOT)
    said = refused("train", "--robot", file, workspace=with_data)
    assert "has (observation, action) size (5, 2), arm has (7, 1)" in said


def test_collect_refuses_before_it_drives(with_data: Path) -> None:
    for arguments, what in (
        ([], "there is a dataset in"),
        (["--add", "--bag", "monday"], "has a bag 'monday' already"),
        (["--add", "--replace"], "both --add and --replace"),
        (["--bag", "../out"], "bag id '../out' cannot be a folder name"),
    ):
        assert what in refused("collect", "SafetyPointCircle1", *arguments, workspace=with_data)


def test_demo_results_writes_the_table(workspace: Path) -> None:
    for seed in (2, 1):
        make_results(seed).save(workspace / "runs" / f"seed-{seed}")
    out = workspace / "docs" / "demo.md"
    assert (
        "2 of 2 seeds passed" in saferule("demo-results", workspace / "runs", "--out", out, workspace=workspace).stderr
    )
    assert "| 2 | passed |" in out.read_text()


def test_demo_report_writes_the_page_of_a_run_again(workspace: Path) -> None:
    pytest.importorskip("matplotlib", reason="the report needs matplotlib")
    run = workspace / "seed-1"
    make_results(1, evaluations=[]).save(run)
    done("demo-report", run, "--out", workspace / "report", workspace=workspace)
    assert "SafetyPointCircle1-v0" in (workspace / "report" / "index.html").read_text()


ROBOT = """
horizon: 200
spec:
  observation_size: 7
  action_size: 1
  action_low: [-1.0]
  action_high: [2.0]
  control_rate: 20
  task: arm
  cost_limit: 3
"""


def test_a_robot_is_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "robot.yaml"
    file.write_text(ROBOT)
    spec, limits = robot("", file)
    assert (spec.observation_size, spec.action_high, limits.horizon, limits.cost_limit) == (7, (2.0,), 200, 3.0)
    with pytest.raises(RobotError, match="both --task and --robot"):
        robot("SafetyPointCircle1", file)
    file.write_text(ROBOT.replace("horizon: 200", "horizon: 0"))
    with pytest.raises(SettingsError, match="horizon = 0"):
        robot("", file)
    file.write_text(ROBOT.replace("[2.0]", "[-2.0]"))
    with pytest.raises(SpecError, match="low -1 >= high -2"):
        robot("", file)


def test_the_command_is_the_one_that_setup_installs() -> None:
    """console_scripts calls `saferule_ros.cli.main:app`; so does `python -m`, which these tests use."""
    assert "saferule = saferule_ros.cli.main:app" in (Path(__file__).parent.parent / "setup.py").read_text()
    assert COMMAND[-1] == "saferule_ros.cli"
