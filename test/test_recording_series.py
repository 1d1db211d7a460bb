"""A recording that goes on in the next bag loses nothing and changes no order, also across a kill."""

import json
import shutil
import time
from dataclasses import replace
from pathlib import Path

from dataset_samples import make_episode
from recording_samples import ACTION_TOPIC, OBSERVATION_TOPIC, action, observation, received, stream

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.nodes.recording import BagSeries, Recording
from saferule_ros.recording.bag_writer import BagWriter, loop_topics
from saferule_ros.recording.errors import BagError
from saferule_ros.recording.ingest import ingest
from saferule_ros.recording.reader import read_bag, read_bag_content

DEADLINE = 60.0  # of anything at all [s]
EPISODES = [
    make_episode(number, bag_id=f"bag-{number // 2}", length=4 + number % 3, fallbacks=0) for number in range(7)
]


class Series:
    """Bags of two episodes each, one after the other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made = self.clock = 0
        self.refuses = False
        self.sealed: list = []
        self.recording = Recording(self.next_writer(), self.sealed.append, series=BagSeries(2, self.next_writer))

    def next_writer(self) -> BagWriter:
        if self.refuses:
            raise BagError("no room", "Make some")
        self.made += 1
        topics = loop_topics(OBSERVATION_TOPIC, ACTION_TOPIC)
        return BagWriter(self.folder / f"bag-{self.made - 1}", topics, "test", "jazzy")

    def feed(self, messages) -> None:
        self.clock += 10**9  # later than what was fed before
        for raw in received(messages, self.clock):
            (self.recording.observation if raw.topic == OBSERVATION_TOPIC else self.recording.action)(raw)

    def wait_for(self, count: int) -> None:
        """So many are sealed, and the journals know."""
        end = time.monotonic() + DEADLINE
        while len(self.sealed) < count:
            assert time.monotonic() < end
            time.sleep(0.001)
        self.recording.tend()

    @property
    def bags(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())


def stream_of_all() -> list:
    """Episodes end to end, out of step: of most the last command comes after the next one has begun, of every fourth
    the first command comes before its observation."""
    messages: list = []
    for number, episode in enumerate(EPISODES):
        at = len(messages)
        messages += stream(episode, first_sequence=1 + 20 * number)
        if number % 4:
            messages[at - 2 : at + 1] = [messages[at - 1], messages[at], messages[at - 2]]
        else:
            messages[at : at + 2] = [messages[at + 1], messages[at]]
    return messages


def test_every_episode_is_in_the_bag_in_which_it_began_and_their_order_is_kept(tmp_path):
    series = Series(tmp_path)
    series.feed(stream_of_all())
    series.recording.close()
    assert series.bags == ["bag-0", "bag-1", "bag-2", "bag-3"] and series.recording.bags == 4
    assert [(one.assembled.episode_id, one.bag_id, one.error) for one in series.sealed] == [
        (episode.id, episode.bag_id, "") for episode in EPISODES
    ]
    assert [episode for name in series.bags for episode in read_bag(tmp_path / name)] == EPISODES
    assert (series.recording.episodes, series.recording.transitions) == (1, EPISODES[6].length), "of the newest bag"
    assert not list(tmp_path.glob("*/.*")), "nothing is left of any journal"
    report = ingest([tmp_path / name for name in series.bags], tmp_path / "dataset")
    assert report.complete and EpisodeDataset.load(tmp_path / "dataset").episodes == 7


def test_a_kill_at_any_message_leaves_all_that_was_sealed_and_a_beginning_of_what_was_open(tmp_path):
    """Around the place where the second bag begins, while the last command of the first is missing still."""
    messages = stream_of_all()
    begins = next(n for n, m in enumerate(messages) if getattr(m, "episode_id", "") == EPISODES[2].id)
    series = Series(tmp_path / "bags")
    series.feed(messages[: begins - 4])
    for cut in range(begins - 4, begins + 6):
        series.feed(messages[cut : cut + 1])
        series.wait_for(1 + (EPISODES[1].id not in series.recording.open_episodes))
        killed = shutil.copytree(tmp_path / "bags", tmp_path / f"killed-{cut}")
        found = [episode for name in sorted(killed.iterdir()) for episode in read_bag_content(name).episodes]
        ids = [episode.id for episode in found]
        assert ids == [episode.id for episode in EPISODES[: len(ids)]] and len(ids) >= 2
        assert [(episode.bag_id, episode.digest) for episode in found[:1]] == [("bag-0", EPISODES[0].digest)]
        for episode, true in zip(found, EPISODES, strict=False):
            assert (episode.observations == true.observations[: episode.length + 1]).all()
        sealed = {one.assembled.episode_id for one in series.sealed}
        assert all(episode.digest == true.digest for episode, true in zip(found, EPISODES, strict=False)
                   if episode.id in sealed)  # fmt: skip
        ingest(sorted(killed.iterdir()), tmp_path / f"dataset-{cut}")  # no id stands for two episodes
    assert found[2].length >= 2 and found[2].bag_id == "bag-1"
    series.recording.close()


def test_the_bag_before_is_closed_when_its_last_episode_is_sealed(tmp_path):
    series = Series(tmp_path)
    series.feed([m for number in range(3) for m in stream(EPISODES[number], first_sequence=1 + 20 * number)][:-1])
    series.wait_for(2)
    assert list(series.recording._bags) == ["bag-1"]
    series.recording.close()


def test_where_the_next_bag_cannot_be_begun_this_one_goes_on_and_the_next_episode_tries_again(tmp_path):
    series = Series(tmp_path)
    for number, refuses in ((0, False), (1, False), (2, True), (3, False)):
        series.refuses = refuses
        series.feed(stream(EPISODES[number], first_sequence=1 + 20 * number))
        assert bool(series.recording.bag_problem) is refuses
        assert not refuses or "no room. Make some; meanwhile bag-0 goes on" in series.recording.bag_problem
    series.recording.close()
    assert [[episode.id for episode in read_bag(tmp_path / name)] for name in series.bags] == [
        ["walk-000", "walk-001", "walk-002"], ["walk-003"],
    ]  # fmt: skip


def test_an_id_that_was_used_in_the_bag_before_is_refused_in_this_one(tmp_path):
    """In a dataset, an id stands for one episode."""
    series = Series(tmp_path)
    for number in (0, 1, 2, 0):
        series.feed(stream(EPISODES[number], first_sequence=1 + 20 * len(series.sealed) + 20 * number))
    series.recording.close()
    assert "recorded before" in series.sealed[3].assembled.message and series.sealed[3].assembled.episode is None


def test_what_a_sealed_episode_rewrites_does_not_grow_with_the_life_of_the_node(tmp_path):
    series = Series(tmp_path)
    series.feed([m for number in range(7) for m in stream(EPISODES[number], first_sequence=1 + 20 * number)])
    series.recording.close()
    for name in series.bags:
        promised = json.loads((tmp_path / name / "manifest.json").read_bytes())["manifest"]["episodes"]
        assert 1 <= len(promised) <= 2


def test_what_could_not_be_sealed_stays_in_the_journal_of_its_bag(tmp_path, monkeypatch):
    name, write = EPISODES[0].id, BagWriter._write_file

    def refuse(self, path, file_name, messages, facts):
        if facts["episode_id"] == name and facts["digest"]:
            raise OSError(28, "No space left")
        return write(self, path, file_name, messages, facts)

    monkeypatch.setattr(BagWriter, "_write_file", refuse)
    series = Series(tmp_path)
    series.feed(stream(EPISODES[0]))
    series.feed(stream(EPISODES[0], first_sequence=200))  # the id once more, which is refused
    series.feed([m for number in range(1, 4) for m in stream(EPISODES[number], first_sequence=300 + 20 * number)])
    series.recording.close()
    assert series.recording.failed == 1 and series.bags == ["bag-0", "bag-1"]
    assert [path.parent.name for path in tmp_path.glob("*/.open-*")] == ["bag-0"]


def test_of_a_parked_robot_nothing_is_written_and_no_bag_is_used_up(tmp_path):
    """Each observation ends its episode, or is answered by nobody."""
    series = Series(tmp_path)
    before = {path: path.read_bytes() for path in (tmp_path / "bag-0").iterdir()}
    for number in range(20):
        parked = make_episode(number, id=f"parked-{number}")
        series.feed([observation(parked, 0, first_sequence=1000 + number, terminated=number % 2 == 1)])
    series.recording.tend()
    assert series.recording.empty == 20 and series.recording.waiting == 0
    assert {path: path.read_bytes() for path in (tmp_path / "bag-0").iterdir()} == before
    for number in range(2):
        series.feed(stream(EPISODES[number], first_sequence=2000 + 100 * number))
    series.recording.close()
    assert [one.assembled.episode_id for one in series.sealed] == ["walk-000", "walk-001"]
    assert series.bags == ["bag-0"], "a bag ends after two episodes, but the empty ones do not count"
    assert read_bag(tmp_path / "bag-0") == EPISODES[:2]


def test_a_single_observation_with_which_something_was_wrong_is_sealed(tmp_path):
    """Its command led somewhere; it is not finite; its tick counter jumps; its id was used before."""
    series = Series(tmp_path)
    wrong = [make_episode(number, id=f"wrong-{number}") for number in range(4)]
    series.feed(stream(EPISODES[0]))
    series.feed([observation(wrong[0], 0, first_sequence=100), action(wrong[0], 0, first_sequence=100)])
    series.feed([observation(wrong[1], 0, first_sequence=200, cost=float("nan"))])
    series.feed([observation(wrong[2], 0, 300), observation(wrong[2], 0, 300, reward=5.0)])
    series.feed([observation(wrong[3], 1, first_sequence=400)])
    series.feed([observation(EPISODES[0], 0, first_sequence=500)])
    series.recording.close()
    told = {one.assembled.episode_id: one.assembled.message for one in series.sealed[1:]}
    assert list(told) == ["wrong-0", "wrong-1", "wrong-2", "walk-000", "wrong-3"] and all(told.values())
    assert series.recording.empty == 0


def test_whoever_cannot_be_told_of_an_episode_does_not_end_the_sealing_of_the_others(tmp_path):
    told = []

    def tell(sealed) -> None:
        told.append(sealed.assembled.episode_id)
        if len(told) == 1:
            raise RuntimeError("the middleware is gone")

    topics = loop_topics(OBSERVATION_TOPIC, ACTION_TOPIC)
    recording = Recording(BagWriter(tmp_path / "bag-0", topics, "test", "jazzy"), tell)
    episodes = [replace(episode, bag_id="bag-0") for episode in EPISODES]
    for number, episode in enumerate(episodes):  # fewer than may wait
        for raw in received(stream(episode, first_sequence=1 + 20 * number)):
            (recording.observation if raw.topic == OBSERVATION_TOPIC else recording.action)(raw)
    recording.close()
    assert told == [episode.id for episode in episodes]
    assert recording.untold == 1 and recording.failed == 0
    assert recording.untold_problem == (
        "episode 'walk-000' of bag 'bag-0' is on disk, and that could not be announced: "
        "RuntimeError: the middleware is gone"
    )
    assert read_bag(tmp_path / "bag-0") == episodes
