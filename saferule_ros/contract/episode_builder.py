"""What the ticks of a contract become: episodes of observations, rewards and costs, with the commands between them."""

from collections import Counter, deque

import numpy as np
import numpy.typing as npt

from saferule_ros.contract.alignment import Unusable
from saferule_ros.contract.boundaries import Boundaries, Moment
from saferule_ros.contract.command import Command
from saferule_ros.contract.episode_ids import episode_id
from saferule_ros.contract.errors import ContractError
from saferule_ros.contract.model import Contract
from saferule_ros.dataset.expression import ExpressionError
from saferule_ros.recording.messages import COMMAND_JITTER, ActionMessage, ObservationMessage
from saferule_ros.safeguard.errors import SafeguardError
from saferule_ros.safeguard.monitor import Monitor
from saferule_ros.units import NANOSECONDS

_NEVER = Moment(-(2**62), -(2**62))  # before any clock


class Unseen(Unusable):
    """The tick is lost, and not for what the sources say that were heard: the next one is to see that."""


class Over(Unusable):
    """The tick would begin an episode that is over with it."""


class EpisodeBuilder:
    """One robot's episodes. It is told of ticks in their order, and of commands between them.

    Attributes:
        label: part of the names of episodes, by which they differ from those of other recordings and processes.
        begins: messages that ask for a beginning.
        ends: messages that ask for an end.

    Args:
        contract: what everything means.
        label: see above.
        counts: where commands that answered nothing are counted, and clocks that were set back.
    """

    def __init__(self, contract: Contract, label: str, counts: Counter[str]) -> None:
        self.contract = contract
        self.label = label
        self.begins, self.ends = Boundaries(), Boundaries()
        self._counts = counts
        self._command = Command(contract.action)
        self._monitors = {name: Monitor(safeguard) for name, safeguard in contract.safeguards.items()}
        self._sequence = 0
        self._commands = 0
        self._step = 0
        self._episode = ""
        self._answered = True
        self._answer = _NEVER
        self._observations: deque[npt.NDArray[np.float64]] = deque(maxlen=contract.history.observations)
        self._actions: deque[npt.NDArray[np.float64]] = deque(maxlen=max(1, contract.history.actions))

    def command(self, values: npt.NDArray[np.float64], time: int) -> list[ActionMessage]:
        """A command was sent: the first one after an observation is its answer.

        Args:
            values: as in the robot's message, (A,).
            time: when [ns].
        """
        if self._answered:
            self._counts["further_commands"] += 1
            return []
        self._answered, self._answer = True, Moment(time, time)
        action = self._command.action(values)
        self._actions.appendleft(action)
        self._commands += 1
        return [
            ActionMessage(time, self._commands, self._sequence, action.astype(np.float32), 0, "", False, "", 0.0)
        ]  # fmt: skip

    def observe(
        self, tick: Moment, values: dict[str, npt.NDArray[np.float64]], since_last: int, after_gap: bool
    ) -> ObservationMessage:
        """The observation of a tick.

        Args:
            tick: when.
            values: what every source says, by its name.
            since_last: time since the tick before, made or lost [ns]; the first has a very long one.
            after_gap: nothing is known of too long a time before it: an episode begins.

        Raises:
            Unusable: it is not finite, an expression is not, or the last command is missing or came after it.
            Over: an episode would begin with it that is terminated or truncated already.
        """
        rules = self.contract.episode
        begins = self.begins.reached(tick) or after_gap or not self._episode
        end_on = self.ends.reached(tick)
        newest = self._vector(values)
        judged = self._judged(values, begins)
        if begins:
            ends = {"terminated": judged["terminated"], "truncated": judged["truncated"], "end_on": end_on}
            over = next((name for name, holds in ends.items() if holds), "")
            if over:
                raise Over(f"no episode begins: it would be over already ({over})")
            self._begin(tick.time, newest)
        else:
            self._require_answer(tick, since_last)
            self._step += 1
            self._observations.appendleft(newest)
        self._sequence += 1
        self._answered = False
        data = np.concatenate([*self._observations, *self._past_actions()]).astype(np.float32)
        if not np.isfinite(data).all():
            raise Unusable("observation: a number is too large for single precision")
        judged |= self._guarded(data, begins)
        terminated = bool(judged["terminated"])
        cut = end_on or self._step == rules.max_steps or bool(judged["truncated"])
        message = ObservationMessage(
            tick.time, self._sequence, self._episode, self._step, data, judged["reward"], judged["cost"], terminated,
            cut and not terminated,
        )  # fmt: skip
        if message.terminated or message.truncated:
            self._episode = ""
            self._answered = True  # nothing answers the last observation
        return message

    def leave_out(self) -> None:
        """A tick that no observation is made of: its number is used up, and the episode ends before it."""
        self._sequence += 1
        self._episode, self._answered = "", True

    def pass_on(self, tick: Moment) -> None:
        """A tick is done: what was asked for by then counts for no other."""
        self.begins.forget(tick)
        self.ends.forget(tick)

    def set_back(self) -> None:
        """The clock was set back: nothing that was asked for before counts any more."""
        self._counts["clock_set_back"] += 1
        self.begins.clear()
        self.ends.clear()

    def _judged(self, values: dict[str, npt.NDArray[np.float64]], begins: bool) -> dict[str, float]:
        """What the contract's expressions say: reward and cost, which stay 0 where an episode begins, as nothing led to
        it; terminated and truncated, 0 or not.

        Raises:
            Unusable: one cannot be computed, is not finite, or is a negative cost.
        """
        columns = {name: value[None, :] for name, value in values.items()}
        judged = {"reward": 0.0, "cost": 0.0, "terminated": 0.0, "truncated": 0.0}
        for name, expression in self.contract.expressions.items():
            # What led to the first observation is not part of the episode.
            if name in ("reward", "cost") and begins:
                continue
            try:
                judged[name] = expression.number(columns)
            except ExpressionError as error:
                raise Unusable(f"{name}: it cannot be computed: {error.what}. {error.hint}") from None
            if not np.isfinite(judged[name]) or (name == "cost" and judged[name] < 0):
                raise Unusable(f"{name}: it is {judged[name]}")
        return judged

    def _require_answer(self, tick: Moment, since_last: int) -> None:
        """Raises Unseen where no command was sent since the last tick and something rests on one, or where the command
        came after this tick.
        """
        if not self._answered and (self.contract.history.actions or self._monitors):
            raise Unseen("action: no command was sent since the last tick")
        answer = Moment(*(at - since_last // COMMAND_JITTER for at in self._answer))
        if self._answered and tick.is_before(answer):
            # What it was to lead to had been measured: paired with it, the effect would come before the cause.
            late = (self._answer.time - tick.time) / NANOSECONDS
            raise Unseen(f"action: it came after the next tick: {late:.3f} s")

    def _guarded(self, data: npt.NDArray[np.float32], begins: bool) -> dict[str, float]:
        """Reward and cost where a safeguard gives them: it reads what is published, as it is in a dataset.

        Raises:
            Unusable: a label cannot be computed.
            ContractError: the safeguard is for other sizes.
        """
        found = {}
        for name, monitor in self._monitors.items():
            if begins:
                monitor.reset()
                continue
            try:
                monitor.safeguard.require_sizes(len(data), self.contract.action_size, "this contract")
            except SafeguardError as error:
                raise ContractError(f"{name} of contract {self.contract.name!r}: {error.what}", error.hint) from error
            outcome = monitor.step(data, self._actions[0].astype(np.float32))
            if outcome.problem:
                raise Unusable(f"{name}: {outcome.problem}")
            found[name] = outcome.cost if name == "cost" else 0.0 - outcome.cost
        return found

    def _begin(self, time: int, newest: npt.NDArray[np.float64]) -> None:
        history = self.contract.history
        self._episode = episode_id(self.contract.name, self.label, time, self._counts["clock_set_back"])
        self._step = 0
        self._observations.extend([newest] * history.observations)
        first = np.array(self.contract.action.first, np.float64)
        self._actions.extend([first] * max(1, history.actions))

    def _vector(self, values: dict[str, npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
        """What the observed sources say, scaled.

        Raises:
            Unusable: one says another number of them than the contract: NumPy would repeat a single one.
        """
        parts = []
        for name in self.contract.observed:
            source, given = self.contract.sources[name], values[name]
            for factors in (source.scale, source.offset):
                if isinstance(factors, list) and len(factors) != len(given):
                    raise Unusable(f"{name}: wrong size: {len(given)} numbers, expected {len(factors)}")
            parts.append(np.asarray(source.scale) * given + np.asarray(source.offset))
        return np.concatenate(parts)

    def _past_actions(self) -> list[npt.NDArray[np.float64]]:
        return list(self._actions)[: self.contract.history.actions]
