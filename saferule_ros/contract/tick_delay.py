"""How late the observations of a recording are made: an answer to one that comes after the next tick is of no use."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from saferule_ros.contract.boundaries import ONE_CLOCK
from saferule_ros.contract.model import Contract
from saferule_ros.contract.translation import ContractTranslation, Made
from saferule_ros.recording.messages import ObservationMessage, RawMessage
from saferule_ros.recording.scan import TopicInfo
from saferule_ros.units import NANOSECONDS


@dataclass
class TickDelay:
    """Of the ticks of a recording.

    Attributes:
        delays: from each tick to when its observation was made [ns]; of ticks with a clock of their own none is known.
        distances: of ticks from the one before, made or lost [ns].
    """

    delays: list[int] = field(default_factory=list)
    distances: list[int] = field(default_factory=list)

    @property
    def period(self) -> float:
        """Median distance of two ticks [s]; 0 for fewer than two."""
        return float(np.median(self.distances)) / NANOSECONDS if self.distances else 0.0

    @property
    def median(self) -> float:
        """Of the delays [s]."""
        return float(np.median(self.delays)) / NANOSECONDS if self.delays else 0.0

    @property
    def worst(self) -> float:
        """Of the delays [s]."""
        return max(self.delays, default=0) / NANOSECONDS

    @property
    def beyond_period(self) -> int:
        """Observations that were made later than one period after their tick."""
        return sum(delay > self.period * NANOSECONDS for delay in self.delays) if self.period else 0

    def to_dict(self) -> dict[str, float]:
        """Plain data, in seconds."""
        return {"median": self.median, "worst": self.worst, "period": self.period, "beyond": self.beyond_period}


class TimedTranslation(ContractTranslation):
    """Like a `ContractTranslation`; notes when observations are made.

    Attributes:
        delay: of the ticks.
    """

    def __init__(self, contract: Contract) -> None:
        super().__init__(contract)
        self.delay = TickDelay()

    def take(self, messages: Sequence[RawMessage], topics: Mapping[str, TopicInfo]) -> Iterator[Made]:
        """See `ContractTranslation`."""
        for made in super().take(messages, topics):
            if isinstance(made, ObservationMessage):
                if self.runner.period:
                    self.delay.distances.append(self.runner.period)
                delay = self.runner.now - made.stamp
                if abs(delay) <= self._longest:
                    self.delay.delays.append(delay)
            yield made

    @property
    def _longest(self) -> int:
        """The longest delay of a tick whose time is of the clock of reception [ns]."""
        waits = [self.contract.sources[name].wait for name in self.contract.required]
        return ONE_CLOCK + round(max(waits) * NANOSECONDS)
