"""Every test run gets a corner of DDS of its own, and the package as colcon installed it."""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

ROOT = Path(__file__).resolve().parent.parent
# Domains above 101 can meet the ports that Linux hands out to others; 0 is everybody's default.
DOMAINS = range(60, 100)

_claims: list[IO[str]] = []  # open files: a claim lasts as long as the process, however it ends


def claim_domain() -> int:
    """A ROS domain that no other test run on this machine has.

    Raises:
        RuntimeError: all are taken.
    """
    folder = Path(tempfile.gettempdir()) / f"saferule_ros_domains_{os.getuid()}"
    folder.mkdir(exist_ok=True)
    for domain in DOMAINS:
        file = (folder / str(domain)).open("w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            continue
        _claims.append(file)
        return domain
    raise RuntimeError(f"{len(DOMAINS)} test runs at once? All ROS domains of {folder} are claimed.")


def prefer_installed_package() -> None:
    """Takes the repository off sys.path, where `python -m pytest` puts it.

    The folder saferule_ros/ there lacks the messages that colcon generated into the installed package.
    """
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT]


# At import, not in a hook: test modules create nodes and start processes as they like, after this.
# Set even where the shell has other values: those may be a robot's, and tests send actions.
# The processes that a test starts inherit its domain; those that run tests side by side (pytest-xdist) each take one.
_WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")
if os.environ.get("SAFERULE_TEST_WORKER") != _WORKER:
    os.environ["SAFERULE_TEST_WORKER"] = _WORKER
    os.environ["SAFERULE_TEST_DOMAIN"] = str(claim_domain())
os.environ["ROS_DOMAIN_ID"] = os.environ["SAFERULE_TEST_DOMAIN"]
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
prefer_installed_package()
sys.path.append(str(ROOT / "tools"))  # the set-up step lives outside the package


def pytest_report_header(config: pytest.Config) -> list[str]:
    import saferule_ros

    return [
        f"saferule_ros: {Path(saferule_ros.__file__).parent}",
        f"ROS domain {os.environ['ROS_DOMAIN_ID']}, discovery {os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE']}",
    ]


def pytest_sessionstart(session: pytest.Session) -> None:
    """Lets tests send SIGINT to the processes they start, also where this run is a shell's background job.

    A shell starts those with SIGINT ignored, and every child process would inherit that.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="module")
def quick_classifiers() -> Iterator[None]:
    """What tells forget data from keep data is learned in a few steps: half a second less for each patch in tests of
    something else. How well it tells them is shown by tests of its own."""
    from saferule_ros.unlearning import forget_weights

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forget_weights, "STEPS", 10)
        yield


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Of tests that failed and passed when tried again, pytest-rerunfailures tells the names; this tells why."""
    for report in terminalreporter.stats.get("rerun", []):
        terminalreporter.section(f"why {report.nodeid} was tried again", sep="-")
        terminalreporter.write_line(report.longreprtext)
        for name, text in report.sections:
            terminalreporter.write_line(f"--- {name}\n{text}")
