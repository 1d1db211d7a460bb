"""policy_server: answers every observation with one action, within a deadline, and swaps policies between two. Where
observations stop coming in the middle of an episode, the declared safe action goes out with every heartbeat.

Lifecycle node. Topics: listens to `observation` and publishes `action` while active; `policy_server/status`,
latched; `policy_server/heartbeat`, for `fallback`; `/diagnostics`. Services: `policy_server/swap`,
`policy_server/rollback`, and for the store `policy_server/list`, `show`, `verify`, `export`, `import`, `prune`.

Three threads: the control thread answers observations and beats (ControlLoop), and touches only ControlPath and Heart;
the executor's owns all else; what takes time (gate, loading, shadow run, syncing the store) is done in a thread beside
them and only then switched, between two answers, by one assignment.
"""

from __future__ import annotations

import gc
import math
import sys
import time

from rclpy.clock import Clock, ClockType
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.publisher import Publisher

from saferule_ros.errors import SaferuleError
from saferule_ros.msg import Action, Observation, PolicyStatus
from saferule_ros.nodes import process, qos
from saferule_ros.nodes.control_loop import ControlLoop
from saferule_ros.nodes.diagnostics import Diagnostics, Health
from saferule_ros.nodes.heart import CONTROL, Heart
from saferule_ros.nodes.parameters import load
from saferule_ros.nodes.passing_time import PassingTime, simulated
from saferule_ros.nodes.policy_health import PolicyHealth
from saferule_ros.nodes.policy_parameters import Parameters
from saferule_ros.nodes.policy_services import PolicyServices
from saferule_ros.nodes.serving import ControlPath
from saferule_ros.nodes.stop_latch import StopLatch
from saferule_ros.nodes.store_services import StoreServices
from saferule_ros.nodes.transitions import loud
from saferule_ros.nodes.wire import Asked, read_observation
from saferule_ros.policy.episode_costs import CostRecord
from saferule_ros.policy.errors import StoreError
from saferule_ros.policy.store import PolicyStore

DIAGNOSTICS_PERIOD = 1.0  # [s], the usual one of diagnostics in ROS
# How often an autostart that failed is tried again [s]: a store that is filled later is then found.
RETRY_PERIOD = 2.0
# How often it is looked whether a swap has gone on by itself, in its thread [s].
STEPS_PERIOD = 0.05
# For so long a thread that computes in Python may keep the control thread waiting [s]; Python's own is ten times this.
SWITCH_INTERVAL = 0.0005
# How long a stopping node waits for its last action to arrive [s].
PARTING_DEADLINE = 1.0


class PolicyServer(LifecycleNode):
    """See module."""

    def __init__(self) -> None:
        super().__init__("policy_server")
        self._settings = settings = load(self, Parameters)
        safeguard = settings.load_safeguard()
        self._path = ControlPath(safeguard, settings.safeguard_enforced, PassingTime(self), settings.damp_within)
        self.faulty = False  # see process.TellsFaults
        self._phase = "unconfigured"
        self._last_event = "started"
        self._last_complaint = ""
        self._shown_costs = self._costs()
        self._violating = 0  # the generation that violated its limit when that was last looked at; 0: none
        self._loop: ControlLoop | None = None
        self._actions: Publisher | None = None
        self._newest = b""  # the observation that came last
        self._stop = StopLatch(self, self._path, settings.stop_mark, self._say)
        self._status = self.create_publisher(PolicyStatus, "~/status", qos.LATCHED)
        store = PolicyStore(settings.store_folder, keys=settings.keys_folder)
        self._policies = PolicyServices(
            self, store, self._path, settings, safeguard, lambda: self._phase == "serving", self._say
        )
        self._store_services = StoreServices(self, store, self._policies)
        self._shown_swap = self._policies.life.state
        self._heart = Heart(self, self._path, settings.heartbeat_period, settings.fallback, self._say)
        self._report = PolicyHealth(
            self._path, self._policies, self._heart, self._stop, lambda: self.count_publishers(CONTROL) > 0
        )
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._retry = self.create_timer(RETRY_PERIOD, self._autostart, clock=steady)
        self._watch = self.create_timer(DIAGNOSTICS_PERIOD, self._look, clock=steady)
        self._steps = self.create_timer(STEPS_PERIOD, self._look_at_swap, clock=steady)
        self._steps.cancel()  # until a swap is under way: every wake-up of this thread can delay an answer
        self._diagnostics = Diagnostics(self, DIAGNOSTICS_PERIOD, self._health)

    # Life: process.Stoppable and lifecycle transitions.

    def start(self) -> None:
        """See process.Stoppable."""
        if self._settings.autostart:
            self._autostart()
        else:
            self._retry.cancel()
            self._say("waits for lifecycle transitions")

    def stop(self) -> None:
        """See process.Stoppable: the safe action goes out last."""
        self._policies.join(PARTING_DEADLINE)
        if self._phase != "shutdown":
            self.trigger_shutdown()

    def failed(self) -> None:
        """See process.TellsFaults: this is no end in good order, and `fallback` has to act."""
        self.faulty = True
        self._heart.fall_silent()

    @loud
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Loads the active policy, and the previous one for a quick rollback."""
        try:
            loaded = self._policies.load()
        except (SaferuleError, OSError) as error:
            if str(error) != self._last_complaint:  # once, not with every retry
                self._last_complaint = str(error)
                self._say(f"no policy can be served: {error}", amiss=True)
            return TransitionCallbackReturn.FAILURE
        self._last_complaint = ""
        self._phase = "inactive"
        self._say(f"loaded {loaded}")
        if self._path.served is not None and (about := self._settings.about_deadline(self._path.served.limits)):
            self.get_logger().info(about)
        return TransitionCallbackReturn.SUCCESS

    @loud
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Begins to answer. Whoever asks for that ends a stop, also one of an earlier process."""
        try:
            self._stop.release()
        except StoreError as error:
            self._say(f"not activated: the mark of a stop cannot be removed: {error}", amiss=True)
            return TransitionCallbackReturn.FAILURE
        self._actions = self.create_publisher(Action, "action", qos.DATA)
        self._loop = ControlLoop(
            self, Observation, "observation", qos.DATA, self._on_observation, self._on_beat,
            self._settings.heartbeat_period, self._rehearse, self._settings.rehearse_ahead, self.failed,
        )  # fmt: skip
        self._retry.cancel()
        self._path.begin()
        self._phase = "serving"
        # A full collection would look through all that was loaded, and hold the control thread up meanwhile.
        gc.collect()
        gc.freeze()
        self._heart.begin()
        self._loop.begin()
        self._say("serving")
        return TransitionCallbackReturn.SUCCESS

    @loud
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stops answering; the safe action goes out last."""
        self._part()
        self._retry.cancel()  # someone else decides from here on
        self._phase = "inactive"
        self._say("deactivated")
        return TransitionCallbackReturn.SUCCESS

    @loud
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Lets go of the policies."""
        self._retry.cancel()
        self._policies.unload()
        self.faulty = False  # see process.TellsFaults
        self._phase = "unconfigured"
        self._say("cleaned up")
        return TransitionCallbackReturn.SUCCESS

    @loud
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """From any state to the end; the safe action goes out last."""
        self._part()
        self._retry.cancel()
        self._phase = "shutdown"
        self._say("shut down")
        return TransitionCallbackReturn.SUCCESS

    @loud
    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """After a fault in another transition: back to the beginning."""
        self._part()
        self._policies.unload()
        self.faulty = False  # see process.TellsFaults
        self._phase = "unconfigured"
        self._say("a transition failed by a fault in the program, see the log", amiss=True)
        return TransitionCallbackReturn.SUCCESS

    def _autostart(self) -> None:
        if self._phase != "unconfigured":
            self._retry.cancel()  # someone else was quicker
        elif self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self._stop.read()
            if not self._stop.held_back:
                self.trigger_activate()
                return
            self._retry.cancel()
            self._say(self._stop.held_back, amiss=True)

    def _part(self) -> None:
        ended = self._loop is None or self._loop.end(PARTING_DEADLINE)
        self._stop.keep()
        if not ended:
            self.get_logger().fatal("the control thread hangs; the fallback has to act")
            return  # and no sign of life any more
        self._loop = None
        self._heart.end()
        if self._actions is None:
            return
        command = self._path.parting(self._now())
        if command is not None:
            self._actions.publish(command.serialized())
            if self._actions.get_subscription_count() > 0:
                self._actions.wait_for_all_acked(Duration(seconds=PARTING_DEADLINE))
        self.destroy_publisher(self._actions)
        self._actions = None

    # Control, in the control thread.

    def _rehearse(self) -> None:
        asked = read_observation(self._newest) if self._newest else None
        # Not may_answer(): it forgets what was observed while fallback commanded, once a later observation has come.
        if asked is not None and self._heart.may_act():
            self._path.rehearse(asked, self._now(asked), self._settings.rehearse_ahead)

    def _on_observation(self, payload: bytes) -> None:
        self._newest = payload
        asked = read_observation(payload)
        if asked is None:
            self.get_logger().error(f"{len(payload)} bytes are no observation", throttle_duration_sec=1.0)
            return
        if self._actions is None or not self._heart.may_answer(asked.stamp_ns):
            self._path.overheard(asked)
            return  # `fallback` commands the robot, or did when this was observed
        if asked.ended:
            self._path.episode_ended(asked)  # which asks for no action
            self._follow_verdict()
            return
        command = self._path.answer(asked, self._now(asked), self._heart.may_act)
        if command is not None:
            self._actions.publish(command.serialized())
            self._path.follow_up()
        self._follow_verdict()
        self._stop.follow()
        if command is None:
            self.get_logger().warning(
                f"nothing sent for observation {asked.sequence}, control was lost meanwhile: {self._path.last_fault}",
                throttle_duration_sec=1.0,
            )
        elif command.fallback:
            self.get_logger().warning(
                f"safe action for observation {asked.sequence}: {self._path.last_fault}", throttle_duration_sec=1.0
            )

    def _on_beat(self) -> None:
        self._heart.beat()
        if self._actions is None or not self._heart.may_act():
            return
        command = self._path.unanswered(self._now(), self._heart.may_act)
        if command is not None:
            self._actions.publish(command.serialized())
            self._stop.follow()
            self.get_logger().warning(f"safe action: {self._path.last_fault}", throttle_duration_sec=1.0)

    def _follow_verdict(self) -> None:
        if self._path.has_verdict and self.executor is not None:
            self.executor.create_task(self._policies.after_tick)

    def _now(self, asked: Asked | None = None) -> int:
        """The clock that stamps observations [ns]."""
        clock = self.get_clock()
        if not simulated(clock):
            return time.time_ns()  # the same clock; rclpy makes three objects on the way to it
        now = int(clock.now().nanoseconds)
        # Simulated time comes by message, maybe after the observation that it stamps, which proves the time.
        return now if asked is None else max(now, asked.stamp_ns)

    # What others are told.

    def _say(self, event: str, amiss: bool = False) -> None:
        """Publishes the status after a change."""
        self._last_event = event
        if self._policies.busy:
            self._steps.reset()
        else:
            self._steps.cancel()
        if amiss:
            self.get_logger().error(event)
        else:
            self.get_logger().info(event)
        self._publish_status()

    def _publish_status(self) -> None:
        serving = self._phase == "serving"
        served = self._path.served
        places, life, shadow = self._policies.places, self._policies.life.state, self._policies.shadow
        self._shown_swap = life
        probation = self._path.probation
        costs = self._shown_costs = self._costs()
        message = PolicyStatus(
            state="verifying" if serving and self._policies.busy else self._phase,
            active_id=served.id if served is not None else "",
            previous_id=places.previous or "",
            candidate_id=places.candidate or "",
            policy_generation=self._path.generation,
            first_sequence=self._path.first_sequence,
            actions_served=self._path.sequence,
            fallbacks=self._path.fallbacks,
            last_event=self._last_event,
            cost_limit=costs.limit,
            running_cost=costs.running,
            episodes=len(costs.newest),
            episode_cost_mean=costs.mean,
            episodes_over_limit=costs.over,
            swap_state=str(life),
            probation_left=probation.left if probation is not None else 0,
            trial_fault=self._policies.trial_fault,
            shadow_ticks=shadow.ticks,
            shadow_divergence_mean=shadow.divergence_mean,
            shadow_divergence_max=shadow.divergence_max,
            shadow_latency_p50=shadow.latency_p50,
            shadow_latency_p99=shadow.latency_p99,
            shadow_violations=shadow.violations.total(),
            shadow_unsafe=shadow.unsafe,
            safeguard_state=self._path.watch.state,
            unsafe_ticks=self._path.watch.unsafe_ticks,
        )
        message.header.stamp = self.get_clock().now().to_msg()
        self._status.publish(message)

    def _look(self) -> None:
        self._stop.look()
        self._policies.look_at_faults()
        self._policies.tell_store_again()
        if self._phase == "serving" and self._policies.look():
            self._say("the store was changed by another process")

        self._look_at_costs()

    def _look_at_costs(self) -> None:
        """Tells when episodes ended, and when the policy begins to violate its limit."""
        costs = self._costs()
        violating = self._path.generation if costs.violation else 0
        if violating not in (0, self._violating) and self._path.served is not None:
            self.get_logger().warning(f"policy {self._path.served.id} {costs.violation}")
        if costs.newest is not self._shown_costs.newest or violating != self._violating:
            self._publish_status()
        self._violating = violating

    def _costs(self) -> CostRecord:
        served = self._path.served
        return self._path.costs.record(served.runtime.spec.cost_limit if served is not None else math.nan)

    def _look_at_swap(self) -> None:
        if self._policies.life.state is not self._shown_swap:
            self._say(f"swap: {self._policies.life.state}")

    def _health(self) -> Health:
        return self._report.report(self._phase, self._last_event, self._costs())


def main() -> None:
    """Body of the executable."""
    sys.setswitchinterval(SWITCH_INTERVAL)
    process.main(PolicyServer)
