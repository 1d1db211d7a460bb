"""The parts of a safeguard file: what an input is, a state, a transition."""

import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from saferule_ros.dataset.subscript import SUBSCRIPT, split_subscript

OBSERVATION, ACTION = "observation", "action"

_PLACE = re.compile(rf"(?P<vector>{OBSERVATION}|{ACTION}){SUBSCRIPT}")


@dataclass(frozen=True)
class Place:
    """Where an input stands: observation[0], action[-1], observation[2:14], observation."""

    vector: str
    index: int | slice

    @classmethod
    def parse(cls, text: str) -> "Place":
        """Reads one. Raises ValueError, which a settings model turns into its own error."""
        found = _PLACE.fullmatch(text)
        if found is None:
            raise ValueError(f"{text!r} is no input; write {OBSERVATION}[0], {OBSERVATION}[2:14] or {ACTION}[1]")
        index = split_subscript(found)
        return cls(found["vector"], slice(None) if index is None else index)


def _place(text: str) -> str:
    Place.parse(text)
    return text


Name = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=60)]
PlaceText = Annotated[str, AfterValidator(_place)]


class Part(BaseModel):
    """Frozen, and a field that is not known is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class State(Part):
    """Where the machine can be."""

    unsafe: bool = Field(False, description="a tick that ends here breaks the specification")
    cost: float | None = Field(None, ge=0, description="of a tick that ends here; else 1 where it is unsafe, 0 if not")
    entry_cost: float = Field(0.0, ge=0, description="on top of it, of a tick that comes here from another state")
    meaning: str = Field("", description="for people")

    @property
    def tick_cost(self) -> float:
        """The cost that counts."""
        return float(self.unsafe) if self.cost is None else self.cost


class Transition(Part):
    """A way from one state to another. Of those from a state, the first that holds is taken; else it stays."""

    from_: Name = Field(alias="from", description="state")
    when: str = Field("True", description="over the labels: near and not slow")
    after: int = Field(1, ge=1, le=1_000_000, description="not before so many ticks after the state was entered")
    to: Name = Field(description="state; the same one again: its ticks are counted anew")

    def __str__(self) -> str:
        delay = f", after {self.after} ticks" if self.after > 1 else ""
        return f"{self.from_} -> {self.to} when {self.when!r}{delay}"
