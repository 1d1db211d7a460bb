"""A patch job in its own process: what it reports, how it is stopped, and what is left when it dies."""

import contextlib
import io
import json
import os
import select
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from policy_samples import add_onnx, scaled

from saferule_ros.patching.lock import lives
from saferule_ros.patching.process import LOG_FILE, JobError, PatchProcess, new_job_id
from saferule_ros.patching.progress import PatchProgress, Stage
from saferule_ros.patching.recovery import close_interrupted_jobs
from saferule_ros.patching.report import Outcome, PatchReport
from saferule_ros.patching.request import PatchRequest
from saferule_ros.patching.worker import Outlet
from saferule_ros.policy.store import PolicyStore
from saferule_ros.workspace import Workspace

WORKER = "patch_worker"
# Far above what a loaded machine needs; a test that reaches it has failed.
DEADLINE = 30.0


@pytest.fixture(autouse=True)
def worker_can_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    here = str(Path(__file__).parent)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([here, os.environ.get("PYTHONPATH", "")]))


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    return tmp_path / "robot"


def request(workspace: Path, behaviour: str, steps: int = 3, requester: str = "") -> PatchRequest:
    job_id = new_job_id("00c0ffee00c0ffee")
    return PatchRequest(
        job_id=job_id, workspace=workspace, forget_set_id="00c0ffee00c0ffee", steps=steps, nice=7,
        settings=Path(behaviour), requester=requester,
    )  # fmt: skip


@pytest.fixture
def start(workspace: Path) -> Iterator:
    running: list[PatchProcess] = []

    def starter(behaviour: str, steps: int = 3, requester: str = "") -> PatchProcess:
        running.append(PatchProcess.start(request(workspace, behaviour, steps, requester), WORKER))
        return running[-1]

    yield starter
    for process in running:
        with process:
            pass


def is_stored(report: PatchReport, process: PatchProcess) -> bool:
    # As text: unknown values are NaN, which equals nothing.
    return PatchReport.load(process.folder).model_dump_json() == report.model_dump_json()


def until_unlearning(process: PatchProcess) -> None:
    assert any(report.stage is Stage.UNLEARNING for report in process.progress())


def test_progress_arrives_in_order_and_the_report_is_stored(start, workspace: Path) -> None:
    process = start("plain", steps=5)
    reports = list(process.progress())
    report = process.wait(DEADLINE)
    assert [r.stage for r in reports] == [Stage.LOADING] + [Stage.UNLEARNING] * 5
    assert [r.step for r in reports] == [0, 1, 2, 3, 4, 5]
    assert report.success and is_stored(report, process)
    history = (process.folder / "progress.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in history] == [0, 1, 2, 3, 4, 5]
    asked = PatchRequest.model_validate_json((process.folder / "request.json").read_bytes())
    assert asked == process.request


def test_worker_is_niced_limited_in_threads_and_another_process(start) -> None:
    process = start("plain")
    list(process.progress())
    facts = process.wait(DEADLINE).digests
    assert int(facts["nice"]) == min(19, os.nice(0) + 7)
    assert facts["threads"] == "1"
    assert int(facts["pid"]) == process.pid != os.getpid()


def test_the_side_that_starts_a_job_never_imports_torch() -> None:
    modules = "saferule_ros.patching.process, saferule_ros.patching.worker, saferule_ros.patching.forget"
    code = f"import sys, {modules}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_the_job_prints_goes_to_the_log_and_not_among_the_reports(start) -> None:
    process = start("noisy")
    assert len(list(process.progress())) == 4
    assert process.wait(DEADLINE).success
    log = (process.folder / LOG_FILE).read_text()
    assert "a library prints this" in log and "and C code that" in log
    assert "unreadable" not in log


def test_cancel_ends_the_job_with_a_report(start) -> None:
    process = start("endless")
    until_unlearning(process)
    process.cancel()
    report = process.wait(DEADLINE)
    assert report.outcome is Outcome.CANCELLED and "cancelled at step" in report.message
    assert is_stored(report, process)


def test_cancel_before_the_worker_is_up_is_reported_as_cancelled(start) -> None:
    process = start("endless")
    process.cancel()
    assert process.wait(DEADLINE).outcome is Outcome.CANCELLED


def test_a_worker_that_does_not_listen_is_killed(start) -> None:
    process = start("deaf")
    until_unlearning(process)
    report = process.stop(seconds=0.2)
    assert not process.running
    assert report.outcome is Outcome.CANCELLED and is_stored(report, process)


def test_a_killed_worker_leaves_a_report_that_says_so(start) -> None:
    process = start("endless")
    until_unlearning(process)
    os.kill(process.pid, signal.SIGKILL)
    report = process.wait(DEADLINE)
    assert report.outcome is Outcome.FAILED
    assert "SIGKILL" in report.message and str(process.folder) in report.message
    assert is_stored(report, process)


@pytest.fixture
def bundles(workspace: Path, tmp_path: Path) -> list[str]:
    """Two in the workspace's store; the first is the candidate of before."""
    store = PolicyStore(workspace / "store").create()
    ids = [add_onnx(store, scaled(factor), tmp_path, factor).bundle_id for factor in (0.1, 0.2)]
    store.set_candidate(ids[0])
    return ids


@pytest.mark.parametrize("found_by", ["its parent", "the next start"])
@pytest.mark.parametrize("cancelled", [False, True])
def test_a_job_that_was_killed_after_it_had_made_its_candidate_says_so(
    start, workspace: Path, bundles: list[str], found_by: str, cancelled: bool
) -> None:
    process = start("proposed", requester=bundles[1])
    list(process.progress())
    if cancelled:
        process.cancel()
    report = process.wait(DEADLINE)
    if found_by == "the next start":  # the parent died with it
        (process.folder / "report.json").unlink()
        assert close_interrupted_jobs(Workspace(workspace)) == [process.folder.name]
        report = PatchReport.load(process.folder)
    assert report.outcome is Outcome.SUCCEEDED and report.candidate_id == bundles[1]
    assert f"candidate {bundles[1]}" in report.message and "before it could report" in report.message


def test_a_disk_that_is_full_after_the_candidate_was_made_hides_it_from_nobody(start, bundles: list[str]) -> None:
    process = start("proposed, then full", requester=bundles[1])
    list(process.progress())
    report = process.wait(DEADLINE)
    assert report.outcome is Outcome.SUCCEEDED and report.candidate_id == bundles[1]
    assert "No space left on device" in report.message and is_stored(report, process)


def test_progress_that_a_full_disk_does_not_hold_ends_no_job(capsys: pytest.CaptureFixture[str]) -> None:
    heard = io.StringIO()
    with open("/dev/full", "w") as full:
        outlet = Outlet(heard, full, threading.Event())
        outlet(PatchProgress(stage=Stage.UNLEARNING, step=1, steps=2))
        with contextlib.suppress(OSError):  # what is buffered is tried again where it is closed
            full.close()
    assert '"step":1' in heard.getvalue() and "No space left on device" in capsys.readouterr().err


@pytest.mark.parametrize("behaviour", ["proposing", "refused", "full"])
def test_a_job_without_a_candidate_names_the_one_of_before(
    start, workspace: Path, bundles: list[str], behaviour: str
) -> None:
    process = start(behaviour, requester=bundles[1])
    list(process.progress())
    report = process.wait(DEADLINE)
    assert report.outcome is Outcome.FAILED and not report.candidate_id
    assert f"The candidate is still {bundles[0]}, of before" in report.message
    (process.folder / "report.json").unlink()
    close_interrupted_jobs(Workspace(workspace))
    assert f"The candidate is still {bundles[0]}, of before" in PatchReport.load(process.folder).message


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [
        ("refused", "no policy is active in 'x'. Activate one first"),
        ("full", "the disk refuses: No space left on device. Look for room"),
        ("broken", "ZeroDivisionError: a defect"),
    ],
)
def test_a_job_that_fails_says_why_in_report_and_log(start, behaviour: str, message: str) -> None:
    process = start(behaviour)
    list(process.progress())
    report = process.wait(DEADLINE)
    assert report.outcome is Outcome.FAILED and message in report.message
    assert "Traceback" in (process.folder / LOG_FILE).read_text()


def test_a_second_job_in_the_same_workspace_is_refused_and_names_the_first(start) -> None:
    first = start("endless")
    until_unlearning(first)
    second = start("plain")
    report = second.wait(DEADLINE)
    assert report.outcome is Outcome.FAILED and first.request.job_id in report.message
    assert first.running
    first.stop()
    third = start("plain")
    assert third.wait(DEADLINE).success


def test_an_unreadable_request_ends_in_a_report_that_shows_the_log(start) -> None:
    process = start("endless")
    process.stop()
    (process.folder / "request.json").write_text("{}")
    (process.folder / "report.json").unlink()
    again = subprocess.run(
        [sys.executable, "-P", "-m", WORKER, str(process.folder)], check=False, capture_output=True, text=True
    )
    assert again.returncode == 3
    assert str(process.folder) in again.stderr and "Field required" in again.stderr


def test_only_jobs_that_nobody_works_on_any_more_are_closed_at_a_start(start, workspace: Path) -> None:
    alive = start("deaf")
    killed = workspace / "jobs" / "before-the-power-cut"
    killed.mkdir()
    (killed / "request.json").write_text("{}")
    unreadable = workspace / "jobs" / "of-somebody-else"
    (unreadable / "request.json").mkdir(parents=True)  # is_file() says no
    assert close_interrupted_jobs(Workspace(workspace)) == [killed.name]
    assert PatchReport.load(killed).outcome is Outcome.FAILED and not (alive.folder / "report.json").exists()
    assert lives(alive.folder)
    alive.kill()
    alive.wait(DEADLINE)
    assert not lives(alive.folder)


def test_a_job_whose_report_cannot_be_written_keeps_nobody_from_starting(
    workspace: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("first", "second"):
        (workspace / "jobs" / name).mkdir(parents=True)
        (workspace / "jobs" / name / "request.json").write_text("{}")
    (workspace / "jobs" / "first" / ".alive").mkdir()  # cannot be opened, by nobody
    assert close_interrupted_jobs(Workspace(workspace)) == ["second"]
    assert "first was interrupted, and its report cannot be written" in caplog.text


def test_a_job_id_is_used_once(workspace: Path) -> None:
    asked = request(workspace, "plain")
    with PatchProcess.start(asked, WORKER), pytest.raises(JobError, match=asked.job_id):
        PatchProcess.start(asked, WORKER)


def test_worker_ends_when_its_parent_is_killed(workspace: Path) -> None:
    """The parent is a process of its own here; nothing of it survives to tell the worker."""
    asked = request(workspace, "silent").model_dump_json()
    code = f"""
        from saferule_ros.patching.process import PatchProcess
        from saferule_ros.patching.request import PatchRequest
        process = PatchProcess.start(PatchRequest.model_validate_json({asked!r}), {WORKER!r})
        reports = process.progress()
        next(reports), next(reports)
        print(process.pid, flush=True)
        list(reports)
    """
    parent = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    worker = os.pidfd_open(int(parent.stdout.readline()))
    try:
        parent.kill()
        parent.wait(DEADLINE)
        poll = select.poll()
        poll.register(worker, select.POLLIN)
        assert poll.poll(DEADLINE * 1000), "the worker outlived its parent"
    finally:
        os.close(worker)
        parent.stdout.close()
    job = PatchRequest.model_validate_json(asked)
    assert PatchReport.load(workspace / "jobs" / job.job_id).outcome is Outcome.CANCELLED
