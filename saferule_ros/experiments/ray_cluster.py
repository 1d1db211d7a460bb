"""Runs trials on a Ray cluster that exists already. Ray is optional: pip install 'saferule_ros[ray]'.

Every node needs this package in the same version, and the simulator. Where the nodes see the folder OUT (a shared file
system), trials go on from what is there and share their data; where they do not, each node begins anew, and what it
found still arrives here, as results travel back with the trial.
"""

import importlib.util
import socket
import time
from collections.abc import Sequence
from pathlib import Path

from saferule_ros.errors import SaferuleError
from saferule_ros.experiments.cancelling import TrialCancelled
from saferule_ros.experiments.places import TrialPlaces
from saferule_ros.experiments.runner import Count, Listen
from saferule_ros.experiments.settings import Trial
from saferule_ros.experiments.trial import run_trial
from saferule_ros.reporting.trials import TrialResult

# How long to wait for a trial to end before saying where all stands [s].
LOOK_EVERY = 1.0
# A task that was cancelled is interrupted at once; this long for the cluster to say so [s].
STOP_SECONDS = 10.0
# A cluster that is there answers within this [s].
KNOCK_SECONDS = 5.0


class RayMissing(SaferuleError):
    """Ray is not installed, or there is no cluster at that address."""


def run_on_ray(
    trials: Sequence[Trial], out: Path, address: str, workers: int = 1, listen: Listen = lambda _: None
) -> dict[str, str]:
    """As `run_trials`, on as many processors as the cluster has.

    Args:
        address: of the cluster, as `ray status` and ray.init know it: HOST:PORT, ray://HOST:PORT, or auto.

    Raises:
        RayMissing, TrialCancelled, OtherSettings.
    """
    if importlib.util.find_spec("ray") is None:
        raise RayMissing("Ray is not installed", "pip install 'saferule_ros[ray]', or leave --ray out")
    import ray

    count = Count.of(trials, out)
    try:
        _knock(address)
        ray.init(address=address, log_to_driver=False)
    except (OSError, ValueError) as error:  # ConnectionError, of which Ray raises its own kinds, is an OSError
        raise RayMissing(f"no Ray cluster at {address!r}: {error}", "Start one with `ray start --head`") from error
    remote = ray.remote(num_cpus=workers)(remote_trial)
    waiting = {
        remote.remote(trial.model_dump_json(), str(out.absolute()), workers): trial for trial in count.left
    }  # fmt: skip
    try:
        while waiting:
            listen(count.overall())
            ended, _ = ray.wait(list(waiting), timeout=LOOK_EVERY)
            for reference in ended:
                trial = waiting.pop(reference)
                try:
                    results = ray.get(reference)
                except ray.exceptions.RayError as error:  # what the task raised, or the node it ran on is gone
                    count.failed[trial.name] = str(error).strip().splitlines()[-1]
                    continue
                _keep(trial, out, results)
                count.done.add(trial.name)
        listen(count.overall())
    except KeyboardInterrupt:
        for reference in waiting:
            ray.cancel(reference)
        deadline = time.monotonic() + STOP_SECONDS
        while waiting and time.monotonic() < deadline:
            for reference in ray.wait(list(waiting), num_returns=len(waiting), timeout=LOOK_EVERY)[0]:
                waiting.pop(reference)
        raise TrialCancelled(
            f"cancelled with {len(count.done)} of {len(trials)} trials finished", "The same command goes on from there"
        ) from None
    finally:
        ray.shutdown()
    return count.failed


def remote_trial(trial: str, out: str, workers: int) -> list[str]:
    """On a node: one trial, from JSON to JSON, so that nothing but text has to fit on both sides."""
    results = run_trial(Trial.model_validate_json(trial), Path(out), lambda _: None, lambda: False, workers)
    return [result.model_dump_json() for result in results]


def _knock(address: str) -> None:
    """Raises OSError where nobody listens: ray.init would wait there for minutes. `auto` is left to Ray."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), KNOCK_SECONDS).close()


def _keep(trial: Trial, out: Path, results: list[str]) -> None:
    places = TrialPlaces(out, trial)
    for result in map(TrialResult.model_validate_json, results):
        path = places.result(result.method)
        if not path.exists():
            result.save(path)
