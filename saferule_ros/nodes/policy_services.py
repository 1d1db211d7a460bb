"""swap and rollback of policy_server, and what follows. The switch itself is one assignment in the control thread.

Steps of a swap that take time run in a thread beside control (Background); SwapLife says which of them is on.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import TypeVar

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from rclpy.task import Future

from saferule_ros.errors import SaferuleError
from saferule_ros.nodes.background import Background, FaultInProgramError
from saferule_ros.nodes.flight_logs import FlightLogs
from saferule_ros.nodes.policy_parameters import Parameters
from saferule_ros.nodes.policy_swap import PROBATION, Exchange, Remembered, Swapper, SwapRequest
from saferule_ros.nodes.served import Served
from saferule_ros.nodes.serving import ControlHangsError, ControlPath, Verdict
from saferule_ros.nodes.trial_endings import Ending, TrialEndings
from saferule_ros.policy.errors import NoPolicyError
from saferule_ros.policy.gate import GateReport
from saferule_ros.policy.places import Places
from saferule_ros.policy.probation import Probation
from saferule_ros.policy.runtime import PolicyRuntime
from saferule_ros.policy.shadow import ShadowReport, Tap
from saferule_ros.policy.store import PolicyStore
from saferule_ros.policy.swap_life import CANCELLABLE, Event, State, SwapLife, SwapRefusedError
from saferule_ros.safeguard.model import Safeguard
from saferule_ros.srv import RollbackPolicy, SwapPolicy

# In a request for a swap: as the parameter of that name says.
AS_PARAMETER = -1

Switched = TypeVar("Switched", SwapPolicy.Response, RollbackPolicy.Response)


def _ticks(settings: Parameters, name: str, asked: int) -> int:
    """What a request asks for, held to the range of the parameter that it stands in for.

    Raises:
        SwapRefusedError: it is outside of that.
    """
    of_parameter: int = getattr(settings, name)
    if asked == AS_PARAMETER:
        return of_parameter
    (about,) = (field.metadata["about"] for field in dataclasses.fields(settings) if field.name == name)
    if not about.low <= asked <= about.high:
        raise SwapRefusedError(
            f"{name} is {asked}",
            f"Give {about.low} to {about.high}, or {AS_PARAMETER} for the parameter of that name: {of_parameter}",
        )
    return asked


class PolicyServices:
    """Loads what the store calls active, and changes it on request; one request at a time.

    Args:
        node: owns the services.
        store: the policy store.
        path: where the served policy is replaced.
        settings: the node's parameters.
        safeguard: what policies must not break; None: nothing.
        is_serving: whether the node is active.
        changed: called with one line about each event, after it, and whether it is a fault.
    """

    def __init__(
        self,
        node: Node,
        store: PolicyStore,
        path: ControlPath,
        settings: Parameters,
        safeguard: Safeguard | None,
        is_serving: Callable[[], bool],
        changed: Callable[[str, bool], None],
    ) -> None:
        self._node = node
        self._path = path
        self._settings = settings
        self._limits = settings.limits
        self._is_serving = is_serving
        self._changed = changed
        self._policies = store
        self.life = SwapLife()
        self._safeguard = safeguard
        self._swapper = Swapper(store, settings.swap, self._limits, self.life, safeguard)
        self._kept: PolicyRuntime | None = None  # the previous policy, loaded and warm
        self._work: Background[Exchange] | None = None
        self._ended: Future | None = None  # of that: done when all that follows is, too
        self._acted: set[str] = set()  # what has acted here without a fault, and what was previous at the start
        self._seen_change = 0  # of the store's places [ns]
        self.flights = FlightLogs(node, path, settings.flights_folder)
        self.places = Places()
        self.trial_fault = ""
        self._endings = TrialEndings(node, self._swapper, self.life, self.flights, self._hear, changed)
        aside = ReentrantCallbackGroup()  # control goes on while these wait, see Background
        node.create_service(SwapPolicy, "~/swap", self._on_swap, callback_group=aside)
        node.create_service(RollbackPolicy, "~/rollback", self._on_rollback, callback_group=aside)

    @property
    def busy(self) -> bool:
        """Whether a swap or rollback is under way; a probation is none."""
        return self.life.state not in (State.STEADY, State.PROBATION)

    @property
    def untold(self) -> str:
        """What the store does not know yet of how a trial ended, for people; "" if it knows all."""
        return self._endings.complaint

    @property
    def shadow(self) -> ShadowReport:
        """What the newest shadow run counted."""
        return self._swapper.shadow

    @property
    def serving(self) -> PolicyRuntime | None:
        """What acts."""
        return self._path.served.runtime if self._path.served is not None else None

    def load(self) -> str:
        """Loads the store's active policy, and the previous one for a quick rollback; returns the active id.

        A policy that was on trial when the process ended has not proved good: the one before it is loaded.

        Raises:
            SaferuleError, OSError: what keeps the active one from being served. Nothing was changed.
        """
        if self._policies.places().trial:
            before = self._policies.require("active")
            why = "serving ended during its probation"
            now = self._policies.revert(reason=why, requester=PROBATION)
            self.trial_fault = f"{before}: {why}"
            self._node.get_logger().error(f"{before} had not got through its probation: {now} is active again")
        runtime = PolicyRuntime(*self._policies.active())
        if self._safeguard is not None:
            spec = runtime.spec
            self._safeguard.require_sizes(spec.observation_size, spec.action_size, f"policy {runtime.bundle_id}")
        served = Served(runtime, self._limits.of(runtime))
        self.places = self._policies.places()
        self._endings.expect(None)  # the store has decided
        self._acted = {served.id, *filter(None, [self.places.previous])}
        try:
            self._kept = PolicyRuntime(*self._policies.get(self._policies.require("previous")))
        except NoPolicyError:
            self._kept = None
        except (SaferuleError, OSError) as error:
            self._node.get_logger().warning(f"a rollback will not be possible: {error}")
            self._kept = None
        self._path.switch(served)
        return served.id

    def unload(self) -> None:
        """Lets go of the policies. What was on trial has not proved good: load() takes the one before it."""
        if self.life.state is State.PROBATION:
            self.life.on(Event.LET_GO)
        self._kept = None
        self._path.switch(None)

    def join(self, deadline: float) -> None:
        """Waits up to `deadline` [s] for a swap or rollback that is under way."""
        for work in (self._work, self._endings.under_way):
            if work is not None:
                work.join(deadline)

    def look(self) -> bool:
        """Reads the places anew if another process changed them, such as a patch that made a candidate."""
        try:
            changed = self._policies.places_path.stat().st_mtime_ns
            if self.busy or changed == self._seen_change:
                return False
            self._seen_change = changed
            before, self.places = self.places, self._policies.places()
        except (SaferuleError, OSError) as error:
            self._node.get_logger().warning(f"store: {error}", throttle_duration_sec=60.0)
            return False
        return before.model_copy(update={"latest": None}) != self.places.model_copy(update={"latest": None})

    def tell_store_again(self) -> None:
        """To be called now and then: what the store could not be told at the end of a trial, it is told later."""
        self._endings.look()

    def judge(self, policy_id: str) -> GateReport:
        """The gate's verdict on a policy, as if it were to be swapped in. Blocks.

        Raises:
            PolicyError: it cannot be judged.
        """
        return self._swapper.judge(policy_id, self.serving)

    # What was asked for.

    async def _on_swap(self, request: SwapPolicy.Request, response: SwapPolicy.Response) -> SwapPolicy.Response:
        response.gate_seconds = math.nan
        try:
            shadow_ticks, probation_ticks = (
                _ticks(self._settings, name, getattr(request, name)) for name in ("shadow_ticks", "probation_ticks")
            )
        except SwapRefusedError as error:
            response.message = f"{Event.SWAP} refused: {error}"
            return self._filled(response)
        requester = request.requester or "policy_server/swap"
        wanted = SwapRequest(request.policy_id, shadow_ticks, probation_ticks, request.reason, requester)

        def swap(serving: PolicyRuntime) -> Exchange:
            exchange = self._swapper.swap(wanted, serving, self._listen)
            response.gate_seconds = exchange.gate_seconds
            return exchange

        return await self._exchange(response, Event.SWAP, swap, wanted.probation_ticks)

    async def _on_rollback(
        self, request: RollbackPolicy.Request, response: RollbackPolicy.Response
    ) -> RollbackPolicy.Response:
        who = request.requester or "policy_server/rollback"
        if self.life.state in CANCELLABLE:
            return await self._cancel(request.reason, who, response)
        if self._is_serving() and self.life.state is State.PROBATION:
            return await self._take_back(request.reason, who, response)
        remembered = Remembered(self._kept, frozenset(self._acted), self._endings.failed)
        return await self._exchange(
            response, Event.ROLL_BACK,
            lambda serving: self._swapper.roll_back(request.reason, who, serving, remembered), 0,
        )  # fmt: skip

    async def _cancel(self, reason: str, requester: str, response: RollbackPolicy.Response) -> RollbackPolicy.Response:
        """Keeps the swap that is under way from happening, and waits until it has ended."""
        ended = self._ended
        try:
            self._swapper.cancel(reason, requester)
        except SwapRefusedError as error:  # it came too far just now
            response.message = f"{Event.ROLL_BACK} refused: {error}"
            return self._filled(response)
        self._changed(f"swap cancelled: {reason}", False)
        assert ended is not None, "a swap is under way"
        await ended
        self._filled(response)
        response.success = True
        stays = f"{response.policy_id} stays" if response.policy_id else "nothing is loaded"
        response.message = f"cancelled the swap that was under way: {reason}. {stays}"
        return response

    async def _exchange(
        self, response: Switched, verb: Event, work: Callable[[PolicyRuntime], Exchange], probation_ticks: int
    ) -> Switched:
        serving, telling = self._path.served, self._endings.under_way
        try:
            if not self._is_serving() or serving is None:
                raise SwapRefusedError("policy_server is not active", "Its status says what is amiss")
            self.life.on(verb)
        except SwapRefusedError as error:
            response.message = f"{verb} refused: {error}"
            return self._filled(response)

        def exchanged() -> Exchange:
            if telling is not None:  # what is being said to the store now, it must not hear after what follows
                telling.join(2 * self._policies.lock_timeout)
            return work(serving.runtime)

        self._ended = Future(executor=self._node.executor)
        self._work = Background(self._node, verb, exchanged)
        self._changed(f"{verb} under way", False)
        amiss = False
        try:
            exchange = await self._work.done()
        except FaultInProgramError as error:
            self.life.on(Event.REFUSED)
            response.message = f"{verb} failed by {error}. What served goes on serving"
            amiss = True
        except (SaferuleError, OSError) as error:
            self.life.on(Event.REFUSED)
            response.message = f"{verb} refused: {error}"
        else:
            try:
                missing = self._switch(exchange, serving, probation_ticks)
                response.success = not missing
                response.message = f"{exchange.message}. {missing}" if missing else exchange.message
            except ControlHangsError as error:  # what the store says is served after the restart that this asks for
                self.life.on(Event.REFUSED)
                response.message = f"{verb} failed: {error}"
                amiss = True
                self._give_up(exchange, str(error))
        self._work = None
        self._changed(response.message, amiss)
        self._ended.set_result(None)
        if self._node.executor is not None:
            self._node.executor.wake()  # for whoever waits for this
        return self._filled(response)

    def _filled(self, response: Switched) -> Switched:
        response.policy_id = self._path.served.id if self._path.served is not None else ""
        response.policy_generation = self._path.generation
        response.first_sequence = self._path.first_sequence
        return response

    def _switch(self, exchange: Exchange, serving: Served, probation_ticks: int) -> str:
        """The switch from `serving`. Returns why the policy of the exchange does not act now; "" if it does.

        Raises:
            ControlHangsError: nothing was switched.
        """
        self.places = exchange.places
        self._endings.expect(None)  # the change of the store that was made comprises it
        if self._path.served is not serving:
            self.life.on(Event.DONE)
            self._give_up(exchange, "policy_server was cleaned up during its swap")
            after = "the store takes it back" if exchange.places.trial else "the next configure loads it"
            return f"policy_server was cleaned up meanwhile: {exchange.places.active} does not act, and {after}"
        if exchange.runtime is not None:
            limits = self._settings.probation(probation_ticks, exchange.runtime.spec)
            probation = Probation(limits) if probation_ticks else None
            self._path.switch(Served(exchange.runtime, self._limits.of(exchange.runtime)), probation)
            self._kept = serving.runtime
            self._acted.add(exchange.runtime.bundle_id)
            if probation is not None:
                self.trial_fault = ""  # of another one
        self.life.on(Event.PASSED if probation_ticks else Event.DONE)
        if (stop := self._path.stop) is not None:
            return f"no policy acts before the server is activated again: stopped by {stop.reason}: {stop.detail}"
        return "" if self._is_serving() else "policy_server was deactivated meanwhile: it acts when it is active again"

    def _give_up(self, exchange: Exchange, why: str) -> None:
        """What the store has on trial never came to act: the store is told so when it can be, as of a fault."""
        if exchange.places.trial and exchange.places.active is not None:
            self._endings.expect(Ending(exchange.places.active, why))

    def _listen(self, tap: Tap | None) -> None:
        self._path.tap = tap  # one assignment, seen by the next observation

    # What follows a safe action, and a swap.

    def look_at_faults(self) -> None:
        """To be called now and then: what led to safe actions in service is written down, see FlightLogs."""
        if self.life.state not in (State.PROBATION, State.REVERTING):  # which write a log of their own
            self.flights.look()

    def after_tick(self) -> None:
        """To be called when an answer has gone out with which a probation ended."""
        verdict = self._path.take_verdict()
        if verdict is not None and self.life.state is State.PROBATION:
            self._on_verdict(verdict)

    def _on_verdict(self, verdict: Verdict) -> None:
        if not verdict.fault:
            self.life.on(Event.DONE)
            self._changed(f"{verdict.policy_id} got through its probation", False)
        else:
            self.life.on(Event.FAULT)
            self._let_go_of(verdict)
            self._changed(f"taken back during its probation: {self.trial_fault}", True)
        self._endings.tell(Ending(verdict.policy_id, verdict.fault))

    def _let_go_of(self, failed: Verdict) -> None:
        self._kept = None  # the faulty one is not kept, and no rollback leads to it
        self._acted.discard(failed.policy_id)
        self.trial_fault = f"{failed.policy_id}: {failed.fault}"

    def _hear(self, places: Places) -> None:
        self.places = places

    async def _take_back(
        self, reason: str, requester: str, response: RollbackPolicy.Response
    ) -> RollbackPolicy.Response:
        try:
            taken = self._path.take_back(f"rolled back during its probation: {reason}")
        except ControlHangsError as error:
            response.message = f"roll_back failed: {error}"
            return self._filled(response)
        verdict = self._path.take_verdict() if taken else None
        if verdict is None:  # it ended this very moment, and what follows is under way
            response.message = "roll_back refused: the probation ended just now. Ask again"
            return self._filled(response)
        self.life.on(Event.ROLL_BACK)
        self._let_go_of(verdict)
        self._changed(f"taken back during its probation: {self.trial_fault}", False)
        response.success = await self._endings.told(Ending(verdict.policy_id, verdict.fault, requester))
        self._filled(response)
        response.message = f"rolled back {verdict.policy_id} -> {response.policy_id}: {reason}"
        if not response.success:
            response.message += " (the store could not be changed, see the log; it is told again)"
        return response
