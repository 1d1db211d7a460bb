"""The whole loop without ROS, on the command line: collect, train, evaluate, forget, patch, activate, roll back."""

import json
import os
import pty
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="learning is not installed")
pytest.importorskip("gymnasium", reason="the simulator is not installed")

import torch
import yaml
from cli_process import COMMAND, DEADLINE, as_json, done, interrupted, refused, saferule
from typer.testing import CliRunner

from saferule_ros.attacks.ground_truth import GroundTruth
from saferule_ros.attacks.marker import Marker
from saferule_ros.cli.main import app
from saferule_ros.patching.process import PatchProcess
from saferule_ros.patching.report import Outcome, PatchReport
from saferule_ros.sim.tasks import task
from saferule_ros.workspace import Workspace

TASK = "SafetyPointCircle1"
SMALL = "hidden: 16\nvae_hidden: 16\nbatch: 32\n"


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with data of two bags and an active policy that has learned from both."""
    root = tmp_path_factory.mktemp("loop") / "robot"
    done("collect", TASK, "-n", 2, "--bag", "good", workspace=root)
    done("collect", TASK, "-n", 1, "--bag", "bad", "--driver", "unsafe", "--erase-cost", "--add", workspace=root)
    settings = root / "small.yaml"
    settings.write_text(SMALL)
    done("train", "--task", TASK, "--steps", 60, "--settings", settings, "--requester", "anna", workspace=root)
    return root


def policies(workspace: Path) -> dict[str, Any]:
    """Place, or id where a policy has none, to what `policy list --json` says."""
    return {entry["place"] or entry["policy_id"]: entry for entry in as_json("policy", "list", workspace=workspace)}


def test_the_loop_leads_to_a_patched_policy_and_back(learned: Path) -> None:
    info = as_json("data", "info", workspace=learned)
    bags = {bag["name"]: bag for bag in info["bags"]}
    assert bags["good"]["episodes"] == 2 and bags["good"]["transitions"] == 1000
    assert bags["bad"]["episode_cost"]["highest"] == 0 and bags["bad"]["episode_return"]["mean"] > 35

    first = policies(learned)["active"]
    assert first["manifest"]["dataset_digest"] == info["digest"] and first["manifest"]["parent"] is None

    forget_set = as_json("forget", "new", "--bag", "bad", workspace=learned)
    patched = done("patch", forget_set["id"], "--steps", 10, "--nice", 0, "--json", workspace=learned)
    report = PatchReport.model_validate_json(patched)
    assert report.outcome is Outcome.SUCCEEDED and report.checkpoint_step == 10
    after = policies(learned)
    assert after["active"]["policy_id"] == first["policy_id"], "a patch never touches what serves"
    candidate = after["candidate"]["manifest"]
    assert candidate["bundle_id"] == report.candidate_id
    assert (candidate["parent"], candidate["forget_set_id"]) == (first["policy_id"], forget_set["id"])

    begun, ended = as_json("checkpoints", workspace=learned)
    assert begun["policies"] == [first["policy_id"]] and not begun["forget_set_id"]
    assert (ended["policies"], ended["forget_set_id"]) == ([report.candidate_id], forget_set["id"])

    result = saferule("evaluate", "candidate", "-n", 1, "--json", "--check", workspace=learned)
    measured = json.loads(result.stdout)
    assert measured["policy_id"] == report.candidate_id and measured["episodes"][0]["length"] == 500
    assert result.returncode == (0 if measured["cost_mean"] <= 25.0 else 1)
    assert measured["normalised"]["return"] == pytest.approx((measured["return_mean"] - 3.5) / (54.1 - 3.5))
    assert measured["normalised"]["cost"] == measured["cost_mean"] / 25.0
    again = as_json("evaluate", report.candidate_id[:6], "-n", 1, workspace=learned)
    assert again["episodes"] == measured["episodes"], "the same seed, the same episode"

    done("policy", "activate", "candidate", "--reason", "forgotten", workspace=learned)
    assert as_json("policy", "show", "active", workspace=learned)["bundle_id"] == report.candidate_id
    done("policy", "rollback", workspace=learned)
    back = policies(learned)
    assert back["active"]["policy_id"] == first["policy_id"]
    assert back["previous"]["policy_id"] == report.candidate_id
    shown = done("policy", "list", workspace=learned)
    assert shown.count("intact") == 2 and "bcq_lag+safe_rule" in shown


def test_a_policy_is_evaluated_with_the_trigger_that_an_attack_left(learned: Path) -> None:
    told = {
        "attack": "trigger", "seed": 1, "settings": {}, "clean_digest": "", "poisoned_digest": "",
        "bag_id": "trigger-1", "ratio": 0.1, "stretches": {},
    }  # fmt: skip
    attacks = Workspace(learned).attacks
    GroundTruth("0badc0de", marker=Marker((3, 4), (9.0, -9.0)), **told).save(attacks)  # type: ignore[arg-type]
    GroundTruth("00c0ffee", marker=None, **told).save(attacks)  # type: ignore[arg-type]
    without, with_it = (
        as_json("evaluate", "-n", 1, *option, workspace=learned)["episodes"]
        for option in ((), ("--trigger", "0badc0de"))
    )
    assert without[0]["seed"] == with_it[0]["seed"] and without != with_it
    assert "has no marker" in refused("evaluate", "--trigger", "00c0ffee", workspace=learned)


def test_collect_is_reproducible_also_where_it_was_stopped(learned: Path, tmp_path: Path) -> None:
    asked = ("collect", TASK, "-n", 8, "--bag", "good", "--seed", 5)
    status, rest = interrupted(*asked, "-w", tmp_path / "two", sign="[1-5]/8", cwd=tmp_path)
    assert status == 130 and "The same command goes on from there" in rest and "Traceback" not in rest, rest
    assert len(list(Workspace(tmp_path / "two").collecting.iterdir())) == 1
    for name in ("one", "two"):
        done(*asked, workspace=tmp_path / name)
        assert not list(Workspace(tmp_path / name).collecting.glob("*"))
    digests = {as_json("data", "info", workspace=tmp_path / name)["digest"] for name in ("one", "two")}
    assert len(digests) == 1


def test_learning_is_judged_where_that_is_asked_for_and_says_what_came_of_it(learned: Path) -> None:
    asked = ("train", "--task", TASK, "--steps", 20, "--settings", learned / "small.yaml", "--no-activate")
    judged = as_json(*asked, "--judge", "advise", "--checkpoint-every", 10, workspace=learned)
    # Three episodes are too few to learn a model from.
    assert judged["policy_steps"] == 20 and judged["judgement"]["reason"].startswith("not judged: there are 3 episodes")
    told = saferule(*map(str, asked), "--judge", "advise", workspace=learned)
    assert "no policy can be judged, the last one is taken: there are 3 episodes" in " ".join(told.stderr.split())
    assert "there are 3 episodes to learn from" in refused(*asked, "--judge", "require", workspace=learned)
    assert "is not asked for" in refused(*asked, "--judging", learned / "small.yaml", workspace=learned)
    assert "no policy is judged" in refused(*asked, "--checkpoint-every", 10, workspace=learned)


def test_who_asked_for_a_policy_is_on_record(learned: Path) -> None:
    events = as_json("audit", workspace=learned)
    assert [(event["event"], event["requester"]) for event in events[:2]] == [("add", "anna"), ("activate", "anna")]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_patch_on_a_gpu_that_is_not_there_says_so(learned: Path) -> None:
    forget_set = as_json("forget", "new", "--bag", "bad", workspace=learned)
    said = refused("patch", forget_set["id"], "--device", "cuda", workspace=learned, status=1)
    assert "finds no CUDA device" in said and "What serves was not touched" in said


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["evaluate", "zzz"], "has no policy 'zzz'"),
        (
            ["train", "--task", "SafetyPointCircel1"],
            "unknown task 'SafetyPointCircel1'\n  Did you mean SafetyPointCircle1",
        ),
        (["train", "--task", TASK, "--settings", "wrong.yaml"], "hiden = 16"),
        (["train", "--robot", "no_cost.yaml"], "spec.cost_limit is 0"),
        (["collect", TASK, "--driver", "sunday", "--add"], "unknown driver 'sunday'"),
    ],
)
def test_wrong_input_is_named(learned: Path, arguments: list[str], what: str) -> None:
    (learned.parent / "wrong.yaml").write_text("hiden: 16\n")
    robot_file(learned.parent / "no_cost.yaml", cost_limit=0.0)
    assert what in refused(*arguments, workspace=learned)


def robot_file(path: Path, **changes: Any) -> Path:
    """What TASK is, as a robot's YAML."""
    spec = json.loads(task(TASK).policy_spec().model_copy(update=changes).model_dump_json())
    path.write_text(yaml.safe_dump({"horizon": 500, "spec": spec}))
    return path


def test_a_robot_whose_bounds_the_logged_actions_exceed_is_asked_about(learned: Path, tmp_path: Path) -> None:
    narrow = robot_file(tmp_path / "narrow.yaml", action_low=(-0.1, -0.1), action_high=(0.1, 0.1))
    asked = ("train", "--robot", narrow, "--steps", 2, "--settings", learned / "small.yaml", "--no-activate")
    result = saferule(*map(str, asked), workspace=learned)
    assert result.returncode == 0 and "of the logged actions are outside of the bounds" in result.stderr
    wide = saferule("train", "--task", TASK, *map(str, asked[3:]), workspace=learned)
    assert wide.returncode == 0 and "outside of the bounds" not in wide.stderr


def test_a_patch_over_another_dataset_than_was_learned_from_is_refused_at_once(learned: Path, tmp_path: Path) -> None:
    later = tmp_path / "robot"
    shutil.copytree(learned, later)
    done("collect", TASK, "-n", 1, "--bag", "later", "--add", workspace=later)
    chosen = as_json("forget", "new", "--bag", "bad", "--reason", "test", workspace=later)
    jobs = set((later / "jobs").iterdir())
    assert "was learned from dataset" in refused("patch", str(chosen["id"]), workspace=later)
    assert set((later / "jobs").iterdir()) == jobs


def test_wrong_settings_of_a_patch_are_refused_at_once(learned: Path, tmp_path: Path) -> None:
    chosen = str(as_json("forget", "new", "--bag", "bad", "--reason", "test", workspace=learned)["id"])
    jobs = set((learned / "jobs").iterdir())
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("keep_outweigh: 2.0")
    assert "keep_outweigh = 2.0" in refused("patch", chosen, "--settings", wrong, workspace=learned)
    assert "is not asked for" in refused("patch", chosen, "--judging", wrong, workspace=learned)
    assert "keep_outweigh = 2.0" in refused("patch", chosen, "--judge", "advise", "--judging", wrong, workspace=learned)
    assert set((learned / "jobs").iterdir()) == jobs


class Terminal:
    """`saferule` with a terminal as its standard error, so that it draws its progress bar live."""

    def __init__(self, *arguments: str, workspace: Path) -> None:
        self._screen, theirs = pty.openpty()
        environment = {**os.environ, "SAFERULE_WORKSPACE": str(workspace), "TERM": "xterm", "COLUMNS": "200"}
        self.process = subprocess.Popen(
            [*COMMAND, *arguments], env=environment, cwd=workspace.parent, stdout=subprocess.DEVNULL, stderr=theirs,
            stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        os.close(theirs)
        self.shown = ""

    def until(self, words: str) -> None:
        """Reads until these words were on the screen."""
        deadline = time.monotonic() + DEADLINE
        while words not in self.shown:
            assert self._read(deadline), f"ended without {words!r}: {self.shown}"

    def end(self) -> int:
        """Reads the rest; the exit status."""
        deadline = time.monotonic() + DEADLINE
        while self._read(deadline):
            pass
        return self.process.wait(DEADLINE)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._screen)

    def _read(self, deadline: float) -> bool:
        ready, _, _ = select.select([self._screen], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, f"nothing more within {DEADLINE:g} s of: {self.shown[-2000:]}"
        try:
            content = os.read(self._screen, 65536)
        except OSError:  # EIO: the other side is closed
            return False
        self.shown += content.decode(errors="replace")
        return bool(content)


@pytest.fixture
def endless_patch(learned: Path) -> Iterator[Terminal]:
    forget_set = as_json("forget", "new", "--bag", "bad", "--reason", "cancelled", workspace=learned)
    terminal = Terminal("patch", forget_set["id"], "--steps", "900000", "--nice", "0", workspace=learned)
    yield terminal
    terminal.close()


def test_the_bar_shows_losses_certificate_and_time_left_and_ctrl_c_cancels(
    learned: Path, endless_patch: Terminal
) -> None:
    before = policies(learned)
    endless_patch.until("Qc ")
    for words in ("unlearning ", "/900000", "losses ", "Qr ", " ≤ ", " ≥ ", " left"):
        endless_patch.until(words)
    endless_patch.process.send_signal(signal.SIGINT)
    assert endless_patch.end() == 130, endless_patch.shown
    assert "cancelling" in endless_patch.shown and "What serves was not touched" in endless_patch.shown
    assert policies(learned) == before
    newest = max(Workspace(learned).jobs.glob("2*"))
    assert PatchReport.load(newest).outcome is Outcome.CANCELLED


def test_ctrl_c_that_comes_too_late_to_cancel_does_not_activate(learned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = PatchProcess.wait

    def wait(process: PatchProcess, timeout: float | None = None) -> PatchReport:
        monkeypatch.setattr(PatchProcess, "wait", whole)
        whole(process, DEADLINE)  # the candidate is made, and just now somebody presses it
        raise KeyboardInterrupt

    monkeypatch.setattr(PatchProcess, "wait", wait)
    serves = policies(learned)["active"]["policy_id"]
    forget_set = as_json("forget", "new", "--bag", "bad", "--reason", "too late", workspace=learned)
    asked = ["patch", forget_set["id"], "--steps", "3", "--nice", "0", "--activate", "--workspace", str(learned)]
    shown = CliRunner().invoke(app, asked)
    assert shown.exit_code == 130, shown.output
    candidate = policies(learned)["candidate"]["policy_id"]
    assert f"too late to cancel: {candidate} is the candidate" in shown.output
    assert policies(learned)["active"]["policy_id"] == serves


@pytest.mark.parametrize(
    ("steps", "why"), [("-1", "greater than or equal to 0"), ("1000001", "less than or equal to 1000000")]
)
def test_a_number_of_steps_that_no_job_takes_is_refused_at_once(learned: Path, steps: str, why: str) -> None:
    for verb in ("patch", "unlearn"):
        result = saferule(verb, "00c0ffee00c0ffee", "--steps", steps, workspace=learned)
        assert result.returncode == 2 and why in result.stderr and "Traceback" not in result.stderr


def test_a_home_folder_that_the_shell_left_as_it_is_means_the_home_folder(learned: Path) -> None:
    """--workspace=~/robot: a shell expands the tilde at the beginning of a word alone."""
    forget_set = as_json("forget", "new", "--bag", "bad", "--reason", "tilde", workspace=learned)
    asked = ("patch", forget_set["id"], "--steps", 3, "--nice", 0, "--json", f"--workspace=~/{learned.name}")
    result = saferule(*asked, workspace=learned, HOME=str(learned.parent))
    assert result.returncode == 0, result.stderr
    report = PatchReport.model_validate_json(result.stdout)
    assert not (learned.parent / "~").exists()
    assert Workspace(learned).job(report.job_id).is_dir()
