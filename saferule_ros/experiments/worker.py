"""A process of its own that does one trial: `python -m saferule_ros.experiments.worker`.

Reads one line of JSON, its order, on standard input; says where it stands on standard output, a line of JSON each;
logs to standard error. SIGTERM, or the end of the process that started it, stops it: what it had finished stays.

Exit status: 0 all results are there, 1 it failed (the last line says why), 2 it was stopped.
"""

import os
import signal
import sys
import threading
import traceback
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from saferule_ros.errors import SaferuleError
from saferule_ros.experiments.cancelling import TrialCancelled
from saferule_ros.experiments.saying import TrialProgress
from saferule_ros.experiments.settings import Trial
from saferule_ros.experiments.trial import run_trial
from saferule_ros.patching.worker import stop_with_parent, take_standard_output

FINISHED, FAILED, STOPPED = 0, 1, 2


class Order(BaseModel):
    """What a worker is to do."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    trial: Trial
    out: Path
    workers: int = 1


class Said(BaseModel):
    """One line of what it says: where it stands, or why it failed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    progress: TrialProgress | None = None
    error: str = ""


def main() -> int:
    """See the module."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    order = Order.model_validate_json(sys.stdin.readline())
    outlet = take_standard_output()
    threading.Thread(target=stop_with_parent, args=(stop,), daemon=True).start()

    def say(said: Said) -> None:
        try:
            outlet.write(said.model_dump_json() + "\n")
            outlet.flush()
        except BrokenPipeError:
            stop.set()  # nobody listens any more: the parent is gone

    try:
        run_trial(order.trial, order.out, lambda at: say(Said(progress=at)), stop.is_set, order.workers)
    except TrialCancelled as error:
        print(error, file=sys.stderr)
        return STOPPED
    except SaferuleError as error:
        traceback.print_exc()
        say(Said(error=str(error)))
        return FAILED
    except Exception as error:  # noqa: BLE001 - the last line of defence: the other trials go on, and this one says why
        traceback.print_exc()
        say(Said(error=f"defect: {type(error).__name__}: {error}"))
        return FAILED
    return FINISHED


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # taking the interpreter apart with torch in it takes a second
