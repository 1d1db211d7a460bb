"""What policy_server can be told."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from saferule_ros.errors import SettingsError
from saferule_ros.nodes.last_command import DAMP_WITHIN
from saferule_ros.nodes.lease import longest_answer
from saferule_ros.nodes.parameters import parameter
from saferule_ros.nodes.served import LimitSettings
from saferule_ros.policy.failsafe import Limits, Reaction, Reason
from saferule_ros.policy.gate import usual_deadline
from saferule_ros.policy.probation import ProbationLimits
from saferule_ros.policy.shadow import ShadowLimits
from saferule_ros.policy.spec import PolicySpec
from saferule_ros.policy.stop_mark import StopMarkFile
from saferule_ros.safeguard.model import Safeguard, load_safeguard
from saferule_ros.workspace import Workspace


@dataclass(frozen=True)
class SwapSettings:
    """What a swap has to go through.

    Args:
        gate_deadline: largest 99th percentile of a policy's time per action [s]; 0: half of what it may take.
        longest_answer: how long it may take at most [s], see LimitSettings.
        gate_timeout: longest time for the gate's process [s].
        shadow: see there.
    """

    gate_deadline: float
    longest_answer: float
    gate_timeout: float
    shadow: ShadowLimits

    def deadline_of(self, spec: PolicySpec) -> float:
        """What the gate holds a policy to [s]. What it passes must not be late in service soon after."""
        return self.gate_deadline or usual_deadline(spec, self.longest_answer)


@dataclass(frozen=True)
class Parameters:
    """Parameters of policy_server."""

    workspace: str = parameter("", "folder of the robot's store; or give `store`")
    store: str = parameter("", "folder of the policy store; empty: the workspace's")
    autostart: bool = parameter(True, "configure and activate without a lifecycle manager")
    stale_after: float = parameter(
        0.5, "oldest observation that is acted on; one that is overdue for so long is missed", unit="s", low=0.001,
        high=60.0,
    )  # fmt: skip
    deadline: float = parameter(
        0.0, "longest time for one action, 0: the policy's control period; with `fallback` at most heartbeat_period",
        unit="s", low=0.0, high=60.0,
    )  # fmt: skip
    reaction: str = parameter(
        Reaction.ZERO.value, "what goes out instead of the policy's action", choices=tuple(r.value for r in Reaction)
    )
    reactions: str = parameter("", 'what goes out for single reasons instead, e.g. "late=hold, time_backwards=stop"')
    damping: float = parameter(0.8, "share of the last command that the reaction damp sends", low=0.0, high=0.999)
    damp_within: float = parameter(
        DAMP_WITHIN, "so long after a command the robot surely carries it out still, and damp begins from it; later "
        "from zero. Less than the time after which the robot stops without a command", unit="s", low=0.0, high=60.0,
    )  # fmt: skip
    largest_rate: float = parameter(
        0.0, "how fast an action may change, in halves of its range; 0: not limited", unit="1/s", low=0.0, high=1e6
    )
    keys: str = parameter("", "folder of the keys that are trusted; empty: `keys` beside the store")
    shadow_ticks: int = parameter(
        0, "observations that a new policy answers beside the active one before it acts", low=0, high=10_000_000
    )
    shadow_divergence: float = parameter(
        0.0, "largest mean difference in a shadow run, in halves of the action range; 0: not judged", low=0.0, high=2.0
    )
    shadow_patience: float = parameter(
        10.0, "longest wait for an observation in a shadow run", unit="s", low=0.1, high=3600.0
    )
    probation_ticks: int = parameter(
        50, "observations after a swap in which a fault brings the old policy back; 0: none", low=0, high=10_000_000
    )
    probation_late: int = parameter(2, "so many late actions in them are a fault", low=1, high=1_000_000)
    probation_cost: float = parameter(
        0.0, "an episode's cost in them beyond which it is a fault, units of the task; 0: the policy's own limit, -1: "
        "not watched", low=-1.0, high=1e9,
    )  # fmt: skip
    safeguard: str = parameter("", "file of the safeguard that is watched in every tick; empty: none")
    safeguard_enforced: bool = parameter(
        False, "in an unsafe state the reaction goes out in place of the policy's action, for the reason `unsafe`"
    )
    safeguard_tolerance: int = parameter(
        0, "unsafe ticks that a new policy may cause, in a shadow run and in its probation", low=0, high=10_000_000
    )
    heartbeat_period: float = parameter(0.02, "time between signs of life", unit="s", low=0.002, high=1.0)
    rehearse_ahead: float = parameter(
        0.001, "so long before the next observation is due, the last one is answered once more for nobody, so that the "
        "processor is awake and its caches are filled; 0: never", unit="s", low=0.0, high=0.1,
    )  # fmt: skip
    fallback: bool = parameter(False, "the node `fallback` stands by: command only while it says so")
    flights: str = parameter(
        "", "folder for logs of the ticks that led to a safe action; empty: `flights` beside the store"
    )
    gate_deadline: float = parameter(
        0.0, "gate: largest p99 of the time per action; 0: half the control period, with `fallback` half of "
        "heartbeat_period at most", unit="s", low=0.0, high=60.0,
    )  # fmt: skip
    gate_timeout: float = parameter(120.0, "gate: longest time for all its checks", unit="s", low=1.0, high=3600.0)

    @property
    def store_folder(self) -> Path:
        """Folder of the policy store.

        Raises:
            SettingsError: neither it nor the workspace is set.
        """
        if not self.store and not self.workspace:
            raise SettingsError("policy_server was given neither workspace nor store", "Set one of these parameters")
        given = Path(self.store) if self.store else Workspace(Path(self.workspace)).store
        return given.expanduser().absolute()

    @property
    def limits(self) -> LimitSettings:
        """What actions are held against."""
        return LimitSettings(
            self.stale_after, self.deadline, Reaction(self.reaction), self._reactions(), self.damping,
            self.largest_rate, self.longest_answer,
        )  # fmt: skip

    @property
    def longest_answer(self) -> float:
        """For so long an answer may take and still go out [s], see lease; without a fallback no matter how long."""
        return longest_answer(self.heartbeat_period) if self.fallback else math.inf

    def about_deadline(self, limits: Limits) -> str:
        """That a policy's actions are late earlier than was asked for; "" if not."""
        asked_for = self.deadline or 1.0 / limits.spec.control_rate
        if limits.deadline_s >= asked_for:
            return ""
        return (
            f"an action is late after {limits.deadline_s:g} s, not {asked_for:g} s: fallback takes over soon after. "
            "For a slower policy set a longer heartbeat_period"
        )

    @property
    def stop_mark(self) -> StopMarkFile:
        """What outlives this process while no policy may act."""
        return StopMarkFile(self.store_folder)

    @property
    def keys_folder(self) -> Path:
        """Folder of the keys that are trusted."""
        return self._beside_store(self.keys, "keys")

    @property
    def flights_folder(self) -> Path:
        """Folder of the flight logs."""
        return self._beside_store(self.flights, "flights")

    @property
    def swap(self) -> SwapSettings:
        """What a swap has to go through."""
        return SwapSettings(
            self.gate_deadline, self.longest_answer, self.gate_timeout,
            ShadowLimits(self.shadow_ticks, self.shadow_divergence, self.shadow_patience, self.safeguard_tolerance),
        )  # fmt: skip

    def probation(self, ticks: int, spec: PolicySpec) -> ProbationLimits:
        """What a policy has to get through after its swap."""
        cost = math.inf if self.probation_cost < 0.0 else self.probation_cost or spec.cost_limit
        return ProbationLimits(ticks, self.probation_late, cost, self.safeguard_tolerance)

    def load_safeguard(self) -> Safeguard | None:
        """What is watched.

        Raises:
            SaferuleError: the file cannot be read, or is no safeguard; or others ask for one that is enforced.
        """
        if self.safeguard_enforced and not self.safeguard:
            raise SettingsError(
                "safeguard_enforced is set, and there is no safeguard to enforce", "Give its file as `safeguard`"
            )
        if Reason.UNSAFE in self._reactions() and not self.safeguard_enforced:
            raise SettingsError(
                "parameter reactions has one for unsafe states, and no safeguard is enforced", "Set safeguard_enforced"
            )
        return load_safeguard(Path(self.safeguard).expanduser().absolute()) if self.safeguard else None

    def _beside_store(self, given: str, name: str) -> Path:
        return Path(given).expanduser().absolute() if given else self.store_folder.parent / name

    def _reactions(self) -> dict[Reason, Reaction]:
        found = {}
        for entry in filter(None, (part.strip() for part in self.reactions.split(","))):
            reason, _, reaction = entry.partition("=")
            if reason not in tuple(Reason) or reaction not in tuple(Reaction):
                raise SettingsError(
                    f"parameter reactions has {entry!r}",
                    f"Give REASON=REACTION, … Reasons: {', '.join(Reason)}. Reactions: {', '.join(Reaction)}",
                )
            found[Reason(reason)] = Reaction(reaction)
        return found
