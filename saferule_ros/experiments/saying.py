"""What a trial says of where it stands, whoever listens: a process that runs it, a cluster, a test."""

from collections.abc import Callable, Mapping

from pydantic import BaseModel, ConfigDict, Field

from saferule_ros.unlearning.run import REPORT_EVERY, UnlearnProgress


class TrialProgress(BaseModel):
    """One report. Steps are gradient steps: the part of a trial that takes long."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    done: int = Field(ge=0, description="steps behind it, those of an earlier call included")
    skipped: int = Field(default=0, ge=0, description="of these, steps that an earlier call had taken")
    steps: int = Field(ge=0, description="of the whole trial")
    words: str = Field(default="", description="what it is at, for people")


class Reporter:
    """Adds up the steps of a trial's parts.

    Args:
        parts: name to steps.
        listen: called with every report.
    """

    def __init__(self, parts: Mapping[str, int], listen: Callable[[TrialProgress], None]) -> None:
        self._parts, self._listen = parts, listen
        self._done: dict[str, int] = {}
        self._first: dict[str, int] = {}  # steps that were there already when a part began

    def say(self, words: str) -> None:
        """Where it stands, in words."""
        self._listen(
            TrialProgress(
                done=sum(self._done.values()), skipped=sum(self._first.values()), steps=sum(self._parts.values()),
                words=words,
            )
        )  # fmt: skip

    def steps_of(self, part: str) -> Callable[[UnlearnProgress], None]:
        """What a run of this part reports to; it may begin anew what an earlier call had done."""
        self._done.pop(part, None)
        self._first.pop(part, None)

        def report(at: UnlearnProgress) -> None:
            if part in self._parts:
                self._first.setdefault(part, max(at.step - REPORT_EVERY, 0))
                self._done[part] = at.step
            self.say(f"{part} {at.step}/{at.steps}")

        return report

    def done(self, part: str) -> None:
        """All of a part is done: now, or by an earlier call."""
        if part not in self._done:
            self._first[part] = self._parts[part]
        self._done[part] = self._parts[part]
        self.say(f"{part} done")
