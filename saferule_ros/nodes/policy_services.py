"""The services of policy_server: swap, rollback, list. The switch itself is one assignment between two callbacks."""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node

from saferule_ros.errors import SaferuleError
from saferule_ros.nodes.background import Background
from saferule_ros.nodes.policy_messages import fill_list
from saferule_ros.nodes.policy_swap import Exchange, Swapper
from saferule_ros.nodes.serving import ControlPath, LimitSettings, Served
from saferule_ros.policy.errors import NoPolicyError
from saferule_ros.policy.places import Places
from saferule_ros.policy.runtime import PolicyRuntime
from saferule_ros.policy.store import PolicyStore
from saferule_ros.srv import ListPolicies, RollbackPolicy, SwapPolicy

Switched = TypeVar("Switched", SwapPolicy.Response, RollbackPolicy.Response)


class PolicyServices:
    """Loads what the store calls active, and changes it on request; one request at a time.

    Args:
        node: owns the services.
        root: folder of the policy store.
        path: where the served policy is replaced.
        limits: for the policies that are loaded.
        gate_deadline, gate_timeout: see Swapper.
        is_serving: whether the node is active.
        changed: called with one line about each event, after it.
    """

    def __init__(
        self,
        node: Node,
        root: Path,
        path: ControlPath,
        limits: LimitSettings,
        gate_deadline: float,
        gate_timeout: float,
        is_serving: Callable[[], bool],
        changed: Callable[[str], None],
    ) -> None:
        self._node = node
        self._path = path
        self._limits = limits
        self._is_serving = is_serving
        self._changed = changed
        self._policies = PolicyStore(root)
        self._swapper = Swapper(self._policies, gate_deadline, gate_timeout)
        self._kept: PolicyRuntime | None = None  # the previous policy, loaded and warm
        self._work: Background[Exchange] | None = None
        self._seen_change = 0  # of the store's places [ns]
        self.places = Places()
        aside = ReentrantCallbackGroup()  # control goes on while these wait, see Background
        node.create_service(SwapPolicy, "~/swap", self._on_swap, callback_group=aside)
        node.create_service(RollbackPolicy, "~/rollback", self._on_rollback, callback_group=aside)
        node.create_service(ListPolicies, "~/list", self._on_list, callback_group=aside)

    @property
    def busy(self) -> bool:
        """Whether a swap or rollback is under way."""
        return self._work is not None

    def load(self) -> str:
        """Loads the store's active policy, and the previous one for a quick rollback; returns the active id.

        Raises:
            SaferuleError, OSError: what keeps the active one from being served. Nothing was changed.
        """
        runtime = PolicyRuntime(*self._policies.active())
        served = Served(runtime, self._limits.of(runtime))
        self.places = self._policies.places()
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
        self._kept = None
        self._path.switch(None)

    def join(self, deadline: float) -> None:
        """Waits up to `deadline` [s] for a swap or rollback that is under way."""
        if self._work is not None:
            self._work.join(deadline)

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

    async def _on_swap(self, request: SwapPolicy.Request, response: SwapPolicy.Response) -> SwapPolicy.Response:
        response.gate_seconds = math.nan

        def swap(serving: PolicyRuntime) -> Exchange:
            exchange = self._swapper.swap(request.policy_id, serving)
            response.gate_seconds = exchange.gate_seconds
            return exchange

        return await self._exchange(response, "swap", swap)

    async def _on_rollback(
        self, request: RollbackPolicy.Request, response: RollbackPolicy.Response
    ) -> RollbackPolicy.Response:
        kept = self._kept
        return await self._exchange(
            response, "rollback", lambda serving: self._swapper.roll_back(request.reason, serving, kept)
        )

    async def _on_list(self, _: ListPolicies.Request, response: ListPolicies.Response) -> ListPolicies.Response:
        try:
            return fill_list(response, await Background(self._node, "list", self._policies.list).done())
        except (SaferuleError, OSError) as error:
            response.message = str(error)
            return response

    async def _exchange(self, response: Switched, verb: str, work: Callable[[PolicyRuntime], Exchange]) -> Switched:
        serving = self._path.served
        if self.busy:
            response.message = f"{verb} refused: a swap or rollback is under way. Ask again when it has ended"
        elif not self._is_serving() or serving is None:
            response.message = f"{verb} refused: policy_server is not active. Its status says what is amiss"
        else:
            self._work = Background(self._node, verb, lambda: work(serving.runtime))
            self._changed(f"{verb} under way")
            try:
                exchange = await self._work.done()
            except (SaferuleError, OSError) as error:
                response.message = f"{verb} refused: {error}"
            except Exception as error:  # noqa: BLE001 - no fault in checking a policy may end the control of a robot
                self._node.get_logger().error("".join(traceback.format_exception(error)))
                response.message = f"{verb} failed by a fault in the program: {error!r}. What served goes on serving"
            else:
                self._switch(exchange)
                response.success = True
                response.message = exchange.message
            self._work = None
            self._changed(response.message)
        response.policy_id = self._path.served.id if self._path.served is not None else ""
        response.policy_generation = self._path.generation
        response.first_sequence = self._path.first_sequence
        return response

    def _switch(self, exchange: Exchange) -> None:
        self.places = exchange.places
        before = self._path.served
        if before is None:
            return  # cleaned up meanwhile: the next configure loads what the store says
        self._kept = before.runtime
        self._path.switch(Served(exchange.runtime, self._limits.of(exchange.runtime)))
