"""Messages become episodes exactly; what is missing is counted, cut away, and never filled in."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from dataset_samples import make_episode
from recording_samples import START, TICK, action, observation, same_arrays, stream

from saferule_ros.recording import open_episode, overflow
from saferule_ros.recording.assembler import MAX_WAITING_COMMANDS, EpisodeAssembler
from saferule_ros.recording.assembly import AssembledEpisode, Faults
from saferule_ros.recording.messages import ActionMessage, ObservationMessage

EPISODE = make_episode(3, length=8, terminated=True, truncated=False, fallbacks=2)


def feed(messages, assembler=None) -> list[AssembledEpisode]:
    """Hands in messages, numbered, and returns what is finished before the stream ends."""
    assembler = assembler or EpisodeAssembler("monday")
    finished = []
    for number, message in enumerate(messages):
        take = assembler.observation if isinstance(message, ObservationMessage) else assembler.action
        finished += take(message, number)
    return finished


def only(messages) -> AssembledEpisode:
    """The one episode in a stream, open ones included."""
    assembler = EpisodeAssembler("monday")
    (assembled,) = [*feed(messages, assembler), *assembler.finish()]
    return assembled


def without(kind, step):
    """The stream of EPISODE, less one message."""
    left_out = kind(EPISODE, step)
    return [m for m in stream(EPISODE) if type(m) is not type(left_out) or m.sequence != left_out.sequence]


def replaced(kind, step, **changes):
    """The stream of EPISODE with one message changed."""
    old = kind(EPISODE, step)
    return [
        m._replace(**changes) if type(m) is type(old) and m.sequence == old.sequence else m for m in stream(EPISODE)
    ]


def test_a_clean_stream_gives_the_episode_to_the_bit():
    (assembled,) = feed(stream(EPISODE))
    assert assembled.episode == make_episode(
        3, bag_id="monday", length=8, terminated=True, truncated=False, fallbacks=2
    )
    assert same_arrays(assembled.episode, EPISODE)
    assert assembled.faults == Faults()
    assert assembled.message == ""
    assert tuple(assembled.messages) == tuple(range(17))


@pytest.mark.parametrize(("terminated", "truncated"), [(True, False), (False, True), (True, True)])
def test_terminated_and_truncated_are_kept_apart(terminated, truncated):
    episode = make_episode(1, terminated=terminated, truncated=truncated)
    (assembled,) = feed(stream(episode))
    assert (assembled.episode.terminated, assembled.episode.truncated) == (terminated, truncated)


def test_an_episode_is_handed_out_with_its_last_message_and_not_before():
    assembler = EpisodeAssembler("monday")
    *before, last = stream(EPISODE)
    assert feed(before, assembler) == []
    assert assembler.open_episodes == (EPISODE.id,)
    assert len(feed([last], assembler)) == 1
    assert assembler.open_episodes == ()
    assert assembler.finish() == []


@pytest.mark.parametrize("seed", range(20))
def test_the_two_topics_may_overtake_each_other_in_any_way(seed):
    episodes = [make_episode(number, length=5 + number) for number in range(3)]
    first_sequences = [1, 7, 14]
    both = [m for e, first in zip(episodes, first_sequences, strict=True) for m in stream(e, first_sequence=first)]
    observations = [m for m in both if isinstance(m, ObservationMessage)]
    actions = [m for m in both if not isinstance(m, ObservationMessage)]
    generator = np.random.default_rng(seed)
    share = generator.random()  # how eagerly observations are taken: from all first to all last
    mixed = []
    while observations or actions:
        source = observations if observations and (not actions or generator.random() < share) else actions
        mixed.append(source.pop(0))
    assembler = EpisodeAssembler("monday")
    finished = [*feed(mixed, assembler), *assembler.finish()]
    assert [assembled.episode for assembled in finished] == episodes
    assert assembler.strays == 0


@pytest.mark.parametrize(("kind", "name"), [(observation, "observation"), (action, "command")])
@pytest.mark.parametrize("step", range(1, 7))
def test_at_a_lost_message_the_episode_is_cut_and_truncated(kind, name, step):
    assembled = only(without(kind, step))
    # Without observation `step`, the transition before it lacks its outcome as well.
    length = step - 1 if kind is observation else step
    if length == 0:
        assert assembled.episode is None
    else:
        assert assembled.episode.length == length
        assert np.array_equal(assembled.episode.observations, EPISODE.observations[: length + 1])
        assert np.array_equal(assembled.episode.actions, EPISODE.actions[:length])
        assert np.array_equal(assembled.episode.rewards, EPISODE.rewards[:length])
        assert (assembled.episode.terminated, assembled.episode.truncated) == (False, True)
        assert assembled.episode.lost == 1
    assert assembled.faults == Faults(lost=1, unused=8 - step - 1)
    assert f"1 ticks lost, the first at step {step} (no usable {name})" in assembled.message


def test_every_lost_tick_is_counted():
    lost_steps = {2, 3, 6}
    messages = [m for m in stream(EPISODE) if not isinstance(m, ObservationMessage) or m.step not in lost_steps]
    assembled = only(messages)
    assert assembled.faults == Faults(lost=3, unused=2)
    assert assembled.episode.length == 1


def test_a_lost_last_command_is_noticed_by_the_next_episodes_first_command():
    following = make_episode(4)
    finished = feed([*without(action, 7), *stream(following, first_sequence=10)])
    assert [(a.episode_id, a.episode.length, a.faults.lost) for a in finished] == [
        (EPISODE.id, 7, 1),
        (following.id, 7, 0),
    ]


def test_waiting_for_a_lost_last_command_can_be_given_up():
    assembler = EpisodeAssembler("monday")
    assert not assembler.is_waiting
    assert feed(without(action, 7), assembler) == []
    assert assembler.is_waiting
    (assembled,) = assembler.finish_ended()
    assert (assembled.episode.length, assembled.faults.lost) == (7, 1)
    assert not assembler.is_waiting


def test_giving_up_leaves_an_episode_that_goes_on_alone():
    assembler = EpisodeAssembler("monday")
    feed(stream(EPISODE)[:9], assembler)
    assert assembler.finish_ended() == []
    assert len(feed(stream(EPISODE)[9:], assembler)) == 1


def test_an_episode_that_just_stops_is_truncated_when_another_begins():
    finished = feed([*stream(EPISODE)[:10], *stream(make_episode(4), first_sequence=6)])
    assert finished[0].episode.length == 4
    assert (finished[0].episode.terminated, finished[0].episode.truncated) == (False, True)
    assert finished[0].faults == Faults()
    assert finished[1].episode == make_episode(4)


def test_an_episode_that_is_open_at_the_end_is_truncated():
    assembled = only(stream(EPISODE)[:9])
    assert (assembled.episode.length, assembled.episode.truncated, assembled.faults) == (4, True, Faults())


@pytest.mark.parametrize("kind", [observation, action])
def test_what_came_twice_alike_is_taken_once(kind):
    messages = [m for m in stream(EPISODE) for _ in range(2 if type(m) is type(kind(EPISODE, 0)) else 1)]
    # The last one comes after the episode is complete.
    assembled = only(messages[: -1 if kind is observation else None])
    assert assembled.episode == make_episode(
        3, bag_id="monday", length=8, terminated=True, truncated=False, fallbacks=2
    )
    assert assembled.faults == Faults(duplicated=8)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        (observation, {"reward": 9.0}),
        (observation, {"data": np.zeros(5, dtype=np.float32)}),
        (action, {"data": np.zeros(2, dtype=np.float32)}),
        (action, {"policy_id": "other"}),
    ],
)
def test_at_two_different_messages_for_one_tick_the_episode_is_cut(kind, changes):
    contradiction = kind(EPISODE, 4)._replace(**changes)
    messages = stream(EPISODE)
    messages.insert(10, contradiction)
    assembled = only(messages)
    assert assembled.episode.length == (3 if kind is observation else 4)
    assert assembled.faults == Faults(lost=1, conflicting=1, unused=3)
    assert "step 4 was" in assembled.message


def test_observations_out_of_order_are_put_in_their_place_and_counted():
    messages = stream(EPISODE)
    messages[4], messages[6] = messages[6], messages[4]
    assembled = only(messages)
    assert same_arrays(assembled.episode, EPISODE)
    assert assembled.faults == Faults(out_of_order=1)


@pytest.mark.parametrize(
    ("kind", "changes", "text"),
    [
        (observation, {"data": np.zeros(4, dtype=np.float32)}, "observation of step 4: 4 values, expected 5"),
        (observation, {"data": np.float32([0, 0, np.nan, 0, 0])}, "observation of step 4: data[2] is nan"),
        (observation, {"reward": float("inf")}, "observation of step 4: its reward is inf"),
        (observation, {"cost": float("nan")}, "its cost nan"),
        (observation, {"cost": -1.0}, "its cost -1.0"),
        (action, {"data": np.zeros(3, dtype=np.float32)}, "action of step 4: 3 values, expected 2"),
        (action, {"data": np.float32([0, -np.inf])}, "action of step 4: data[1] is -inf"),
    ],
)
def test_a_message_that_cannot_be_learned_from_is_refused_and_never_repaired(kind, changes, text):
    assembled = only(replaced(kind, 4, **changes))
    assert assembled.episode.length == (3 if kind is observation else 4)
    assert assembled.faults == Faults(lost=1, refused=1, unused=3)
    assert text in assembled.message


def test_a_bad_last_observation_takes_the_end_with_it():
    assembled = only(replaced(observation, 8, reward=float("nan")))
    assert (assembled.episode.length, assembled.episode.terminated, assembled.episode.truncated) == (7, False, True)
    assert assembled.faults == Faults(lost=1, refused=1)


def test_a_jump_of_the_tick_counter_inside_an_episode_is_a_contradiction():
    assembled = only(replaced(observation, 5, sequence=4_000_000_000))
    assert assembled.episode.length == 4
    assert assembled.faults.conflicting == 1
    assert "step 5 has sequence 4000000000, not 6" in assembled.message


def test_a_wild_step_number_costs_no_time_and_no_memory():
    wild = observation(EPISODE, 5)._replace(sequence=2**32, step=2**32 - 1)
    assembled = only([*stream(EPISODE)[:10], wild, *stream(EPISODE)[11:-1]])
    assert assembled.episode.length == 4
    assert assembled.faults == Faults(lost=2**32 - 1 - 7, out_of_order=2, unused=1)


def test_what_comes_after_the_end_is_not_taken():
    assembler = EpisodeAssembler("monday")
    late = observation(EPISODE, 8)._replace(step=9, sequence=10, terminated=False)
    messages = [*stream(EPISODE)[:-3], late, *stream(EPISODE)[-3:]]
    (assembled,) = feed(messages, assembler)
    assert assembled.episode.length == 8
    assert assembled.faults.conflicting == 1
    assert "step 9 came after the end at step 8" in assembled.message


def test_a_recording_that_begins_in_the_middle_gives_no_episode():
    assembled = only(stream(EPISODE)[6:])
    assert assembled.episode is None
    assert "step 0 was never seen, the first one seen is 3" in assembled.message


def test_an_episode_of_one_observation_gives_none():
    assert only(stream(EPISODE)[:1]).episode is None
    assert only(stream(EPISODE)[:2]).message == "nothing came after step 0"


def test_messages_for_no_episode_are_counted():
    assembler = EpisodeAssembler("monday")
    nameless = observation(EPISODE, 0)._replace(episode_id="")
    shutdown = action(EPISODE, 0)._replace(observation_sequence=0)
    too_late = observation(EPISODE, 5)
    (assembled,) = feed([nameless, shutdown, *stream(EPISODE), too_late, action(EPISODE, 5)], assembler)
    assembler.finish()
    assert assembled.faults == Faults()
    assert assembler.strays == 4


def test_an_id_that_is_used_again_is_not_mixed_with_the_first():
    second = make_episode(5, id=EPISODE.id)
    finished = feed([*stream(EPISODE), *stream(second, first_sequence=50)])
    assert same_arrays(finished[0].episode, EPISODE)
    assert [assembled.episode for assembled in finished[1:]] == [None]
    assert "was recorded before" in finished[1].message


def test_a_publisher_that_started_anew_is_followed():
    # Its sequence numbers begin at 1 again, as those of the episode that it left open.
    second = make_episode(5)
    finished = feed([*stream(EPISODE)[:9], *stream(second)])
    assert [assembled.episode.length for assembled in finished] == [4, 7]
    assert same_arrays(finished[1].episode, second)


def test_commands_without_observations_do_not_pile_up():
    assembler = EpisodeAssembler("monday")
    for sequence in range(1, 3 * MAX_WAITING_COMMANDS):
        assembler.action(action(EPISODE, 0)._replace(observation_sequence=sequence))
    assert assembler.strays == 2 * MAX_WAITING_COMMANDS - 1
    assembler.finish()
    assert assembler.strays == 3 * MAX_WAITING_COMMANDS - 1


def test_policies_are_named_in_order_and_fallbacks_counted():
    names = iter(["x", "x", "y", "", "x", "x", "y", ""])
    messages = [
        m if isinstance(m, ObservationMessage) else m._replace(policy_id=(name := next(names)), fallback=not name)
        for m in stream(EPISODE)
    ]
    (assembled,) = feed(messages)
    assert assembled.episode.policy_ids == ("x", "y")
    assert assembled.episode.fallbacks == 2


def late(step, behind):
    """The stream of EPISODE where a command is stamped and received after the observation that came `behind` it."""
    answer = action(EPISODE, step)
    rest = without(action, step)
    overtaken_by = observation(EPISODE, step + behind)
    place = next(i for i, m in enumerate(rest) if type(m) is ObservationMessage and m.step == overtaken_by.step)
    return [*rest[: place + 1], answer._replace(stamp=overtaken_by.stamp + TICK // 2), *rest[place + 1 :]]


@pytest.mark.parametrize("behind", [1, 2])
def test_a_command_that_came_after_what_it_was_to_lead_to_is_no_part_of_the_episode(behind):
    assembled = only(late(4, behind))
    assert (assembled.episode.length, assembled.faults) == (4, Faults(lost=1, unused=3))
    assert "1 ticks lost, the first at step 4 (no usable command in time)" in assembled.message


def test_a_command_that_only_looks_late_by_one_clock_or_by_one_queue_is_used():
    ahead = [m._replace(stamp=m.stamp + 5 * TICK) if isinstance(m, ActionMessage) else m for m in stream(EPISODE)]
    overtaken = late(4, 1)
    held_up = [m._replace(stamp=START + 4 * TICK + 1) if m == overtaken[10] else m for m in overtaken]
    for messages in (ahead, held_up):
        assembled = only(messages)
        assert (assembled.episode.length, assembled.faults) == (8, Faults())


def test_a_late_command_is_noticed_in_an_episode_of_any_length(tmp_path):
    messages = list(ticks("long", 0, 12_000))
    at = 2 * 5000
    messages[at + 1], messages[at + 2] = messages[at + 2], messages[at + 1]._replace(stamp=5002)
    assembler = EpisodeAssembler("monday", tmp_path)
    feed(messages, assembler)
    (assembled,) = assembler.finish()
    assert (assembled.episode.length, assembled.faults.lost) == (5000, 1)
    assert "no usable command in time" in assembled.message


def ticks(episode_id: str, begin: int, end: int):
    """Observation and command of each of these steps, as numbers that depend on the step alone."""
    for step in range(begin, end):
        data = np.full(5, step, np.float32)
        yield ObservationMessage(step, 1 + step, episode_id, step, data, 1.0, step % 2, False, False)
        yield ActionMessage(step, 1 + step, 1 + step, data[:2], 1, f"policy-{step // 1000}", step % 10 == 0, "", 0.0)


def test_memory_does_not_grow_with_the_length_of_an_episode(tmp_path, monkeypatch):
    monkeypatch.setattr(overflow, "_PIECE", 2**14)
    assembler = EpisodeAssembler("monday", tmp_path)
    most = 2 * (open_episode.UNSETTLED + open_episode._BATCH) + overflow.BATCH
    held = {}
    tracemalloc.start()
    for end in range(3000, 12_001, 3000):
        feed(ticks("long", end - 3000, end), assembler)
        assert assembler.held <= most and len(assembler._owners) <= most
        held[end] = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert held[12_000] < 1.3 * held[6000], "after its first minutes it stays as it is"
    (assembled,) = assembler.finish()
    assert (assembled.episode.length, assembled.faults, len(assembled.messages)) == (11_999, Faults(), 24_000)
    assert np.array_equal(assembled.episode.observations[:, 3], np.arange(12_000))
    assert np.array_equal(assembled.episode.actions[:, 1], np.arange(11_999))
    assert np.array_equal(assembled.episode.stamps, np.arange(11_999)) and assembled.episode.episode_cost == 6000.0
    assert assembled.episode.policy_ids == tuple(f"policy-{number}" for number in range(12))
    assert assembled.episode.fallbacks == 1200
    assert list(assembled.messages)[::3000] == [*range(0, 6000, 3000)] * 4, "numbered anew by each `feed`"
    assert isinstance(assembled.episode.observations, np.memmap), "not even when it ends"
    copied = replace(assembled.episode, observations=np.array(assembled.episode.observations))
    assert copied.digest == assembled.episode.digest
    assert list(tmp_path.iterdir()) == [], "its files have no names"


@pytest.mark.parametrize("seed", range(30))
def test_what_is_settled_early_is_what_would_have_come_out_at_the_end(seed, monkeypatch, tmp_path):
    rng = np.random.default_rng(seed)
    messages = list(ticks("walk", 0, 400))[: rng.integers(700, 801)]
    for row in sorted(rng.integers(0, len(messages), rng.integers(0, 4)), reverse=True):
        kind = rng.integers(5)
        if kind == 0:  # lost
            del messages[row]
        elif kind == 1:  # twice, a little later
            messages.insert(row + rng.integers(0, 30), messages[row])
        elif kind == 2:  # late
            messages.insert(row + rng.integers(0, 30), messages.pop(row))
        elif kind == 3:  # twice, differently
            messages.insert(row + rng.integers(0, 30), messages[row]._replace(data=messages[row].data + 1))
        else:  # unusable
            messages[row] = messages[row]._replace(data=messages[row].data * np.float32(np.nan))
    at_the_end = only(messages)
    monkeypatch.setattr(open_episode, "UNSETTLED", 40)
    monkeypatch.setattr(open_episode, "_BATCH", 8)
    monkeypatch.setattr(open_episode, "MOST_UNSETTLED", 80)
    monkeypatch.setattr(overflow, "BATCH", 16)
    monkeypatch.setattr(overflow, "_PIECE", 100)
    early = only(messages)
    for name in ("episode_id", "episode", "faults", "message", "end", "topics"):
        assert getattr(early, name) == getattr(at_the_end, name), name
    assert list(early.messages) == list(at_the_end.messages)


def test_a_full_disk_keeps_a_long_episode_in_memory(monkeypatch, tmp_path):
    monkeypatch.setattr(overflow, "_PIECE", 1000)
    monkeypatch.setattr(overflow.os, "pwrite", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
    assembler = EpisodeAssembler("monday", tmp_path)
    feed(ticks("long", 0, 6000), assembler)
    monkeypatch.undo()
    feed(ticks("long", 6000, 7000), assembler)
    (assembled,) = assembler.finish()
    assert assembled.episode.length == 6999 and len(list(assembled.messages)) == 14_000
    assert np.array_equal(assembled.episode.observations[:, 0], np.arange(7000))


def test_a_publisher_that_goes_on_after_the_end_does_not_fill_the_memory():
    assembler = EpisodeAssembler("monday")
    feed(stream(EPISODE)[:-3], assembler)  # the last two commands never come
    feed([observation(EPISODE, 8)], assembler)
    for step in range(9, 9000):
        assembler.observation(observation(EPISODE, 8)._replace(step=step, sequence=1 + step, terminated=False))
    assert assembler.held < 50
    (assembled,) = assembler.finish()
    assert assembled.faults.conflicting == 1 and "step 9 came after the end at step 8" in assembled.message


def test_a_command_for_a_tick_of_long_ago_belongs_to_no_episode():
    assembler = EpisodeAssembler("monday")
    messages = list(ticks("long", 0, 5000))
    feed(messages, assembler)
    feed(messages[:2], assembler)
    (assembled,) = assembler.finish()
    assert assembled.faults == Faults(refused=1) and assembler.strays == 1
    assert "observation of step 0 came after 4999 later ones" in assembled.message
    assert assembled.episode.length == 4999
