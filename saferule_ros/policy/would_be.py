"""What a candidate's answers would have broken, had they gone out: a safeguard run twice over what was observed."""

import numpy as np

from saferule_ros.safeguard.model import Safeguard
from saferule_ros.safeguard.monitor import Monitor


class WouldBe:
    """One machine reads the actions that went out, the other the candidate's, both the same observations.

    A tick is the candidate's violation where its machine is unsafe and the other is not [ours]: the candidate is not
    blamed for where the active policy, maybe a bad one, has driven to. So what shows is what the actions themselves
    break; where they would have led to, nobody observed. Both machines begin where the shadow run does.

    Args:
        safeguard: see there.
    """

    def __init__(self, safeguard: Safeguard) -> None:
        self._acting, self._candidate = Monitor(safeguard), Monitor(safeguard)
        self._before: tuple[np.ndarray, np.ndarray] | None = None

    def observe(self, observation: np.ndarray, begins: bool) -> str:
        """What the candidate's last answer would have broken; "" if nothing.

        Args:
            observation: (O,), which came after it.
            begins: it is the first of an episode, and no answer led to it.
        """
        if begins or self._before is None:
            self._acting.reset()
            self._candidate.reset()
            return ""
        acted, answered = self._before
        acting, candidate = self._acting.step(observation, acted), self._candidate.step(observation, answered)
        return candidate.told if candidate.unsafe and not acting.unsafe else ""

    def answer(self, acted: np.ndarray, candidate: np.ndarray | None) -> None:
        """What went out, (A,), and the candidate's answer; None: it would not go out."""
        self._before = acted, acted if candidate is None else candidate
