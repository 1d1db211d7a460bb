"""Runs trials side by side, each in a process of its own, and keeps count."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from saferule_ros.experiments.cancelling import TrialCancelled
from saferule_ros.experiments.process import TrialProcess
from saferule_ros.experiments.settings import Trial
from saferule_ros.experiments.trial import finished

# How often the processes are looked at [s].
LOOK_EVERY = 0.2


@dataclass(frozen=True)
class Overall:
    """Where all trials stand together."""

    finished: int  # trials, those of earlier calls included
    trials: int
    steps: int  # gradient steps behind it
    all_steps: int
    time_left: float  # estimate [s], from the steps taken in this call; negative: not known yet
    words: tuple[str, ...]  # what each running trial is at


Listen = Callable[[Overall], None]


@dataclass
class Count:
    """Adds up trials; the same for every way of running them."""

    trials: Sequence[Trial]
    done: set[str]
    failed: dict[str, str] = field(default_factory=dict)  # to why
    began: float = field(default_factory=time.monotonic)

    @classmethod
    def of(cls, trials: Sequence[Trial], out: Path) -> "Count":
        """Raises OtherSettings where results were made with other settings."""
        return cls(trials, {trial.name for trial in trials if finished(trial, out)})

    def __post_init__(self) -> None:
        self._earlier = sum(trial.steps for trial in self.trials if trial.name in self.done)

    @property
    def left(self) -> list[Trial]:
        """Trials that are not finished."""
        return [trial for trial in self.trials if trial.name not in self.done]

    def overall(self, running: Sequence[TrialProcess] = ()) -> Overall:
        """Where all stands."""
        whole = sum(trial.steps for trial in self.trials if trial.name not in self.failed)
        over = sum(trial.steps for trial in self.trials if trial.name in self.done)
        under_way = sum(process.latest.done for process in running)
        fresh = over - self._earlier + under_way - sum(process.latest.skipped for process in running)
        elapsed = time.monotonic() - self.began
        time_left = elapsed / fresh * (whole - over - under_way) if fresh > 0 else -1.0
        words = tuple(f"{process.trial.name}: {process.latest.words}" for process in running)
        return Overall(len(self.done), len(self.trials), over + under_way, whole, time_left, words)


def run_trials(
    trials: Sequence[Trial], out: Path, processes: int, workers: int = 1, listen: Listen = lambda _: None
) -> dict[str, str]:
    """Makes all results that are not there yet.

    Args:
        out: folder of the comparison.
        processes: trials at a time.
        workers: simulator processes of each evaluation.
        listen: called some times a second.

    Returns:
        What failed: name of the trial to why. The others were finished.

    Raises:
        TrialCancelled: Ctrl-C; what was finished is on disk, and the same call goes on.
        OtherSettings: something is there that was made with other settings; nothing was started.
    """
    count = Count.of(trials, out)
    waiting, running = count.left, list[TrialProcess]()
    try:
        while waiting or running:
            while waiting and len(running) < processes:
                running.append(TrialProcess(waiting.pop(0), out, workers))
            listen(count.overall(running))
            time.sleep(LOOK_EVERY)
            for process in [process for process in running if not process.running]:
                running.remove(process)
                process.wait()
                why = process.failure()
                if why:
                    count.failed[process.trial.name] = why
                else:
                    count.done.add(process.trial.name)
        listen(count.overall())
    except KeyboardInterrupt:
        raise TrialCancelled(
            f"cancelled with {len(count.done)} of {len(trials)} trials finished", "The same command goes on from there"
        ) from None
    finally:
        for process in running:
            process.stop()
        for process in running:
            process.wait()
    return count.failed
