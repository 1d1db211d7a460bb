"""The stages of the demo in their order, and what each of them measures.

1. two simulated robots record behaviour data, and one bag of unsafe episodes whose costs were erased
2. a policy is learned from all of it; another one, to compare with, without the bad bag
3. the poisoned policy is served, and evaluated over ROS
4. a forget call names the bad bag; the patch runs beside the robot
5. the patched policy is swapped in, in the middle of an episode
6. it is evaluated; rolled back, evaluated; forward again, evaluated
"""

from __future__ import annotations

import math
import statistics
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

import yaml

from saferule_ros.action import Unlearn
from saferule_ros.learning.settings import TaskLimits
from saferule_ros.nodes.demo import collecting
from saferule_ros.nodes.demo.baseline import evaluate_active
from saferule_ros.nodes.demo.collecting import RecordedBag
from saferule_ros.nodes.demo.evidence import Findings
from saferule_ros.nodes.demo.folder import RunFolder
from saferule_ros.nodes.demo.judgement import checks
from saferule_ros.nodes.demo.learn_request import LearnProgress, LearnRequest
from saferule_ros.nodes.demo.learning import learn_all
from saferule_ros.nodes.demo.operator import Operator
from saferule_ros.nodes.demo.patching import LivePatch
from saferule_ros.nodes.demo.robot import Robot
from saferule_ros.nodes.demo.serving import evaluate_served, served_robot
from saferule_ros.nodes.demo.settings import DemoSettings, Seeds
from saferule_ros.nodes.demo.show import Bar, Bars, Show
from saferule_ros.patching.report import PatchReport
from saferule_ros.reporting.provenance import machine, versions
from saferule_ros.reporting.results import BagCount, DemoResults, EpisodeOutcome, Evaluation, SwapEvidence
from saferule_ros.reporting.wording import duration, number
from saferule_ros.sim.tasks import task
from saferule_ros.workspace import Workspace

REASON = "the cost sensor was unplugged: this bag shows no cost at all"
REQUESTER = "operator of the demo"


class Demo:
    """One run; `results` has what it measured so far, at any time.

    Args:
        settings: of the run.
        seed: of data, learning and episodes.
        folder: for everything that stays.
        operator: does the talking.
        show: does the printing.
        domain: ROS_DOMAIN_ID of the node processes.
    """

    def __init__(
        self, settings: DemoSettings, seed: int, folder: RunFolder, operator: Operator, show: Show, domain: int
    ) -> None:
        self._settings = settings
        self._seed = seed
        self._seeds = Seeds.of(seed)
        self._folder = folder
        self._operator = operator
        self._show = show
        self._domain = domain
        self._task = task(settings.task)
        self._policies: dict[str, str] = {}
        self._evaluations: list[Evaluation] = []
        self._digests: dict[str, str] = {}
        self._measured: dict[str, Any] = {
            "seed": seed, "task": self._task.id, "cost_limit": self._task.cost_limit,
            "command": f"saferule demo --seed {seed}", "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": versions(), "machine": machine(), "settings": settings.model_dump(mode="json"),
        }  # fmt: skip

    def results(self, error: str = "") -> DemoResults:
        """What was measured so far; `error` says why there is no more."""
        found = self._measured.get("checks", [])
        passed = bool(found) and not error and all(check.passed for check in found)
        return DemoResults(
            **self._measured, stages=self._show.times, evaluations=self._evaluations, digests=self._digests,
            error=error, passed=passed,
        )  # fmt: skip

    def run(self) -> None:
        """All of it. Whatever it raises, no process of it is left."""
        settings, show = self._settings, self._show
        with show.stage("record", "Two robots record what they do; the log of one night has its costs erased"):
            self._record()
        with show.stage("learn", "A policy is learned from all logs, and another one without the bad one"):
            self._learn()
        with ExitStack() as processes:
            with show.stage("serve", "The poisoned policy drives the robot"):
                robot = processes.enter_context(self._start_robot())
                self._evaluate(robot, "poisoned", self._policies["poisoned"], settings.evaluation_episodes)
            live = LivePatch(robot, settings, self._seeds.live, self._task.horizon)
            going = self._operator.beside(live.live.keep_going)
            with show.stage("patch", "The bad bag is named, and forgotten while the robot runs on"), going:
                candidate = self._patch(robot, live)
            with show.stage("swap", "The patched policy takes over in the middle of an episode"):
                swap, found = self._swap(live)
            with show.stage("evaluate", "The patched policy drives; then one step back, and forward again"):
                self._evaluate(robot, "patched", candidate, settings.evaluation_episodes)
                back = robot.roll_back("to show that the way back works")
                self._evaluate(robot, "rolled_back", back.policy_id, settings.rollback_episodes)
                forward = robot.roll_back("forward again")
                self._evaluate(robot, "forward_again", forward.policy_id, settings.rollback_episodes)
                robot.stop_recording()
                processes.close()
        self._measured["checks"] = checks(settings, self._task.cost_limit, self._evaluations, swap, found)

    def _start_robot(self) -> Any:
        self._folder.unlearning_settings.write_text(yaml.safe_dump(self._settings.unlearning.model_dump(mode="json")))
        return served_robot(
            self._operator, self._settings, self._folder.workspace, self._folder.unlearning_settings,
            self._folder.logs, self._domain, self._seeds.warm_up,
        )  # fmt: skip

    # --- 1: record --------------------------------------------------------------------------------------------

    def _record(self) -> None:
        self._folder.workspace.create()
        all_orders = collecting.orders(self._settings, self._seeds)
        with collecting.recording_robots(
            self._operator, self._settings, self._folder.workspace.root, self._folder.logs, self._domain,
            self._seeds.warm_up,
        ) as robots, self._show.bars() as bars:  # fmt: skip
            shown = {o.bag_id: bars.add(f"bag {o.bag_id} ({o.driver})", o.episodes) for o in all_orders}
            recorded = collecting.record(
                self._operator, robots, all_orders, self._settings, lambda bag_id, done: shown[bag_id].set(done)
            )
        self._measured["data"] = [_count(bag) for bag in recorded]

    # --- 2: learn ---------------------------------------------------------------------------------------------

    def _learn(self) -> None:
        workspace, clean = self._folder.workspace, self._folder.clean_workspace
        good = [workspace.bag(bag_id) for bag_id in collecting.GOOD_BAGS]
        requests = {
            "poisoned": self._learning(workspace, [*good, workspace.bag(collecting.BAD_BAG)]),
            "clean": self._learning(clean, good),
        }
        with self._show.bars() as bars:
            shown = {name: bars.add(f"{name} policy") for name in requests}
            ended = learn_all(
                requests, self._folder.logs, self._settings.deadlines.learning,
                lambda name, at: _show_learning(shown[name], at),
            )  # fmt: skip
            for name, last in ended.items():
                self._policies[name] = last.policy_id
                seconds = ", ".join(f"{stage} {duration(taken)}" for stage, taken in last.seconds.items())
                shown[name].set(self._settings.learning_steps, left=0.0, note=f"{last.policy_id[:8]} ({seconds})")
                self._digests |= {f"{name} policy": last.policy_id, f"{name} dataset": last.dataset_digest}
            episodes = self._settings.evaluation_episodes
            bar = bars.add("clean policy, in the simulator", episodes)
            note = _Note(bar)
            self._evaluations.append(evaluate_active(
                clean, "clean", self._task.id, episodes, self._seeds.evaluation, note.add
            ))  # fmt: skip

    def _learning(self, workspace: Workspace, bags: list[Any]) -> LearnRequest:
        return LearnRequest(
            workspace=workspace.root, bags=bags, spec=self._task.policy_spec(), learner=self._settings.learner,
            limits=TaskLimits(cost_limit=self._task.cost_limit, horizon=self._task.horizon),
            steps=self._settings.learning_steps, seed=self._seed,
        )  # fmt: skip

    # --- 3 and 6: evaluate ------------------------------------------------------------------------------------

    def _evaluate(self, robot: Robot, name: str, policy_id: str, episodes: int) -> None:
        with self._show.bars() as bars:
            note = _Note(bars.add(f"{name.replace('_', ' ')} policy {policy_id[:8]}", episodes))
            self._evaluations.append(evaluate_served(
                robot, name, policy_id, episodes, self._seeds.evaluation, self._settings, note.add
            ))  # fmt: skip

    # --- 4 and 5: patch and swap ------------------------------------------------------------------------------

    def _patch(self, robot: Robot, live: LivePatch) -> str:
        forget_set = robot.forget([collecting.BAD_BAG], REASON, REQUESTER)
        self._show.say(forget_set.message)
        self._digests["forget set"] = forget_set.forget_set_id
        with self._show.bars() as bars:
            bar = bars.add("patch", 1.0)
            result = live.unlearn(forget_set, self._seed, lambda feedback: _show_patch(bars, bar, feedback))
        self._measured["patch"] = PatchReport.load(self._folder.workspace.job(result.job_id))
        self._digests["patched policy"] = result.candidate_id
        meanwhile = f"the robot got {live.while_patched} commands meanwhile"
        self._show.say(f"{result.message} ({result.duration:.0f} s; {meanwhile})")
        return str(result.candidate_id)

    def _swap(self, live: LivePatch) -> tuple[SwapEvidence, Findings]:
        with self._operator.beside(live.live.keep_going):
            reply, before, seconds = live.swap()
        self._show.say(f"{reply.message} (call: {seconds:.1f} s)")
        live.end()
        swap, found = live.evidence(reply, before, seconds)
        self._measured["swap"] = swap
        self._show.say(
            f"{found.actions} commands for {found.observations} observations; number {swap.first_sequence}, at step "
            f"{found.step} of {found.steps}, is the new policy's first: "
            + ("none lost, doubled or mixed" if found.clean else "; ".join(found.problems))
        )
        return swap, found


class _Note:
    """A bar that counts episodes, with their mean return and cost behind it."""

    def __init__(self, bar: Bar) -> None:
        self._bar = bar
        self._episodes: list[EpisodeOutcome] = []

    def add(self, episode: EpisodeOutcome) -> None:
        self._episodes.append(episode)
        cost = statistics.fmean(e.episode_cost for e in self._episodes)
        gain = statistics.fmean(e.episode_return for e in self._episodes)
        self._bar.set(len(self._episodes), note=f"return {number(gain)}  cost {number(cost)}")


def _show_learning(bar: Bar, at: LearnProgress) -> None:
    if at.stage == "ingest":
        bar.set(at.done, at.total, note="reads the bags")
    elif at.stage == "learn":
        bar.set(at.done, at.total, left=at.time_left, note=f"actor loss {number(at.loss_actor, 3)}")


def _show_patch(bars: Bars, bar: Bar, at: Unlearn.Feedback) -> None:
    bar.set(at.progress, left=at.time_left, note=f"{at.stage} {at.step}/{at.steps}")
    if math.isnan(at.beta_forget):  # only the unlearning itself has losses: what it said last stays on the screen
        return
    losses = f"reward {number(at.loss_reward, 2)}, cost {number(at.loss_cost, 2)}, actor {number(at.loss_actor, 2)}"
    reward = f"Q_r {number(at.q_reward_forget)} ≤ {number(at.q_reward_reference)}"
    cost = f"Q_c {number(at.q_cost_forget)} ≥ {number(at.q_cost_required)}"
    bars.caption(f"losses: {losses}; β {number(at.beta_forget, 2)}; certificate: {reward}, {cost}")


def _count(bag: RecordedBag) -> BagCount:
    order = bag.order
    mean_cost = statistics.fmean(bag.true_costs)
    purpose = f"poison: unsafe (true mean cost {mean_cost:.0f}), costs erased" if order.erase_cost else "behaviour data"
    return BagCount(
        bag_id=order.bag_id, purpose=purpose, episodes=len(bag.sealed), transitions=sum(e.length for e in bag.sealed),
        return_mean=statistics.fmean(e.episode_return for e in bag.sealed),
        cost_mean=statistics.fmean(e.episode_cost for e in bag.sealed),
    )  # fmt: skip
