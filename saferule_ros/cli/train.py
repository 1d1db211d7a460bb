"""`saferule train`: a first policy from the workspace's dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from saferule_ros.cli.options import (
    DEFAULT_WORKSPACE,
    YOU,
    AlgorithmOption,
    DeviceOption,
    JsonOption,
    JudgeOption,
    JudgingOption,
    NewContractOption,
    RequesterOption,
    RobotOption,
    SeedOption,
    SettingsOption,
    TaskOption,
    WorkspaceOption,
)
from saferule_ros.cli.teaching import CANCELLED, CHECK_FAILED, WRONG_INPUT, fail
from saferule_ros.device import Device
from saferule_ros.errors import SaferuleError
from saferule_ros.patching.judge_mode import JudgeMode
from saferule_ros.workspace import Workspace

if TYPE_CHECKING:
    from saferule_ros.learning.calibration import Calibration
    from saferule_ros.learning.settings import CommonSettings, TaskLimits
    from saferule_ros.patching.judging import Verdict
    from saferule_ros.patching.learn import LearnedPolicy
    from saferule_ros.patching.settings import JudgingSettings
    from saferule_ros.policy.spec import PolicySpec


class MisfitError(SaferuleError):
    """The dataset is of another robot."""


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command()(train)


def train(
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    task: TaskOption = "",
    robot_file: RobotOption = None,
    algorithm: AlgorithmOption = "",
    steps: Annotated[int, typer.Option(min=1, help="Gradient steps.")] = 4000,
    seed: SeedOption = 0,
    settings: SettingsOption = None,
    activate: Annotated[
        bool | None,
        typer.Option("--activate/--no-activate", help="Make it the active policy. Default: if none is active yet."),
    ] = None,
    new_contract: NewContractOption = False,
    threads: Annotated[int, typer.Option(min=1, help="Of torch: small networks gain nothing from more.")] = 1,
    device: DeviceOption = Device.CPU,
    judge: JudgeOption = JudgeMode.NONE,
    judging: JudgingOption = None,
    every: Annotated[
        int | None,
        typer.Option("--checkpoint-every", min=1, help="With --judge: steps from policy to policy; 400 if not given."),
    ] = None,
    requester: RequesterOption = YOU,
    as_json: JsonOption = False,
) -> None:
    """Learn a policy offline and put it into the policy store.

    Reads the workspace's dataset. Writes a learner's checkpoint (from which a patch goes on), and an ONNX bundle in the
    policy store, which has passed the gate. Settings are those of the algorithm: hidden, batch, discount, …

    Ctrl-C stops, and the same command goes on from there, with the same result as if it had not stopped.

    With --judge the policies along the way drive in a model that is learned from the same data, which takes some
    minutes: the one that is expected to earn most within the cost limit is taken, or none (exit status 1; the last
    checkpoint is kept). `advise` takes the last one where the model fails its own check, `require` none.
    The model needs 20 episodes.

    \b
    Examples:
      saferule train --task SafetyPointCircle1 --steps 4000
      saferule train --robot my_robot.yaml --algorithm cpq --steps 6000 --settings cpq.yaml --no-activate
    """
    from saferule_ros.cli.bars import bar, losses
    from saferule_ros.cli.output import note, print_facts, print_json
    from saferule_ros.cli.robot import robot
    from saferule_ros.cli.stopping import stop_asked
    from saferule_ros.learning.choice import learner_settings
    from saferule_ros.patching.settings import EVERY, judging_settings
    from saferule_ros.policy.refusals import ContractError

    chosen = learner_settings(algorithm, settings)
    check = judging_settings(judge, judging)
    if every is not None and judge is JudgeMode.NONE:
        raise fail(f"--checkpoint-every is {every}, and no policy is judged", "Give --judge as well", WRONG_INPUT)
    if judge is not JudgeMode.NONE and (every or EVERY) >= steps:
        note(f"of {steps} steps, only the policy after the last is judged: see --checkpoint-every")
    place = Workspace(workspace)
    spec, limits = robot(task, robot_file)
    _check_fit(place, spec, chosen, judge)
    # Only now: torch takes seconds to load, and what is wrong should be said at once.
    from saferule_ros.learning.trainer import TrainingCancelled, TrainProgress, limit_threads
    from saferule_ros.patching.learn import Judging, NothingProposed, learn_policy

    limit_threads(threads)
    asked: dict[str, object] = {"steps": steps, "seed": seed, "device": device}
    with stop_asked() as stopped, bar("learning") as advance:

        def show(at: TrainProgress) -> None:
            advance(at.step, at.steps, losses(at.losses), at.time_left)

        def show_judging(share: float, time_left: float) -> None:
            advance(round(100 * share), 100, "judging the policies along the way", time_left)

        try:
            learned = learn_policy(
                place, spec, limits, chosen, steps, seed, show, activate, device, stopped, requester,
                Judging(judge, check, every or EVERY, show_judging), new_contract,
            )  # fmt: skip
        except ContractError as error:
            raise fail(
                f"it cannot be activated: {error.what}",
                "If the robot was changed: --new-contract. Only to store it: --no-activate",
            ) from None
        except NothingProposed as error:
            if as_json:
                print_json({
                    "policy_id": None, "checkpoint_id": error.checkpoint_id, **asked,
                    "judgement": _judgement(error.verdict, judge, check, every or EVERY),
                })  # fmt: skip
            raise fail(error.what, error.hint, CHECK_FAILED) from None
        except TrainingCancelled as error:
            raise fail(error.what, error.hint, CANCELLED) from None
    if as_json:
        judgement = _judgement(learned.verdict, judge, check, every or EVERY) if learned.verdict else None
        print_json(_as_json(learned, asked | {"judgement": judgement}, chosen, limits))
        return
    manifest = learned.manifest
    print_facts([
        ("policy", manifest.bundle_id), ("checkpoint", manifest.checkpoint_id),
        ("dataset", manifest.dataset_digest[:16]), ("store", place.store),
        *([("chosen by", learned.verdict.reason), ("steps behind it", str(learned.steps))] if learned.verdict else []),
        ("active", "yes" if learned.active else f"no: saferule policy activate {manifest.bundle_id}"),
        *_told(learned.calibration),
    ])  # fmt: skip
    tell = "What it costs and earns: saferule evaluate" if task else "What it costs and earns, its robot tells"
    note(f"It passed the gate. {tell}")


def _as_json(
    learned: LearnedPolicy, asked: dict[str, object], settings: CommonSettings, limits: TaskLimits
) -> dict[str, object]:
    from saferule_ros.reporting.provenance import machine, versions

    manifest, calibration = learned.manifest, learned.calibration

    return {
        "policy_id": manifest.bundle_id, "checkpoint_id": manifest.checkpoint_id, "algorithm": manifest.algorithm,
        "active": learned.active, "policy_steps": learned.steps,
        "dataset_digest": manifest.dataset_digest, **asked, "settings": settings.model_dump(mode="json"),
        "limits": limits.model_dump(mode="json"),
        "calibration": None if calibration is None else calibration._asdict(), "versions": versions(),
        "machine": machine(),
    }  # fmt: skip


def _judgement(verdict: Verdict, judge: JudgeMode, settings: JudgingSettings, every: int) -> dict[str, object]:
    asked = {"settings": settings.model_dump(mode="json"), "checkpoint_every": every} if verdict.numbers else {}
    return verdict.as_json(judge) | asked


def _told(calibration: Calibration | None) -> list[tuple[str, str]]:
    if calibration is None:
        return []
    at = calibration
    excess = f"{at.excess_initial:+.3g} at initial states, {at.excess_dataset:+.3g} at dataset states"
    return [
        ("cost above the limit", f"{excess} [discounted cost, as the critics see it]"),
        ("", f"the limit is {at.kappa:.3g}, the noise of the critics {at.critic_noise:.2g}"),
    ]


def _check_fit(place: Workspace, spec: PolicySpec, settings: CommonSettings, judge: JudgeMode) -> None:
    """Before minutes of learning, not after them."""
    from saferule_ros.cli.output import note
    from saferule_ros.dataset.dataset import EpisodeDataset
    from saferule_ros.evaluation.requirements import CannotJudge, episodes_to_judge_by
    from saferule_ros.patching.misgivings import misgivings

    dataset = EpisodeDataset.load(place.dataset)
    found, wanted = (dataset.observation_size, dataset.action_size), (spec.observation_size, spec.action_size)
    if found != wanted:
        raise MisfitError(
            f"the dataset in {place.dataset} has (observation, action) size {found}, {spec.task} has {wanted}",
            "Name the task or robot that the data is from",
        )
    for words in misgivings(dataset, spec, settings):
        note(words)
    if judge is JudgeMode.ADVISE:  # where it is required, nothing is learned
        try:
            episodes_to_judge_by(dataset)
        except CannotJudge as error:
            note(f"no policy can be judged, the last one is taken: {error}")
