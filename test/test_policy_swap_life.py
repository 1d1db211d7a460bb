"""The life of a swap: its table, the probation after it, the shadow run before it, and the log of a fault."""

from __future__ import annotations

import json
import threading
import tracemalloc
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safeguard_samples import safeguard_file
from serving_samples import SPEC, TanhPolicy, make_store

from saferule_ros.policy import flight, shadow, swap_life
from saferule_ros.policy.errors import InferenceError
from saferule_ros.policy.failsafe import Limits, Reaction, Reason, Tick, decide
from saferule_ros.policy.probation import Probation, ProbationLimits
from saferule_ros.policy.runtime import PolicyRuntime
from saferule_ros.policy.shadow import Seen, ShadowLimits, ShadowRefusedError, Tap, run_shadow
from saferule_ros.policy.swap_life import (
    CANCELLABLE,
    TRANSITIONS,
    Event,
    State,
    SwapCancelledError,
    SwapLife,
    SwapRefusedError,
)
from saferule_ros.safeguard.model import Safeguard
from saferule_ros.safeguard.monitor import Monitor

LIMITS = Limits(SPEC, stale_after_s=1.0, deadline_s=0.02)


def test_the_drawing_in_the_docs_is_of_this_table() -> None:
    path = Path(__file__).resolve().parent.parent / "docs" / "swap.md"
    assert path.read_text() == swap_life.document(), f"python -m saferule_ros.policy.swap_life > {path}"


def test_every_state_can_be_reached_and_left_and_ends_in_steady() -> None:
    assert len({(row.state, row.event) for row in TRANSITIONS}) == len(TRANSITIONS)
    reached, waiting = {State.STEADY}, [State.STEADY]
    while waiting:
        state = waiting.pop()
        for row in TRANSITIONS:
            if row.state is state and row.to not in reached:
                reached.add(row.to)
                waiting.append(row.to)
    assert reached == set(State)
    ends = {State.STEADY}
    for _ in State:
        ends |= {row.state for row in TRANSITIONS if row.to in ends}
    assert ends == set(State)
    # Whatever is under way beside control can fail, and then nothing is under way.
    beside = set(State) - {State.STEADY, State.PROBATION}
    assert {row.state for row in TRANSITIONS if row.event is Event.REFUSED and row.to is State.STEADY} == beside


@given(st.lists(st.sampled_from(list(Event)), max_size=40))
def test_what_the_table_does_not_have_is_refused_and_changes_nothing(events: list[Event]) -> None:
    life, table = SwapLife(), {(row.state, row.event): row.to for row in TRANSITIONS}
    for event in events:
        before = life.state
        if (before, event) in table:
            assert life.on(event) is table[before, event] is life.state
        else:
            with pytest.raises(SwapRefusedError, match=f"{event} is not possible"):
                life.on(event)
            assert life.state is before


def test_a_second_swap_during_a_swap_is_refused_in_every_state() -> None:
    for state in set(State) - {State.STEADY}:
        life = SwapLife()
        life.state = state
        with pytest.raises(SwapRefusedError, match=f"under way \\({state}\\)"):
            life.on(Event.SWAP)


@pytest.mark.parametrize("begun", [(), (Event.PASSED,), (Event.PASSED, Event.TRY_BESIDE)])
def test_a_swap_that_is_cancelled_takes_no_further_step(begun: tuple[Event, ...]) -> None:
    life = SwapLife()
    for event in (Event.SWAP, *begun):
        life.on(event)
    life.check_wanted()
    assert life.state in CANCELLABLE
    life.on(Event.ROLL_BACK)
    with pytest.raises(SwapCancelledError):
        life.check_wanted()
    for step in (Event.PASSED, Event.TRY_BESIDE):
        with pytest.raises(SwapCancelledError):
            life.on(step)
    assert life.on(Event.REFUSED) is State.STEADY
    life.check_wanted()


def test_a_swap_that_the_store_knows_of_cannot_be_cancelled() -> None:
    assert {State.VERIFYING, State.LOADING, State.SHADOWING} == CANCELLABLE
    life = SwapLife()
    for event in (Event.SWAP, Event.PASSED, Event.PASSED):
        life.on(event)
    with pytest.raises(SwapRefusedError, match=r"under way \(activating\)"):
        life.on(Event.ROLL_BACK)


FAULTS = (Reason.INFERENCE_ERROR, Reason.NON_FINITE_ACTION, Reason.OUT_OF_BOUNDS, Reason.WRONG_SIZE, Reason.TOO_FAST)


@pytest.mark.parametrize("reason", FAULTS)
def test_one_faulty_action_ends_a_probation(reason: Reason) -> None:
    probation = Probation(ProbationLimits(ticks=10))
    assert probation.judge(Reason.NONE, "", 0.0) == ""
    assert probation.judge(reason, "because", 0.0) == f"{reason}: because"


def test_late_actions_are_counted_and_costs_are_summed_where_that_is_asked_for() -> None:
    probation = Probation(ProbationLimits(ticks=10, late=2))
    assert probation.judge(Reason.LATE, "21 ms", 0.0) == "" and probation.judge(Reason.NONE, "", 100.0) == ""
    assert probation.judge(Reason.LATE, "22 ms", 0.0) == "late: 2 late actions, the last: 22 ms"
    costly = Probation(ProbationLimits(ticks=10, cost=2.5))
    assert [costly.judge(Reason.NONE, "", cost) for cost in (0.0, 1.0, float("nan"), -5.0, 1.5)] == [""] * 5
    assert costly.judge(Reason.NONE, "", 0.5) == "cost: 3 since the swap, limit 2.5"
    costly.begin_episode(0.0)
    assert costly.judge(Reason.NONE, "", 2.5) == "" and costly.led_to(1.0, "") == "cost: 3.5 since the swap, limit 2.5"


def test_where_the_policy_before_had_driven_to_is_not_the_new_ones_fault() -> None:
    probation = Probation(ProbationLimits(ticks=20, cost=1.0, unsafe=1))
    for cost in (5.0, float("nan"), 5.0):
        assert probation.judge(Reason.NONE, "", cost, "state crashed") == ""
    assert probation.judge(Reason.NONE, "", 0.0) == ""
    assert probation.judge(Reason.NONE, "", 1.0, "state near") == "", "one is tolerated"
    told = "safeguard: 2 unsafe ticks, 1 tolerated, the last: state crashed"
    assert probation.led_to(0.0, "state crashed") == told


def test_a_probation_is_over_after_its_ticks() -> None:
    probation = Probation(ProbationLimits(ticks=3))
    for _ in range(3):
        assert not probation.over
        assert probation.judge(Reason.NONE, "", 0.0) == ""
    assert probation.over


def shadowed(runtime: PolicyRuntime, acting: TanhPolicy, ticks: int, limits: Limits = LIMITS) -> tuple[object, Tap]:
    tap = Tap(ticks)
    for row in np.random.default_rng(3).standard_normal((ticks + 5, SPEC.observation_size)).astype(np.float32):
        tap.put(row, acting.act(row[None])[0])  # more than asked for: the tap is full by then
    return run_shadow(runtime, limits, ShadowLimits(ticks, patience=0.1), tap), tap


def test_a_shadow_run_counts_how_the_candidate_differs(tmp_path: Path) -> None:
    store, ids = make_store(tmp_path, 1, 2)
    same, _ = shadowed(PolicyRuntime(*store.get(ids[0])), TanhPolicy(1), 50)
    assert same.ticks == 50 and same.divergence_max < 1e-5 and not same.violations
    assert 0.0 < same.latency_p50 <= same.latency_p99
    other, _ = shadowed(PolicyRuntime(*store.get(ids[1])), TanhPolicy(1), 50)
    given = np.random.default_rng(3).standard_normal((50, SPEC.observation_size)).astype(np.float32)
    expected = np.abs(TanhPolicy(2).act(given) - TanhPolicy(1).act(given)).max(axis=1)
    assert other.divergence_mean == pytest.approx(expected.mean(), rel=1e-4)
    assert other.divergence_max == pytest.approx(expected.max(), rel=1e-4)
    other.require(ShadowLimits(50))
    with pytest.raises(ShadowRefusedError, match=r"allowed on average: 0\.01"):
        other.require(ShadowLimits(50, divergence=0.01))


@pytest.mark.parametrize(("begins", "gap"), [(True, False), (False, True), (False, False)])
def test_no_rate_is_held_against_what_was_answered_in_another_episode_or_before_a_gap(
    tmp_path: Path, begins: bool, gap: bool
) -> None:
    """Two places between which the policy's action differs; in each it stays the same."""
    store, ids = make_store(tmp_path, 1)
    runtime, tap = PolicyRuntime(*store.get(ids[0])), Tap(4)
    for place in np.random.default_rng(3).standard_normal((2, SPEC.observation_size)).astype(np.float32):
        for step in range(2):
            first = step == 0
            tap.put(place, runtime.act(place), begins and first, gap=gap and first)
    report = run_shadow(runtime, replace(LIMITS, largest_rate=1.0), ShadowLimits(4, patience=0.1), tap)
    assert report.violations == ({} if begins or gap else {"too_fast": 1})


def test_what_a_candidate_may_not_send_is_counted_by_reason(tmp_path: Path) -> None:
    store, ids = make_store(tmp_path, 1)
    narrow = SPEC.model_copy(update={"action_low": (-0.1, -0.1), "action_high": (0.1, 0.1)})
    report, _ = shadowed(PolicyRuntime(*store.get(ids[0])), TanhPolicy(1), 50, replace(LIMITS, spec=narrow))
    assert set(report.violations) == {"out_of_bounds"} and report.violations.total() > 25
    with pytest.raises(ShadowRefusedError, match=r"violations: \d+ out_of_bounds; the first: out_of_bounds: action"):
        report.require(ShadowLimits(50))
    fast, _ = shadowed(PolicyRuntime(*store.get(ids[0])), TanhPolicy(1), 50, replace(LIMITS, largest_rate=1.0))
    assert set(fast.violations) == {"too_fast"}


PUSHING = Safeguard.model_validate(safeguard_file(
    (28, 2), {"pushing": "action[0] > 0.3", "far": "observation[0] > 1"}, ("far", "pushed"),
    ("clear", "far", "far"), ("clear", "pushing", "pushed"), ("pushed", "not pushing", "clear"),
    ("far", "not far", "clear"),
))  # fmt: skip


def test_a_candidate_is_blamed_for_what_its_actions_would_break_and_not_for_where_the_active_one_is(
    tmp_path: Path,
) -> None:
    store, ids = make_store(tmp_path, 1, 2)
    rows = np.random.default_rng(3).standard_normal((60, SPEC.observation_size)).astype(np.float32)
    acted, candidate = TanhPolicy(1).act(rows), TanhPolicy(2).act(rows)
    broken, monitors = 0, (Monitor(PUSHING), Monitor(PUSHING))
    for number in range(60):
        if number in (0, 30):
            monitors[0].reset()
            monitors[1].reset()
            continue
        steps = [m.step(rows[number], led[number - 1]) for m, led in zip(monitors, (acted, candidate), strict=True)]
        broken += steps[1].unsafe and not steps[0].unsafe
    for policy_id, expected in ((ids[1], broken), (ids[0], 0)):
        tap = Tap(60)
        for number, row in enumerate(rows):
            tap.put(row, acted[number], begins=number == 30)
        limits = ShadowLimits(60, patience=0.1, unsafe=max(0, expected - 1))
        report = run_shadow(PolicyRuntime(*store.get(policy_id)), LIMITS, limits, tap, PUSHING)
        assert report.unsafe == report.violations.total() == expected
        report.require(replace(limits, unsafe=expected))
    assert broken > 3
    report = replace(report, violations=Counter({"safeguard": broken}), first_violation="safeguard: state pushing")
    with pytest.raises(ShadowRefusedError, match=rf"violations: {broken} safeguard; the first: safeguard: state push"):
        report.require(ShadowLimits(60, unsafe=broken - 1))


def test_a_shadow_run_that_sees_nothing_ends(tmp_path: Path) -> None:
    store, ids = make_store(tmp_path, 1)
    with pytest.raises(ShadowRefusedError, match=r"no observation came in 0\.05 s"):
        run_shadow(PolicyRuntime(*store.get(ids[0])), LIMITS, ShadowLimits(5, patience=0.05), Tap(5))


def test_a_shadow_run_that_is_not_wanted_any_more_ends_though_nothing_is_seen(tmp_path: Path) -> None:
    store, ids = make_store(tmp_path, 1)
    life, tried = SwapLife(), threading.Event()
    for event in (Event.SWAP, Event.PASSED, Event.TRY_BESIDE):
        life.on(event)

    def wanted() -> None:
        tried.set()
        life.check_wanted()

    def cancel() -> None:
        assert tried.wait(30.0)
        life.on(Event.ROLL_BACK)

    canceller = threading.Thread(target=cancel)
    canceller.start()
    with pytest.raises(SwapCancelledError):
        run_shadow(PolicyRuntime(*store.get(ids[0])), LIMITS, ShadowLimits(5, patience=60.0), Tap(5, wanted))
    canceller.join()


def test_a_candidate_that_falls_far_behind_is_refused_and_what_waits_for_it_does_not_grow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shadow, "BACKLOG", 20)
    store, ids = make_store(tmp_path, 1)
    tap, row = Tap(10_000_000), np.zeros(SPEC.observation_size, np.float32)
    for _ in range(20):
        tap.put(row, np.zeros(2, np.float32))
    assert tap.get(0.0, 0.0).observation is row, "so many may wait"
    tap.put(row, np.zeros(2, np.float32))
    for _ in range(100):
        tap.put(row, np.zeros(2, np.float32))
    with pytest.raises(ShadowRefusedError, match="20 observations wait for the candidate"):
        run_shadow(PolicyRuntime(*store.get(ids[0])), LIMITS, ShadowLimits(10_000_000), tap)
    assert tap._queue.qsize() == 20


class Endless(Tap):
    """Always has one more observation, and notes the memory in use when `after` of them were seen."""

    def __init__(self, ticks: int, after: int) -> None:
        super().__init__(ticks)
        self.after, self.seen, self.used = after, 0, 0

    def get(self, until: float, patience: float) -> Seen:
        self.seen += 1
        if self.seen == self.after:
            self.used, _ = tracemalloc.get_traced_memory()
        return Seen(np.full(SPEC.observation_size, self.seen % 7, np.float32), np.zeros(2, np.float32))


def test_a_long_shadow_run_takes_no_more_memory_than_a_short_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shadow, "REMEMBERED_TIMES", 100)
    store, ids = make_store(tmp_path, 1)
    runtime, ticks = PolicyRuntime(*store.get(ids[0])), 5000
    tap = Endless(ticks, after=500)
    tracemalloc.start()
    try:
        report = run_shadow(runtime, LIMITS, ShadowLimits(ticks), tap)
        at_the_end, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert at_the_end - tap.used < 4000 * 8, "less than a float for each further tick"
    given = np.stack([np.full(SPEC.observation_size, number % 7, np.float32) for number in range(1, ticks + 1)])
    expected = np.abs(TanhPolicy(1).act(given)).max(axis=1)
    assert report.ticks == ticks and report.divergence_max == pytest.approx(expected.max(), rel=1e-4)
    assert report.divergence_mean == pytest.approx(expected.mean(), rel=1e-4) and report.latency_p99 > 0.0


def test_a_candidate_that_fails_is_a_violation_not_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, ids = make_store(tmp_path, 1)
    runtime = PolicyRuntime(*store.get(ids[0]))

    def fail(_: object) -> np.ndarray:
        raise InferenceError("boom")

    monkeypatch.setattr(runtime, "act", fail)
    report, _ = shadowed(runtime, TanhPolicy(1), 5)
    assert report.violations == Counter({"inference_error": 5})


def test_a_flight_log_decides_again_as_it_did(tmp_path: Path) -> None:
    limits = replace(LIMITS, reaction=Reaction.HOLD, reactions={Reason.LATE: Reaction.DAMP}, largest_rate=5.0)
    recorder, last = flight.FlightRecorder(100), None
    for number, row in enumerate(np.random.default_rng(0).standard_normal((150, 28)).astype(np.float32)):
        tick = Tick(
            has_policy=True, observation=row[: 28 - (number % 10 == 3)], stamp_ns=number * 20_000_000,
            previous_stamp_ns=(number - 1) * 20_000_000, now_ns=number * 20_000_000, last_action=last,
            action=TanhPolicy(1).act(row[None])[0], elapsed_s=0.03 if number % 10 == 5 else 0.001,
            last_was_policy=number % 3 == 0, unsafe="state pushed" if number % 10 == 7 else "",
        )  # fmt: skip
        decision = decide(limits, tick)
        last = decision.action
        recorder.note(limits, "p", tick, decision)
    path = tmp_path / "flights" / "log.jsonl"
    flight.write(recorder.copy(), path)
    replayed = flight.replay(path)
    assert replayed.ticks == 100 and replayed.differing == ()
    assert {"none", "wrong_size", "unsafe", "late", "too_fast"} <= set(replayed.reasons)
    lines = path.read_text().splitlines()
    forged = json.loads(lines[7])
    forged["tick"]["elapsed_s"] = 5.0
    path.write_text("\n".join([*lines[:7], json.dumps(forged), *lines[8:]]))
    assert flight.replay(path).differing == (8,)
    deep, far = "[" * 100_000, lines[1].replace('"now_ns": ', '"now_ns": 1' + "0" * 400)
    shape = json.dumps(json.loads(lines[0]) | {"reactions": []})
    for bad in ("", "{}", "[]\n", lines[0] + "\n{}", deep, shape, lines[0] + "\n" + far):
        path.write_text(bad)
        with pytest.raises(flight.FlightError, match="is no flight log"):
            flight.replay(path)


def test_two_threads_cannot_both_begin_a_swap() -> None:
    life, begun, refused = SwapLife(), [], []
    barrier = threading.Barrier(8)

    def ask() -> None:
        barrier.wait()
        try:
            begun.append(life.on(Event.SWAP))
        except SwapRefusedError as error:
            refused.append(error)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(begun) == 1 and len(refused) == 7
