"""Swap and rollback up to the switch itself: all that takes time, for a thread of its own.

Order, and what a kill in between leaves behind:

1. gate, load, warm up          the store is as it was, the old policy acts
2. the store activates (fsync)  from here a restart serves the new policy, which has passed the gate
3. the switch                   one assignment between two callbacks, in the control thread
4. the reply                    only now does anyone hear of success

A store that names a policy which has not acted yet is harmless. The other order, acting before the store says
so, would leave actions that no store and no audit log accounts for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from saferule_ros.policy.errors import GateRefusedError, PolicyError, StoreError
from saferule_ros.policy.gate_process import run_gate_process
from saferule_ros.policy.places import Places
from saferule_ros.policy.runtime import PolicyRuntime
from saferule_ros.policy.store import PolicyStore


@dataclass(frozen=True)
class Exchange:
    """A policy that the store calls active now, loaded and warm, ready for the switch."""

    runtime: PolicyRuntime
    message: str
    places: Places
    gate_seconds: float = math.nan  # [s]; NaN where there was no gate


class Swapper:
    """Makes exchanges. Blocks for as long as they take.

    Args:
        store: where policies come from.
        gate_deadline: largest 99th percentile of a policy's time per action [s]; 0: half its control period.
        gate_timeout: longest time for the gate's process [s].
    """

    def __init__(self, store: PolicyStore, gate_deadline: float, gate_timeout: float) -> None:
        self._store = store
        self._gate_deadline = gate_deadline
        self._gate_timeout = gate_timeout

    def swap(self, policy_id: str, serving: PolicyRuntime) -> Exchange:
        """Gates a bundle (empty id: the candidate), loads it and makes it the store's active one.

        Raises:
            PolicyError: what is wrong with it; the store and what serves are as before.
        """
        target = policy_id or self._store.require("candidate")
        if target == serving.bundle_id:
            raise PolicyError(f"policy {target} is active already", "Name another one; the list service shows them")
        deadline = self._gate_deadline or 0.5 / serving.spec.control_rate
        report = run_gate_process(self._store.root, target, serving.spec, deadline, timeout_s=self._gate_timeout)
        try:
            report.require()
        except GateRefusedError as error:
            self._store.record("refuse_swap", target, reason=error.what, requester="policy_server/swap")
            raise
        runtime = PolicyRuntime(*self._store.get(target))
        self._store.activate(target, reason=report.summary, requester="policy_server/swap")
        message = f"swapped {serving.bundle_id} -> {target}: {report.summary}"
        return Exchange(runtime, message, self._store.places(), report.seconds)

    def roll_back(self, reason: str, serving: PolicyRuntime, kept: PolicyRuntime | None) -> Exchange:
        """Swaps the store's active and previous bundles. Quick where `kept` is the previous one, still loaded.

        No gate: it has served before, and whoever rolls back is in a hurry.

        Raises:
            PolicyError: there is no previous, or it does not load or fit; what serves is as before.
        """
        target = self._store.require("previous")
        runtime = kept if kept is not None and kept.bundle_id == target else PolicyRuntime(*self._store.get(target))
        differences = serving.spec.differences(runtime.spec)
        if differences:
            raise PolicyError(
                f"previous policy {target} is for another robot or task: {'; '.join(differences)}",
                "Swap to a policy of this one",
            )
        now = self._store.rollback(reason=reason, requester="policy_server/rollback")
        if now != target:
            raise StoreError(
                f"someone else changed the store meanwhile: {now} is active, not {target}",
                "See the list service, then swap to the one that is meant",
            )
        return Exchange(runtime, f"rolled back {serving.bundle_id} -> {target}: {reason}", self._store.places())
