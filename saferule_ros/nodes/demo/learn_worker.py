"""A process of its own that makes one workspace ready: bags to dataset, dataset to an active policy.

`python -m saferule_ros.nodes.demo.learn_worker REQUEST.json`: prints its progress on stdout, one line of JSON each,
and ends with a line that has either `policy_id` or `error`.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from saferule_ros.errors import SaferuleError
from saferule_ros.learning.trainer import TrainProgress, limit_threads
from saferule_ros.nodes.demo.learn_request import LearnProgress, LearnRequest
from saferule_ros.patching.learn import learn_policy
from saferule_ros.recording.ingest import ingest
from saferule_ros.workspace import Workspace


def work(request: LearnRequest) -> LearnProgress:
    """Does it; returns the last line.

    Raises:
        SaferuleError: from ingest or learning. BagError where a bag is not whole: then data is missing.
    """
    limit_threads(1)  # small networks gain nothing from more, and two of these run side by side
    began = time.monotonic()
    workspace = Workspace(request.workspace).create()
    _say(LearnProgress(stage="ingest", total=len(request.bags)))

    def read(done: float, total: int, _bag: str) -> None:
        _say(LearnProgress(stage="ingest", done=int(done), total=total))

    report = ingest(request.bags, workspace.dataset, read)
    if not report.complete:
        raise SaferuleError(f"the bags are not whole: {json.dumps(report.to_dict(), default=str)}")
    ingested = time.monotonic()

    def learned(at: TrainProgress) -> None:
        _say(LearnProgress(
            stage="learn", done=at.step, total=at.steps, time_left=at.time_left, loss_actor=at.losses["loss_actor"]
        ))  # fmt: skip

    manifest = learn_policy(
        workspace, request.spec, request.limits, request.learner, request.steps, request.seed, learned
    ).manifest
    return LearnProgress(
        stage="done", done=1, policy_id=manifest.bundle_id, dataset_digest=report.dataset_digest,
        seconds={"ingest": ingested - began, "learn": time.monotonic() - ingested},
    )  # fmt: skip


def _say(progress: LearnProgress) -> None:
    print(progress.model_dump_json(), flush=True)


def main(arguments: list[str] | None = None) -> int:
    """See the module. Exit status 0, or 1 where the last line has an error."""
    path = Path((sys.argv[1:] if arguments is None else arguments)[0])
    try:
        last = work(LearnRequest.model_validate_json(path.read_bytes()))
    except SaferuleError as error:
        last = LearnProgress(stage="done", error=str(error))
    _say(last)
    return 1 if last.error else 0


if __name__ == "__main__":
    sys.exit(main())
