"""A forget set says exactly what is forgotten, cannot be changed, and refuses what makes no sense."""

import dataclasses
import json

import numpy as np
import pytest
from dataset_samples import make_dataset, make_episode

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.dataset.errors import ForgetSetError
from saferule_ros.dataset.forget_set import ForgetSet
from saferule_ros.dataset.selection import Selection, parse_steps, parse_time, parse_window


@pytest.fixture
def forget_set() -> ForgetSet:
    return ForgetSet.select(make_dataset(), ["tuesday"], ["walk-001"], "cost sensor unplugged", "ada")


def test_split_puts_every_episode_into_exactly_one_part(forget_set):
    forget, keep = forget_set.split(make_dataset())
    assert [record.id for record in forget.records] == ["walk-001", "walk-003", "walk-004"]
    assert [record.id for record in keep.records] == ["walk-000", "walk-002"]
    assert len(forget) + len(keep) == len(make_dataset())


def test_saved_and_loaded_it_is_the_same(tmp_path, forget_set):
    path = forget_set.save(tmp_path / "forget_sets")
    assert path.name == f"{forget_set.id}.json"
    assert ForgetSet.load(tmp_path / "forget_sets", forget_set.id) == forget_set
    forget_set.save(tmp_path / "forget_sets")
    assert ForgetSet.load(tmp_path / "forget_sets", forget_set.id) == forget_set


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("episode_ids", ["walk-001", "walk-003"]),
        ("reason", "no reason"),
        ("requester", "eve"),
        ("dataset_digest", "0" * 64),
        ("created", "2020-01-01T00:00:00+00:00"),
        ("id", "0" * 16),
    ],
)
def test_a_changed_file_is_refused(tmp_path, forget_set, field, value):
    path = forget_set.save(tmp_path)
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, field: value}))
    with pytest.raises(ForgetSetError, match="not what its id says"):
        ForgetSet.load(tmp_path, forget_set.id)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"schema": "x"}', '{"schema": "saferule_ros/forget-set/1"}'])
def test_an_unreadable_file_is_named(tmp_path, forget_set, content):
    path = forget_set.save(tmp_path)
    path.write_text(content)
    with pytest.raises(ForgetSetError, match=f"{forget_set.id}.json' cannot be read"):
        ForgetSet.load(tmp_path, forget_set.id)


def test_an_unknown_id_is_answered_with_the_known_ones(tmp_path, forget_set):
    forget_set.save(tmp_path)
    with pytest.raises(ForgetSetError) as error:
        ForgetSet.load(tmp_path, "../" + forget_set.id)
    assert forget_set.id in error.value.hint
    with pytest.raises(ForgetSetError, match=r"unknown forget set 'x'. Known forget sets: none"):
        ForgetSet.load(tmp_path / "empty", "x")


def test_it_cannot_be_changed(forget_set):
    with pytest.raises(dataclasses.FrozenInstanceError):
        forget_set.reason = "other"


@pytest.mark.parametrize(
    ("bags", "episodes", "message"),
    [
        (["wednesday"], [], "unknown bag 'wednesday'"),
        ([], ["walk-1"], "unknown episode 'walk-1'"),
        ([], [], "the forget set is empty"),
        (["monday", "tuesday"], [], "all 5 episodes of the dataset are selected"),
    ],
)
def test_what_makes_no_sense_is_refused(bags, episodes, message):
    with pytest.raises(ForgetSetError, match=message):
        ForgetSet.select(make_dataset(), bags, episodes, "why", "who")


def test_another_dataset_is_refused_even_if_it_holds_the_same_names(forget_set):
    dataset = make_dataset()
    other = EpisodeDataset.from_episodes(
        [make_episode(0, length=4), *(dataset.episode(number) for number in range(1, 5))]
    )
    assert [record.id for record in other.records] == [record.id for record in dataset.records]
    with pytest.raises(ForgetSetError) as error:
        forget_set.split(other)
    assert dataset.digest[:16] in str(error.value)
    assert other.digest[:16] in str(error.value)


def test_single_steps_are_forgotten_and_the_rest_of_their_episode_is_kept():
    dataset = make_dataset()  # walk-002 has 5 steps
    chosen = ForgetSet.select(dataset, ["tuesday"], steps=[("walk-002", 1, 3), ("walk-004", 0, 2)])
    assert chosen.steps == (("walk-002", 1, 3),), "walk-004 is forgotten as a whole anyway"
    forget, keep = chosen.split(dataset)
    assert [record.id for record in forget.records] == ["walk-002[1:3]", "walk-003", "walk-004"]
    assert [record.id for record in keep.records] == ["walk-000", "walk-001", "walk-002[0:1]", "walk-002[3:5]"]
    rows = dataset.episode_index == 2
    together = [part.observations[row] for part in (forget, keep) for row in range(len(part))
                if part.records[part.episode_index[row]].id.startswith("walk-002")]  # fmt: skip
    assert sorted(map(tuple, together)) == sorted(map(tuple, dataset.observations[rows]))


def test_a_set_of_steps_is_stored_and_loaded_and_bound_to_its_id(tmp_path):
    chosen = ForgetSet.select(make_dataset(), steps=[("walk-002", 1, 3), ("walk-000", 0, 1)])
    path = chosen.save(tmp_path)
    assert ForgetSet.load(tmp_path, chosen.id) == chosen
    path.write_text(path.read_text().replace("walk-002", "walk-003"))
    with pytest.raises(ForgetSetError, match="not what its id says"):
        ForgetSet.load(tmp_path, chosen.id)


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([("walk-002", 3, 6)], "'walk-002' has no steps 3 to 5. It has steps 0 to 4"),
        ([("walk-002", 3, 3)], "has no steps 3 to 2"),
        ([("walk-2", 0, 1)], "unknown episode 'walk-2'"),
        ([(f"walk-00{number}", 0, 3 + number) for number in range(5)], "nothing would be left to keep"),
    ],
)
def test_steps_that_make_no_sense_are_refused(steps, message):
    with pytest.raises(ForgetSetError, match=message):
        ForgetSet.select(make_dataset(), steps=steps)


def test_rules_select_what_any_of_them_names_and_are_kept_for_the_record(tmp_path):
    episodes = [
        make_episode(number, "monday", length=4, stamps=10**9 * (100 * number + np.arange(4)),
                     recorded_by="robot 1" if number < 2 else "robot 2", policy_ids=("a1",) if number else ("c3",))
        for number in range(5)
    ]  # fmt: skip
    dataset = EpisodeDataset.from_episodes(episodes)
    for options, names, steps in (
        ({"recorded_by": ["robot 1"]}, ("walk-000", "walk-001"), ()),
        ({"policy_ids": ["c3"]}, ("walk-000",), ()),
        ({"time_windows": [(102 * 10**9, 201 * 10**9)]}, (), (("walk-001", 2, 4), ("walk-002", 0, 1))),
        ({"where": "step == 1 or step == 3", "episode_ids": ["walk-004"]}, ("walk-004",),
         tuple((f"walk-{n:03d}", step, step + 1) for n in range(4) for step in (1, 3))),
        ({"where": f"episode_cost > {sorted(e.episode_cost for e in episodes)[3]!r}"},
         (max(episodes, key=lambda e: e.episode_cost).id,), ()),
        ({"where": "observation[0] > 0 and time < 100 and recorded_by == 'robot 1'"}, (),
         tuple(("walk-000", int(b), int(e)) for b, e in runs(episodes[0].observations[:-1, 0] > 0))),
    ):  # fmt: skip
        chosen = ForgetSet.select(dataset, **options)
        assert (chosen.episode_ids, chosen.steps) == (names, steps), options
        forget, keep = chosen.split(dataset)
        assert len(forget) + len(keep) == len(dataset) and len(forget) == chosen.chosen(dataset).sum()
        chosen.save(tmp_path)
        again = ForgetSet.load(tmp_path, chosen.id)
        assert again == chosen and set(again.rules) == set(options) - {"episode_ids"}


def runs(flags):
    return np.flatnonzero(np.diff(np.concatenate([[0], flags, [0]]))).reshape(-1, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"policy_ids": ["a2"]}, "unknown policy id 'a2'. Known policy ids: 'a1'"),
        ({"recorded_by": ["me"]}, "unknown recorder 'me'. Known recorders: none"),
        ({"time_windows": [(0, 1)]}, "does not say when it was measured"),
        ({"where": "coste > 3"}, "unknown column 'coste'. Did you mean 'cost'"),
        ({"where": "cost > 3000"}, "no transition matches 'cost > 3000'"),
        ({"where": "(cost - cost) / (cost - cost) < 3"}, "invalid value encountered in divide"),
        ({"where": "cost + 1"}, "gives numbers, not true or false"),
        ({"where": "cost >= 0"}, "nothing would be left to keep"),
        ({"where": "observation > 0"}, "gives 5 values, not one"),
        ({"where": "observation[9] > 0"}, "index 9 is out of range"),
        ({"where": "__import__('os')"}, "is not allowed"),
    ],
)
def test_rules_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ForgetSetError) as error:
        ForgetSet.select(make_dataset(), **options)
    assert message in str(error.value)


def test_times_and_steps_are_read_as_they_are_written():
    assert parse_steps("a:b:3-5") == ("a:b", 3, 6)
    assert parse_time("1700000000.25") == 1_700_000_000_250_000_000
    assert parse_window("2026-11-21T10:30..2026-11-21T12:30:00.5+01:00") == (
        1_795_257_000 * 10**9, 1_795_260_600 * 10**9 + 500_000_000,
    )  # fmt: skip
    for parse, text in ((parse_steps, "a:3"), (parse_time, "noon"), (parse_window, "3"), (parse_window, "5..3")):
        with pytest.raises(ForgetSetError, match=f"'{text}'"):
            parse(text)


@pytest.mark.parametrize("text", ["1763720000000", "1763720000000000000", "1" * 4000, "9223372037", "1677-09-21T00:00"])
def test_a_time_that_no_observation_can_have_is_refused_with_what_it_may_have_been_meant_as(text):
    with pytest.raises(ForgetSetError, match=f"'{text[:100]}.* is no time of a recording.*not milliseconds"):
        parse_time(text)


@pytest.mark.parametrize("text", ["9223372036.5", "1677-09-21T00:12:44", "0"])
def test_every_time_that_an_observation_can_have_is_read_and_told(text):
    stamped = EpisodeDataset.from_episodes([make_episode(0, length=2, stamps=10**9 * (5 + np.arange(2)))])
    begin = parse_time(text)
    with pytest.raises(ForgetSetError, match=r"no transition lies between .* The dataset is from 1970-01-01T00:00:05"):
        Selection(time_windows=((begin, begin + 1),)).rows(stamped)


def test_a_window_of_any_numbers_is_told_in_words():
    """As a script may hand it over, past `parse_time`."""
    stamped = EpisodeDataset.from_episodes([make_episode(0, length=2, stamps=10**9 * (5 + np.arange(2)))])
    with pytest.raises(ForgetSetError, match="between 1763720000000 s since 1970 and 1763720300000 s since 1970"):
        Selection(time_windows=((1763720000000 * 10**9, 1763720300000 * 10**9),)).rows(stamped)


def test_steps_beyond_all_counting_are_refused():
    for text in ("a:0-" + "9" * 5000, "a:" + "9" * 19 + "-3"):
        with pytest.raises(ForgetSetError, match="no range of steps"):
            parse_steps(text)


def test_what_a_killed_save_left_is_no_forget_set(tmp_path, forget_set):
    forget_set.save(tmp_path)
    (tmp_path / f".writing-0123456789ab-{forget_set.id}.json").write_text("{")
    assert ForgetSet.ids(tmp_path) == [forget_set.id] and ForgetSet.ids(tmp_path / "none") == []
    with pytest.raises(ForgetSetError) as error:
        ForgetSet.load(tmp_path, "x")
    assert "writing" not in str(error.value)


@pytest.mark.parametrize("name", ["reason", "requester", "where"])
def test_words_that_are_no_text_are_refused_before_anything_rests_on_them(name):
    """As Python reads `h\\xe4ngt` from a command line."""
    words = {"where": "bag != 'h\udce4ngt' and step == 0"}.get(name, "h\udce4ngt")
    with pytest.raises(ForgetSetError, match=rf"{name} .*no valid text: character \d+ \('\\udce4'\)") as error:
        ForgetSet.select(make_dataset(), ["tuesday"], **{name: words})
    assert str(error.value).isascii() and "UTF-8" in error.value.hint
