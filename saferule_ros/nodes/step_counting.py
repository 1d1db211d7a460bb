"""Whether observations count their steps. One without a count begins an episode, as far as anybody can see."""

# So many observations in a row that begin an episode, and no end between them, are a publisher that counts no steps.
MOST_BEGINNINGS = 10


class StepCounting:
    """Looks at the step of every observation that asks for an action."""

    def __init__(self) -> None:
        self._beginnings = 0  # in a row, and no end of an episode between them

    def observed(self, step: int) -> None:
        """An observation that asks for an action."""
        self._beginnings = self._beginnings + 1 if step == 0 else 0

    def episode_ended(self) -> None:
        """Somebody said so: then a beginning is one."""
        self._beginnings = 0

    @property
    def complaint(self) -> str:
        """What to tell the publisher's owner; empty: steps are counted."""
        if self._beginnings < MOST_BEGINNINGS:
            return ""
        return (
            f"the last {self._beginnings} observations have step 0, each as if it began an episode: nothing that lasts "
            "longer than one is watched, neither costs nor rates nor a safeguard. Count the step up within an episode "
            "(msg/Observation)"
        )
