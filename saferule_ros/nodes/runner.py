"""Starts node processes, waits until they are ready, and ends them: what `ros2 launch` does, without `launch`.

    with Runner(log_folder=Path("/tmp/run")) as runner:
        runner.start("policy_server", params_file=params)
        runner.start("sim_bridge", params_file=params, parameters={"task": "SafetyPointCircle1"})
        runner.wait_ready(deadline=30.0)

Every process is ended on the way out, newest first: SIGINT, then SIGTERM, then SIGKILL.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Self

import yaml
from ament_index_python.packages import get_package_prefix

from saferule_ros.errors import SaferuleError
from saferule_ros.nodes.node_process import LOOK_EVERY, NodeProcess, RunnerError

PACKAGE = "saferule_ros"


class Runner:
    """A set of node processes with one life; use as a context manager.

    Args:
        log_folder: gets `<name>.log` and `<name>.params.yaml` of each process; made if missing.
        domain_id: ROS_DOMAIN_ID of all processes; None: inherited.
        environment: added to the processes' environment.
    """

    def __init__(
        self, log_folder: Path, domain_id: int | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        self._logs = log_folder
        self._logs.mkdir(parents=True, exist_ok=True)
        self._env = {**os.environ, **(environment or {})}
        # Nothing of ours leaves the machine unless the user asks for it.
        self._env.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
        if domain_id is not None:
            self._env["ROS_DOMAIN_ID"] = str(domain_id)
        self.processes: dict[str, NodeProcess] = {}

    def start(
        self,
        executable: str,
        *,
        name: str | None = None,
        params_file: Path | None = None,
        parameters: Mapping[str, Any] | None = None,
        remap: Mapping[str, str] | None = None,
        namespace: str = "",
    ) -> NodeProcess:
        """Starts an executable of this package. `parameters` win over `params_file`. Does not wait."""
        name = name or executable
        running = self.processes.get(name)
        if running is not None and running.returncode is None:
            raise RunnerError(f"{name} runs already (pid {running.pid})", "Give the second one another name")
        arguments = ["--ros-args", "-r", f"__node:={name}"]
        if namespace:
            arguments += ["-r", f"__ns:={namespace}"]
        for old, new in (remap or {}).items():
            arguments += ["-r", f"{old}:={new}"]
        if params_file is not None:
            arguments += ["--params-file", str(params_file)]
        if parameters:
            own = self._logs / f"{name}.params.yaml"
            own.write_text(yaml.safe_dump({"/**": {"ros__parameters": dict(parameters)}}))
            arguments += ["--params-file", str(own)]
        command = [sys.executable, str(find_executable(executable)), *arguments]
        process = NodeProcess(name, command, self._env, self._logs / f"{name}.log")
        self.processes[name] = process
        return process

    def wait_ready(self, deadline: float = 30.0) -> None:
        """Waits until all processes are ready, `deadline` [s] in all."""
        end = time.monotonic() + deadline
        for process in self.processes.values():
            process.wait_ready(max(0.0, end - time.monotonic()))

    def check_alive(self) -> None:
        """Raises RunnerError if a process has ended by itself."""
        for process in self.processes.values():
            if process.returncode is not None:
                raise RunnerError(
                    f"{process.name} ended with status {process.returncode}",
                    f"Its log, {process.log}, ends with:\n{process.log_tail()}",
                )

    def stop(self) -> dict[str, int]:
        """Ends all processes, newest first; returns their exit statuses."""
        statuses = {p.name: p.stop() for p in reversed(self.processes.values())}
        self.processes.clear()
        return statuses

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def find_executable(executable: str) -> Path:
    """Path of an installed executable of this package; RunnerError naming the known ones."""
    folder = Path(get_package_prefix(PACKAGE)) / "lib" / PACKAGE
    path = folder / executable
    if not path.is_file():
        known = ", ".join(sorted(p.name for p in folder.iterdir())) if folder.is_dir() else "none"
        raise RunnerError(f"No executable {executable!r} in {folder}", f"Built and installed are: {known}")
    return path


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m saferule_ros.nodes.runner --params FILE NODE...`: runs nodes until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(prog="saferule_ros.nodes.runner", description=main.__doc__)
    parser.add_argument("nodes", nargs="+", help="executables of this package, e.g. policy_server sim_bridge")
    parser.add_argument("--params", type=Path, help="ROS parameter file for all of them")
    parser.add_argument("--logs", type=Path, default=Path(tempfile.gettempdir()) / "saferule_ros_logs")
    parser.add_argument("--namespace", default="")
    parser.add_argument("--ready-within", type=float, default=60.0, help="seconds")
    options = parser.parse_args(arguments)
    stopped = False

    def stop(_number: int, _frame: FrameType | None) -> None:
        nonlocal stopped
        stopped = True

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    try:
        with Runner(options.logs) as runner:
            for executable in options.nodes:
                runner.start(executable, params_file=options.params, namespace=options.namespace)
            runner.wait_ready(options.ready_within)
            print(f"running: {', '.join(options.nodes)}; logs in {options.logs}; Ctrl-C ends them", flush=True)
            while not stopped:
                runner.check_alive()
                time.sleep(LOOK_EVERY)
    except SaferuleError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
