"""Runs the gate in a niced process of its own: what a bad file does to it does not reach the one that serves."""

import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pydantic

import saferule_ros
from saferule_ros.policy.errors import StoreError
from saferule_ros.policy.gate import PASSED, REFUSED, STDIN, WRONG, GateCheck, GateReport
from saferule_ros.policy.refusals import GateProcessError
from saferule_ros.policy.spec import PolicySpec

# The gate takes about a second; on a robot that is busy learning, a niced one takes some. Longer is a hang.
GATE_TIMEOUT = 120.0  # [s]
GATE_NICE = 10
# Address space of the gate's process [MiB]: it takes about 300 with its libraries and a small policy, and some times
# the size of a large one, at most 64. A policy that asks for much more (a few bytes of ONNX can) is refused, and does
# not push the robot's other processes out of memory.
GATE_MEMORY = 2048
# How often it is looked whether the verdict is wanted still [s].
WANTED_POLL = 0.1


def run_gate_process(
    store_root: Path | str,
    bundle_id: str,
    spec: PolicySpec | None,
    deadline_s: float,
    nice: int = GATE_NICE,
    timeout_s: float = GATE_TIMEOUT,
    keys: Path | None = None,
    wanted: Callable[[], None] = lambda: None,
) -> GateReport:
    """Like gate.run_gate, in a niced child. Blocks: call it from a thread that has the time.

    A child that crashes or does not end in time is a refusal, by a check named "process". `wanted` is called now and
    then; what it raises ends the child, and is raised here.

    Raises:
        StoreError: no such store or bundle, or the gate could not run; the child's own words.
        OSError: it cannot be started.
    """
    command = [
        sys.executable, "-P", "-m", "saferule_ros.policy.gate", str(Path(store_root).absolute()), bundle_id,
        "--deadline", repr(deadline_s), "--nice", str(nice), "--memory", str(GATE_MEMORY),
        "--cpu-seconds", str(math.ceil(timeout_s)),
    ]  # fmt: skip
    if keys is not None:
        command += ["--keys", str(keys.absolute())]
    if spec is not None:
        command += ["--contract", STDIN]  # a long vector with names and units is too much for an argument
    # The child imports this very package, not one that happens to lie in the current folder (-P).
    package = str(Path(saferule_ros.__file__).parent.parent)
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    start = time.perf_counter()
    try:
        done = _run(command, environment, spec.model_dump_json() if spec is not None else "", timeout_s, wanted)
    except subprocess.TimeoutExpired:
        return _broken(bundle_id, f"did not end in {timeout_s:g} s", start)
    if done.returncode in (PASSED, REFUSED):
        try:
            return GateReport.model_validate_json(done.stdout)
        except pydantic.ValidationError:
            return _broken(bundle_id, f"gave no report but {done.stdout!r:.200}", start)
    if done.returncode == WRONG:
        raise StoreError(f"the gate cannot judge policy {bundle_id}: {done.stderr.strip()[-1000:]}")
    return _broken(bundle_id, f"ended with status {done.returncode}: {done.stderr.strip()[-1000:]}", start)


def _run(
    command: list[str], environment: dict[str, str], given: str, timeout_s: float, wanted: Callable[[], None]
) -> subprocess.CompletedProcess[str]:
    """As subprocess.run, and ends the child where it is not wanted any more.

    Raises:
        subprocess.TimeoutExpired: it did not end in time.
    """
    end, pipe = time.monotonic() + timeout_s, subprocess.PIPE
    # Its input is a file: what did not fit into a pipe would be lost when communicate() is called a second time.
    with (
        _file_of(given) as file,
        subprocess.Popen(command, env=environment, stdin=file, stdout=pipe, stderr=pipe, text=True) as child,
    ):
        try:
            while True:
                wanted()
                left = end - time.monotonic()
                try:
                    output, errors = child.communicate(timeout=min(max(left, 0.0), WANTED_POLL))
                except subprocess.TimeoutExpired:
                    if left <= WANTED_POLL:
                        raise
                else:
                    return subprocess.CompletedProcess(command, child.returncode, output, errors)
        finally:
            child.kill()  # does nothing to one that has ended


def _file_of(text: str) -> IO[bytes]:
    """An open file without a name, to be read from its beginning."""
    file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by whom it is given to
    file.write(text.encode())
    file.seek(0)
    return file


def _broken(bundle_id: str, what: str, start: float) -> GateReport:
    value, limit = f"the gate's process {what}", GateProcessError.rule
    check = GateCheck(name=GateProcessError.invariant, passed=False, value=value, limit=limit)
    return GateReport(bundle_id=bundle_id, passed=False, checks=(check,), seconds=time.perf_counter() - start)
