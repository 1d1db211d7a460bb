"""Who may command the robot: policy_server for as long as it gives signs of life, else `fallback`. Pure, no imports.

Both sides count the same silence from the same event, a heartbeat, each by its own clock, so that there are never two
who command: the server stops by itself before the fallback begins.
"""

# What a message takes to arrive, and a timer to fire, on a machine that is busy with other things [s].
SLACK = 0.02


def takeover_after(period: float) -> float:
    """After so much silence [s] the fallback commands. `period`: time between heartbeats [s]."""
    return 2.0 * period + 0.5 * SLACK


def lease(period: float) -> float:
    """For so long after its newest heartbeat [s] the server may command. Before the fallback takes over."""
    return 2.0 * period


def longest_answer(period: float) -> float:
    """For so long [s] an answer may take and still go out, whenever its observation came.

    The thread that beats is the one that answers: an answer begins up to a period after a heartbeat, and no other one
    comes before it ends. What takes longer can lose control in every tick, and has to count as late before that.
    """
    return lease(period) - period
