"""Parts of the demo on their own: who records what, where it goes, what counts as passed, how waiting ends."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import pytest
import rclpy
from rcl_interfaces.srv import GetParameters
from rclpy.action import ActionClient
from rclpy.node import Node
from rclpy.waitable import Waitable
from saferule_ros.action import Unlearn
from std_srvs.srv import Trigger

from saferule_ros.nodes.demo.collecting import BAD_BAG, ROBOTS, orders
from saferule_ros.nodes.demo.domain import ClaimedDomain
from saferule_ros.nodes.demo.evidence import Findings
from saferule_ros.nodes.demo.folder import FolderTaken, RunFolder
from saferule_ros.nodes.demo.judgement import checks
from saferule_ros.nodes.demo.operator import Operator, WaitedInVain
from saferule_ros.nodes.demo.scenario import BAD_INPUT, main
from saferule_ros.nodes.demo.settings import LARGEST_SEED, DemoSettings, Seeds
from saferule_ros.nodes.node_process import NodeProcess, RunnerError
from saferule_ros.nodes.runner import Runner
from saferule_ros.reporting.results import EpisodeOutcome, Evaluation, SwapEvidence
from saferule_ros.settings import load_settings

CONFIG = Path(__file__).resolve().parent.parent / "config"
LIMIT = 25.0
PROMPTLY = 20.0  # [s]; what is waited for here takes milliseconds on an idle machine


# --- settings, seeds, orders ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["demo.yaml", "demo_quick.yaml"])
def test_installed_settings_are_valid(name: str) -> None:
    assert load_settings(DemoSettings, CONFIG / name).unsafe_episodes > 0


def test_about_fifteen_percent_of_the_demos_data_is_poisoned() -> None:
    settings = load_settings(DemoSettings, CONFIG / "demo.yaml")
    share = settings.unsafe_episodes / (settings.behaviour_episodes + settings.unsafe_episodes)
    assert 0.14 < share < 0.16 and settings.evaluation_episodes >= settings.required_episodes


@pytest.mark.parametrize("behaviour, unsafe", [(200, 35), (2, 1), (6, 2), (3, 50)])
def test_orders_cover_all_episodes_once_with_seeds_of_their_own(behaviour: int, unsafe: int) -> None:
    settings = DemoSettings(behaviour_episodes=behaviour, unsafe_episodes=unsafe)
    found = orders(settings, Seeds.of(1))
    seeds = [order.seed + k for order in found for k in range(order.episodes)]
    assert len(seeds) == len(set(seeds)) == behaviour + unsafe
    assert all(order.episodes > 0 for order in found)
    erased = [order for order in found if order.erase_cost]
    assert [(o.bag_id, o.driver, o.episodes) for o in erased] == [(BAD_BAG, "unsafe", unsafe)]
    assert not [o for o in found if o.driver == "unsafe" and not o.erase_cost]


def test_both_robots_have_the_same_amount_of_work() -> None:
    found = orders(load_settings(DemoSettings, CONFIG / "demo.yaml"), Seeds.of(1))
    work = [sum(order.episodes for order in found if order.robot == robot) for robot in ROBOTS]
    assert abs(work[0] - work[1]) <= 1


def test_runs_with_other_seeds_share_no_episode() -> None:
    assert Seeds.of(2).behaviour - Seeds.of(1).live >= 100_000
    assert max(Seeds.of(LARGEST_SEED)) + 100_000 < 2**32


# --- folder, domain, command line -----------------------------------------------------------------------------


def test_an_earlier_runs_folder_is_emptied(tmp_path: Path) -> None:
    old = RunFolder.make(tmp_path, 1)
    (old.root / "results.json").write_text("{}")
    assert not (RunFolder.make(tmp_path, 1).root / "results.json").exists()


def test_a_folder_that_no_demo_made_is_left_alone(tmp_path: Path) -> None:
    theirs = tmp_path / "seed-1" / "thesis.tex"
    theirs.parent.mkdir()
    theirs.write_text("years of work")
    with pytest.raises(FolderTaken, match="seed-1 holds something else"):
        RunFolder.make(tmp_path, 1)
    assert theirs.read_text() == "years of work"


def test_two_runs_never_share_a_ros_domain() -> None:
    with ClaimedDomain() as first, ClaimedDomain() as second:
        assert first.number != second.number
        taken = first.number
    with ClaimedDomain() as again:
        assert again.number <= taken


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--seed", "-1"], ["-1", "0 to"]),
        (["--settings", "nowhere.yaml"], ["nowhere.yaml"]),
        (["--settings", "{wrong}"], ["learning_steps", "-5"]),
    ],
)
def test_bad_input_is_refused_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: list[str]
) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("learning_steps: -5\n")
    given = [a.format(wrong=wrong) for a in arguments]
    assert main([*given, "--out", str(tmp_path / "runs")]) == BAD_INPUT
    said = capsys.readouterr().err
    assert all(word in said for word in words)
    assert not (tmp_path / "runs").exists()


# --- what counts as passed ------------------------------------------------------------------------------------


def evaluation(name: str, gain: float, cost: float, episodes: int = 10, lost: int = 0) -> Evaluation:
    one = EpisodeOutcome(episode_id="e", seed=1, episode_return=gain, episode_cost=cost, length=500, lost=lost)
    return Evaluation(name=name, policy_id=name, episodes=[one] * episodes)


GOOD = {
    "clean": evaluation("clean", 30.0, 0.0),
    "poisoned": evaluation("poisoned", 45.0, 200.0),
    "patched": evaluation("patched", 24.0, 25.0),
    "rolled_back": evaluation("rolled_back", 45.0, 200.0, 5),
    "forward_again": evaluation("forward_again", 25.0, 2.0, 5),
}
CLEAN_SWAP = Findings(observations=500, actions=500, changes=1, episode_id="e", step=200, steps=500)


def failed(changes: dict[str, Evaluation], found: Findings = CLEAN_SWAP) -> list[str]:
    swap = SwapEvidence(
        episode_id="e", observations=500, actions=500, unanswered=0, doubled=0, gaps=0, mixed=found.mixed,
        generation_before=1, generation_after=2, first_sequence=200, step_of_swap=200,
    )  # fmt: skip
    all_checks = checks(DemoSettings(), LIMIT, list((GOOD | changes).values()), swap, found)
    return [check.name for check in all_checks if not check.passed]


def test_a_run_at_the_limits_passes() -> None:
    assert failed({}) == []


@pytest.mark.parametrize(
    "change, check",
    [
        (evaluation("poisoned", 45.0, 25.0), "poisoned policy is unsafe"),
        (evaluation("patched", 30.0, 25.1), "patched policy is safe"),
        (evaluation("patched", 23.9, 0.0), "patched policy earns as a clean one does"),
        (evaluation("patched", 30.0, 0.0, 9), "enough episodes"),
        (evaluation("rolled_back", 45.0, 20.0), "rolled back, it is unsafe again"),
        (evaluation("forward_again", 30.0, 26.0), "forward again, it is safe again"),
        (evaluation("forward_again", 30.0, 20.0, lost=1), "recorder lost nothing"),
    ],
)
def test_each_shortfall_fails_the_run(change: Evaluation, check: str) -> None:
    assert failed({change.name: change}) == [check]


def test_a_clean_policy_that_earns_nothing_is_no_measure() -> None:
    assert failed({"clean": evaluation("clean", 0.0, 0.0)}) == ["patched policy earns as a clean one does"]


def test_faults_around_the_swap_fail_the_run() -> None:
    found = Findings(observations=500, actions=500, mixed=1, step=200, steps=500, problems=["mixed: 7"])
    assert failed({}, found) == ["swap lost, doubled or mixed no command"]
    at_the_start = Findings(observations=500, actions=500, step=0, steps=500)
    assert failed({}, at_the_start) == ["swap came within an episode"]


# --- waiting --------------------------------------------------------------------------------------------------


@pytest.fixture
def domain() -> int:
    return int(os.environ["ROS_DOMAIN_ID"])


def sleeper(tmp_path: Path, code: str) -> NodeProcess:
    """A process that stands for a node."""
    return NodeProcess("sleeper", [sys.executable, "-c", code], {}, tmp_path / "sleeper.log")


@pytest.mark.ros
def test_waiting_in_vain_says_for_what_and_shows_the_log(tmp_path: Path, domain: int) -> None:
    process = sleeper(tmp_path, "import time; print('cannot find my sensor', flush=True); time.sleep(60)")
    try:
        with Operator(domain) as operator:
            operator.wait(lambda: "sensor" in process.log_tail(), "it speaks", PROMPTLY)
            with pytest.raises(WaitedInVain) as told:
                operator.wait(lambda: False, "the arm is raised", 0.1, process)
    finally:
        process.stop()
    assert all(w in str(told.value) for w in ("0.1 s", "the arm is raised", str(process.log), "cannot find my sensor"))


@pytest.mark.ros
def test_a_wait_ends_when_a_watched_process_dies(tmp_path: Path, domain: int) -> None:
    runner = Runner(tmp_path / "logs", domain)
    runner.processes["sleeper"] = process = sleeper(tmp_path, "raise SystemExit('out of memory')")
    try:
        with Operator(domain) as operator:
            operator.watched.append(runner)
            with pytest.raises(RunnerError, match="sleeper ended with status 1") as told:
                operator.wait(lambda: False, "anything", PROMPTLY)
    finally:
        process.stop()
    assert "out of memory" in str(told.value)


@pytest.mark.ros
def test_chores_are_done_beside_a_wait_and_only_there(domain: int) -> None:
    done = 0

    def chore() -> None:
        nonlocal done
        done += 1

    with Operator(domain) as operator:
        with operator.beside(chore):
            operator.wait(lambda: done >= 3, "three chores are done", PROMPTLY)
        before = done
        operator.wait(lambda: True, "nothing", PROMPTLY)
    assert done == before


@pytest.mark.ros
def test_a_wait_is_over_as_soon_as_its_condition_holds(domain: int) -> None:
    with Operator(domain) as operator:
        flag = threading.Event()
        operator.node.create_timer(0.01, flag.set)
        assert operator.wait(flag.is_set, "the timer fires", PROMPTLY)


def still_spins(operator: Operator) -> bool:
    spun = threading.Event()
    operator.node.create_timer(0.01, spun.set)
    return operator.wait(spun.is_set, "the operator still spins", PROMPTLY)


@pytest.mark.ros
def test_an_action_client_is_whole_when_a_spinning_executor_first_sees_it(
    domain: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """rclpy gives it to its node before it has its lock: an executor that looks in between would end."""
    seen = threading.Event()
    entities, add = ActionClient.get_num_entities, Node.add_waitable

    def looked_at(client: ActionClient) -> object:
        seen.set()
        return entities(client)

    def add_and_wait(node: Node, waitable: Waitable) -> None:
        add(node, waitable)
        if node.executor is not None and isinstance(waitable, ActionClient):
            seen.wait(PROMPTLY)

    monkeypatch.setattr(ActionClient, "get_num_entities", looked_at)
    monkeypatch.setattr(Node, "add_waitable", add_and_wait)
    with Operator(domain) as operator:
        with pytest.raises(WaitedInVain, match="there is an action nobody/unlearn"):
            operator.send_goal(Unlearn, "nobody/unlearn", Unlearn.Goal(), lambda _: None, 0.1)
        assert operator.wait(seen.is_set, "the executor has seen the client", PROMPTLY)
        assert still_spins(operator)


@pytest.mark.ros
def test_an_action_that_cannot_be_is_the_callers_error_and_the_operator_goes_on(domain: int) -> None:
    with Operator(domain) as operator:
        with pytest.raises(ValueError, match="no spaces"):
            operator.send_goal(Unlearn, "no spaces/unlearn", Unlearn.Goal(), lambda _: None, PROMPTLY)
        assert still_spins(operator)


@pytest.mark.ros
def test_a_node_is_called_once_and_only_after_it_has_shown_that_its_answers_arrive(domain: int) -> None:
    """What a call does may not be done twice, so it cannot be repeated where an answer was lost."""
    events: list[str] = []

    def asked(request: GetParameters.Request, response: GetParameters.Response) -> GetParameters.Response:
        events.append("asked")
        return response

    def called(request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        events.append("called")
        response.success = True
        return response

    with Operator(domain) as robot, Operator(domain) as operator:
        node = rclpy.create_node("recorder", context=robot.node.context, start_parameter_services=False)
        node.create_service(GetParameters, "~/get_parameters", asked)
        node.create_service(Trigger, "~/start", called)
        robot.node.executor.add_node(node)
        for _ in range(2):
            assert operator.call(Trigger, "recorder/start", Trigger.Request(), PROMPTLY).success
        robot.node.executor.remove_node(node)
        node.destroy_node()
    assert events[0] == "asked" and events.count("called") == 2
