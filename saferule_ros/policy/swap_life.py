"""The life of a swap: in which state it is, and what may happen in which. The table is all there is to it.

docs/swap.md is drawn from this table: `python -m saferule_ros.policy.swap_life > docs/swap.md`.
"""

import threading
from enum import StrEnum
from typing import NamedTuple

from saferule_ros.policy.errors import PolicyError


class State(StrEnum):
    """What is going on beside serving, which never stops for it."""

    STEADY = "steady"
    VERIFYING = "verifying"
    LOADING = "loading"
    SHADOWING = "shadowing"
    CANCELLING = "cancelling"
    ACTIVATING = "activating"
    PROBATION = "probation"
    REVERTING = "reverting"
    ROLLING_BACK = "rolling_back"


class Event(StrEnum):
    """What moves it on."""

    SWAP = "swap"
    ROLL_BACK = "roll_back"
    PASSED = "passed"
    TRY_BESIDE = "try_beside"
    FAULT = "fault"
    REFUSED = "refused"
    DONE = "done"
    LET_GO = "let_go"


class Transition(NamedTuple):
    """From a state, by an event, to a state; and what that means."""

    state: State
    event: Event
    to: State
    meaning: str


TRANSITIONS = (
    Transition(State.STEADY, Event.SWAP, State.VERIFYING, "a swap was asked for: the gate judges, in its own process"),
    Transition(State.VERIFYING, Event.PASSED, State.LOADING, "all invariants hold: it is loaded beside the active one"),
    Transition(State.VERIFYING, Event.REFUSED, State.STEADY, "an invariant does not hold; nothing was touched"),
    Transition(State.LOADING, Event.TRY_BESIDE, State.SHADOWING, "loaded and warm: it computes, the active one acts"),
    Transition(State.LOADING, Event.PASSED, State.ACTIVATING, "loaded and warm, and no shadow run was asked for"),
    Transition(State.LOADING, Event.REFUSED, State.STEADY, "it does not load; nothing was touched"),
    Transition(State.SHADOWING, Event.PASSED, State.ACTIVATING, "it would have done no harm"),
    Transition(State.SHADOWING, Event.REFUSED, State.STEADY, "it would have; nothing was touched"),
    Transition(State.VERIFYING, Event.ROLL_BACK, State.CANCELLING, "somebody wants no swap: the gate is ended"),
    Transition(State.LOADING, Event.ROLL_BACK, State.CANCELLING, "somebody wants no swap: it ends when it is loaded"),
    Transition(State.SHADOWING, Event.ROLL_BACK, State.CANCELLING, "somebody wants no swap: the shadow run is ended"),
    Transition(State.CANCELLING, Event.REFUSED, State.STEADY, "it has ended; nothing was touched"),
    Transition(State.ACTIVATING, Event.PASSED, State.PROBATION, "the store says so, durably; it acts, on trial"),
    Transition(State.ACTIVATING, Event.DONE, State.STEADY, "the same, and no probation was asked for"),
    Transition(State.ACTIVATING, Event.REFUSED, State.STEADY, "the store could not be changed; the old one acts on"),
    Transition(State.PROBATION, Event.DONE, State.STEADY, "its ticks are over without a fault: it is good"),
    Transition(State.PROBATION, Event.FAULT, State.REVERTING, "a fault: the previous one acts from the next tick on"),
    Transition(State.PROBATION, Event.ROLL_BACK, State.REVERTING, "somebody wants the previous one back"),
    Transition(State.PROBATION, Event.LET_GO, State.STEADY, "cleaned up: it is not good, and not loaded again"),
    Transition(State.REVERTING, Event.DONE, State.STEADY, "the store says so, durably"),
    Transition(State.REVERTING, Event.REFUSED, State.STEADY, "it could not be changed: it is told again and again"),
    Transition(State.STEADY, Event.ROLL_BACK, State.ROLLING_BACK, "the previous one is loaded, if it is not still"),
    Transition(State.ROLLING_BACK, Event.DONE, State.STEADY, "the store says so, durably; the switch"),
    Transition(State.ROLLING_BACK, Event.REFUSED, State.STEADY, "none, or it does not load; nothing was touched"),
)  # fmt: skip

_NEXT = {(row.state, row.event): row.to for row in TRANSITIONS}
_STEPS = (Event.PASSED, Event.TRY_BESIDE)  # those of a swap's own thread

# In these a rollback means that the swap is not to happen.
CANCELLABLE = frozenset(row.state for row in TRANSITIONS if row.to is State.CANCELLING)


class SwapRefusedError(PolicyError):
    """This cannot be asked for now."""


class SwapCancelledError(SwapRefusedError):
    """Somebody wants the swap that is under way not to happen."""


class SwapLife:
    """Where a policy server stands. Safe for its control thread and one beside it."""

    def __init__(self) -> None:
        self.state = State.STEADY
        self._changing = threading.Lock()

    def on(self, event: Event) -> State:
        """Moves on, and returns the new state.

        Raises:
            SwapCancelledError: this would be the next step of a swap that was cancelled.
            SwapRefusedError: the table has no such transition: a second swap during a swap, for one.
        """
        with self._changing:
            following = _NEXT.get((self.state, event))
            if following is None and self.state is State.CANCELLING and event in _STEPS:
                raise SwapCancelledError(f"{event} is not possible: the swap was cancelled")
            if following is None:
                raise SwapRefusedError(
                    f"{event} is not possible now: a swap or rollback is under way ({self.state})"
                    if self.state is not State.STEADY
                    else f"{event} is not possible: nothing is under way",
                    "Ask again when it has ended; the status tells",
                )
            self.state = following
            return following

    def check_wanted(self) -> None:
        """For the thread that makes a swap, now and then while it waits.

        Raises:
            SwapCancelledError: it need not go on.
        """
        if self.state is State.CANCELLING:
            raise SwapCancelledError("the swap was cancelled")


def diagram() -> str:
    """The table as a Mermaid state diagram."""
    rows = [f"    {row.state} --> {row.to}: {row.event}" for row in TRANSITIONS]
    return "\n".join(["```mermaid", "stateDiagram-v2", f"    [*] --> {State.STEADY}", *rows, "```"])


def table() -> str:
    """The table as Markdown."""
    rows = [f"| {row.state} | {row.event} | {row.to} | {row.meaning} |" for row in TRANSITIONS]
    return "\n".join(["| in | when | then | that is |", "|---|---|---|---|", *rows])


def document() -> str:
    """docs/swap.md."""
    return f"""# The life of a swap

Drawn from the table in `saferule_ros/policy/swap_life.py` by `python -m saferule_ros.policy.swap_life > docs/swap.md`.
The state is `swap_state` in `policy_server/status`.

{diagram()}

{table()}

Whatever is not in the table is refused: a second swap during a swap, for one.

A rollback undoes what is under way: from the request for a swap to the end of its probation, what acted before goes on
acting or acts again. Only in steady service it brings back the one before that, and never one that neither acted since
the start nor was the store's previous one then.

After a kill, a power cut or a clean-up the store decides: a policy whose probation was not over is not served again;
the one before it is. So a policy that takes the whole process down with it is gone with the restart.
"""


if __name__ == "__main__":
    print(document(), end="")
