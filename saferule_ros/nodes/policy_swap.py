"""Swap and rollback up to the switch itself: all that takes time, for a thread of its own.

Order, and what a kill in between leaves behind:

1. gate, load, warm up, shadow  the store is as it was, the old policy acts
2. the store activates (fsync)  on trial: a restart before the end of the probation brings the old policy back
3. the switch                   one assignment between two callbacks, in the control thread
4. the reply                    only now does anyone hear of success
5. the end of the probation     the store says that the policy is good, or that the old one is active again

Up to the second a rollback cancels a swap: the next step is then refused by SwapLife, and what waits looks there.

A store that names a policy which has not acted yet is harmless. The other order, acting before the store says
so, would leave actions that no store and no audit log accounts for.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from saferule_ros.nodes.policy_parameters import SwapSettings
from saferule_ros.nodes.served import LimitSettings
from saferule_ros.policy.errors import PolicyError, StoreError
from saferule_ros.policy.gate import GateReport
from saferule_ros.policy.gate_process import run_gate_process
from saferule_ros.policy.places import Place, Places
from saferule_ros.policy.refusals import RefusedBundleError
from saferule_ros.policy.runtime import PolicyRuntime
from saferule_ros.policy.shadow import ShadowRefusedError, ShadowReport, Tap, run_shadow
from saferule_ros.policy.store import PolicyStore
from saferule_ros.policy.swap_life import Event, SwapCancelledError, SwapLife
from saferule_ros.safeguard.model import Safeguard

# Who brings a policy back, or leaves it, in the audit log.
PROBATION = "policy_server/probation"


@dataclass(frozen=True)
class Exchange:
    """A policy that the store calls active now, loaded and warm, ready for the switch."""

    runtime: PolicyRuntime | None  # None: it acts already
    message: str
    places: Places
    gate_seconds: float = math.nan  # [s]; NaN where there was no gate


@dataclass(frozen=True)
class SwapRequest:
    """What was asked for, and by whom."""

    policy_id: str  # "": the candidate
    shadow_ticks: int
    probation_ticks: int
    reason: str
    requester: str


@dataclass(frozen=True)
class Remembered:
    """What policy_server knows of the policies before, for a rollback.

    Args:
        kept: the newest of them, loaded and warm; None: it is not.
        acted: ids of what has acted here without a fault, and of what was previous at the start.
        failed: what was taken back, while the store still calls it active; empty: nothing.
    """

    kept: PolicyRuntime | None = None
    acted: frozenset[str] = frozenset()
    failed: str = ""


class Swapper:
    """Makes exchanges. Blocks for as long as they take.

    Args:
        store: where policies come from.
        settings: what a swap has to go through.
        limits: what actions are held against.
        life: told of every step.
        safeguard: what a candidate must not break in a shadow run; None: nothing.
    """

    def __init__(
        self, store: PolicyStore, settings: SwapSettings, limits: LimitSettings, life: SwapLife,
        safeguard: Safeguard | None = None,
    ) -> None:  # fmt: skip
        self._store = store
        self._settings = settings
        self._limits = limits
        self._life = life
        self._safeguard = safeguard
        self.shadow = ShadowReport()  # of the newest shadow run, passed or not
        self._cancelled_by = ("", "")  # reason and requester

    def swap(self, request: SwapRequest, serving: PolicyRuntime, listen: Callable[[Tap | None], None]) -> Exchange:
        """Gates a bundle, loads it, lets it answer in the shadow if asked, and makes it the store's active one.

        Args:
            request: which one.
            serving: what acts now.
            listen: gives the control path a tap for the shadow run, and None when that is over.

        Raises:
            SwapCancelledError: see cancel(); the store and what serves are as before.
            PolicyError: what is wrong with it; the same.
        """
        target = request.policy_id or self._store.require("candidate")
        if target == serving.bundle_id:
            raise PolicyError(f"policy {target} is active already", "Name another one; the list service shows them")
        with self._store.reserving(target):  # nobody prunes it meanwhile
            try:
                return self._swap(target, request, serving, listen)
            except SwapCancelledError as error:
                reason, requester = self._cancelled_by
                self._store.record("cancel_swap", target, reason=reason, requester=requester)
                raise SwapCancelledError(f"{requester} cancelled the swap to {target}: {reason}") from error

    def cancel(self, reason: str, requester: str) -> None:
        """Keeps the swap that is under way from happening. It ends soon, in its own thread.

        Raises:
            SwapRefusedError: none is under way, or it has come too far.
        """
        self._cancelled_by = (reason, requester)  # before its thread can see that it is to end
        self._life.on(Event.ROLL_BACK)

    def _swap(
        self, target: str, request: SwapRequest, serving: PolicyRuntime, listen: Callable[[Tap | None], None]
    ) -> Exchange:
        report = self.judge(target, serving, self._life.check_wanted)
        try:
            report.require()
        except RefusedBundleError as error:
            self._refuse(target, error, request)
            raise
        self._life.on(Event.PASSED)
        runtime = PolicyRuntime(*self._store.get(target))
        shadow = self._try_beside(runtime, request, listen)
        self._life.on(Event.PASSED)
        message = "; ".join([report.summary, *([shadow.summary] if shadow else [])])
        why = f"{request.reason}: {message}" if request.reason else message
        on_trial = request.probation_ticks > 0
        self._store.activate(
            target, trial=on_trial, acting=serving.bundle_id, reason=why, requester=request.requester
        )  # fmt: skip
        message = f"swapped {serving.bundle_id} -> {target}: {message}"
        return Exchange(runtime, message, self._store.places(), report.seconds)

    def judge(
        self, target: str, serving: PolicyRuntime | None, wanted: Callable[[], None] = lambda: None
    ) -> GateReport:
        """The gate's verdict, from its own process; without a serving policy, the bundle's own contract is the measure.

        Args:
            target: which policy.
            serving: what acts.
            wanted: what it raises ends the gate, see run_gate_process.

        Raises:
            PolicyError: it cannot be judged.
        """
        spec = serving.spec if serving is not None else None
        deadline = self._settings.deadline_of(spec or self._store.get(target).manifest.spec)
        return run_gate_process(
            self._store.root, target, spec, deadline,
            timeout_s=self._settings.gate_timeout, keys=self._store.keys.folder, wanted=wanted,
        )  # fmt: skip

    def prove_good(self, policy_id: str) -> Places:
        """Says in the store that a policy has got through its probation."""
        self._store.prove_good(policy_id, reason="got through its probation", requester=PROBATION)
        return self._store.places()

    def prove_bad(self, policy_id: str, reason: str, requester: str) -> Places:
        """Says in the store that a policy has not, and the one before the trial is active again."""
        self._store.prove_bad(policy_id, reason=reason, requester=requester)
        return self._store.places()

    def _try_beside(
        self, runtime: PolicyRuntime, request: SwapRequest, listen: Callable[[Tap | None], None]
    ) -> ShadowReport | None:
        if request.shadow_ticks == 0:
            return None
        self._life.on(Event.TRY_BESIDE)
        limits = replace(self._settings.shadow, ticks=request.shadow_ticks)
        tap = Tap(limits.ticks, self._life.check_wanted)
        listen(tap)
        try:
            self.shadow = report = run_shadow(runtime, self._limits.of(runtime), limits, tap, self._safeguard)
            report.require(limits)
        except ShadowRefusedError as error:
            self._refuse(runtime.bundle_id, error, request)
            raise
        finally:
            listen(None)
        return report

    def _refuse(self, target: str, error: PolicyError, request: SwapRequest) -> None:
        self._store.record("refuse_swap", target, reason=error.what, requester=request.requester)

    def roll_back(self, reason: str, requester: str, serving: PolicyRuntime, remembered: Remembered) -> Exchange:
        """Swaps the store's active and previous bundles. Quick where the previous one is still loaded.

        Where someone else has done that already, what the store calls active now is loaded; where what was active has
        failed, and the store could not be told so yet, it is told, and what acts stays. No gate: what a rollback leads
        to has acted here before, and whoever rolls back is in a hurry.

        Raises:
            PolicyError: there is no previous, it has not acted here, or it does not load or fit; what serves is as
                before.
        """
        places = self._store.places()
        if remembered.failed and places.trial and places.active == remembered.failed:
            return self._complete_revert(reason, requester, serving, remembered.failed)
        by_another = places.active != serving.bundle_id
        place: Place = "active" if by_another else "previous"
        target = self._store.require(place)
        if target not in remembered.acted:
            raise PolicyError(
                f"policy {target}, which the store calls {place}, has not acted here, or only with a fault: a rollback "
                "leads to what has proved good",
                f"Swap to {target}, through gate and probation, or to another one that the list service shows",
            )
        kept = remembered.kept
        runtime = kept if kept is not None and kept.bundle_id == target else PolicyRuntime(*self._store.get(target))
        differences = serving.spec.differences(runtime.spec)
        if differences:
            raise PolicyError(
                f"{place} policy {target} is for another robot or task: {'; '.join(differences)}",
                "Swap to a policy of this one",
            )
        now = target if by_another else self._store.rollback(reason=reason, requester=requester)
        if now != target:
            raise StoreError(
                f"someone else changed the store meanwhile: {now} is active, not {target}",
                "See the list service, then swap to the one that is meant",
            )
        return Exchange(runtime, f"rolled back {serving.bundle_id} -> {target}: {reason}", self._store.places())

    def _complete_revert(self, reason: str, requester: str, serving: PolicyRuntime, failed: str) -> Exchange:
        self._store.prove_bad(failed, reason=reason, requester=requester)
        message = (
            f"{serving.bundle_id} acts already: {failed} failed and was taken back, which the store knows only now. "
            "Another rollback leads to the one before"
        )
        return Exchange(None, message, self._store.places())
