"""`saferule demo`: a policy is poisoned, patched while its robot runs, and judged; one command, real processes.

Exit status: 0 passed; 1 it ran, but something did not hold; 2 bad input; 3 it ended early; 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from ament_index_python.packages import get_package_share_directory

from saferule_ros.errors import SaferuleError
from saferule_ros.nodes.demo.domain import ClaimedDomain
from saferule_ros.nodes.demo.folder import RunFolder
from saferule_ros.nodes.demo.operator import Operator
from saferule_ros.nodes.demo.settings import LARGEST_SEED, DemoSettings
from saferule_ros.nodes.demo.show import Show
from saferule_ros.nodes.demo.stages import Demo
from saferule_ros.nodes.runner import PACKAGE
from saferule_ros.settings import load_settings

PASSED, NOT_PASSED, BAD_INPUT, ENDED_EARLY, INTERRUPTED = 0, 1, 2, 3, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the demo as the command line says; returns the exit status."""
    options = _parser().parse_args(arguments)
    show = Show()
    try:
        with _interruptible():
            return _main(options, show)
    except SaferuleError as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        return INTERRUPTED


def _main(options: argparse.Namespace, show: Show) -> int:
    if not 0 <= options.seed <= LARGEST_SEED:
        raise SaferuleError(f"seed {options.seed} is out of range", f"Choose one from 0 to {LARGEST_SEED}")
    settings = load_settings(DemoSettings, options.settings or default_settings())
    folder = RunFolder.make(options.out, options.seed)
    return run(settings, options.seed, folder, options.report, show)


@contextmanager
def _interruptible() -> Iterator[None]:
    """SIGINT and SIGTERM both raise KeyboardInterrupt in here.

    A shell starts background jobs with SIGINT ignored, and that is inherited: Ctrl-C must work there too.
    """
    before = {number: signal.signal(number, _interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run(settings: DemoSettings, seed: int, folder: RunFolder, report: Path, show: Show) -> int:
    """One run with everything that it leaves behind; returns the exit status."""
    _keep_to_ourselves(folder)
    demo: Demo | None = None
    status, error = PASSED, ""
    try:
        with ClaimedDomain() as domain, Operator(domain.number) as operator:
            demo = Demo(settings, seed, folder, operator, show, domain.number)
            demo.run()
    except SaferuleError as problem:
        status, error = ENDED_EARLY, str(problem)
    except KeyboardInterrupt:
        status, error = INTERRUPTED, "interrupted"
    if demo is None:
        print(f"error: {error}", file=sys.stderr)
        return status
    results = demo.results(error)
    results.save(folder.root)
    show.summary(results)
    if results.evaluations and status != INTERRUPTED:
        from saferule_ros.reporting.report import make_report  # brings torch with it: seconds no stage waits for

        show.say(f"report: {make_report(results, folder.workspace, report)}")
    show.say(f"everything else: {folder.root}")
    if status == PASSED and not results.passed:
        return NOT_PASSED
    return status


def default_settings() -> Path:
    """The installed config/demo.yaml."""
    return Path(get_package_share_directory(PACKAGE)) / "config" / "demo.yaml"


def _keep_to_ourselves(folder: RunFolder) -> None:
    """Nothing of this process and its children leaves the machine, or the run's folder."""
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    os.environ["ROS_LOG_DIR"] = str(folder.logs / "ros")


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="saferule demo", description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=1, help="of data, learning and episodes (default: 1)")
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), help="folder of the runs (default: runs/demo)")
    parser.add_argument("--report", type=Path, default=Path("report"), help="folder of the page (default: report)")
    parser.add_argument("--settings", type=Path, help="YAML file (default: config/demo.yaml)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
