"""Every step of a kind does the same to the same tensors: recorded once and replayed, it learns what steps learn.

That is what a GPU needs to capture steps as CUDA graphs. Here torch records them on the CPU: every operation with its
tensors and random generators, nothing of the Python around it. A number that a step keeps in Python, a branch that
depends on data, or an operation whose size does, either cannot be recorded or shows as a difference.
"""

import numpy as np
import pytest
import torch
from learning_cases import WHOLE
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import TorchDispatchMode

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.dataset.episode import Episode
from saferule_ros.learning.algorithms import ALGORITHMS, make_learner, settings_from
from saferule_ros.learning.captured import WARM_UP, CapturedSteps
from saferule_ros.learning.replay import Units
from saferule_ros.learning.serving_policy import ServingPolicy
from saferule_ros.learning.settings import TaskLimits
from saferule_ros.learning.trainer import train
from saferule_ros.unlearning.critic_targets import FixedTargets
from saferule_ros.unlearning.methods import make_run, method_for

BOUNDS = (np.full(2, -1.0, np.float32), np.full(2, 1.0, np.float32))
LIMITS = TaskLimits(cost_limit=3.0, horizon=20)
# Gains: lambda and all that moves it change from step to step.
GAINS = {"multiplier_integral": 0.01, "multiplier_proportional": 0.02, "multiplier_derivative": 0.01}
SMALL = {"hidden": 16, "vae_hidden": 16, "batch": 32, "imitation_steps": 0, **GAINS}
REPLAYS = 4


def walks(count, prefix, shift):
    rng = np.random.default_rng(count)
    length = 20
    return [
        Episode(
            id=f"{prefix}-{index}", bag_id=prefix,
            observations=rng.normal(shift, size=(length + 1, 5)).astype(np.float32),
            actions=rng.uniform(-1, 1, (length, 2)).astype(np.float32),
            rewards=rng.uniform(size=length).astype(np.float32),
            costs=(rng.uniform(size=length) < 0.2).astype(np.float32), terminated=False, truncated=True,
        )
        for index in range(count)
    ]  # fmt: skip


KEEP, FORGET = walks(8, "keep", 0.0), walks(3, "forget", 1.0)
DATA = {name: EpisodeDataset.from_episodes(part) for name, part in {
    "keep": KEEP, "forget": FORGET, "both": [*KEEP, *FORGET]}.items()}  # fmt: skip


def settings_of(algorithm, **more):
    fields = type(settings_from({"algorithm": algorithm})).model_fields
    return settings_from({"algorithm": algorithm} | {n: v for n, v in (SMALL | more).items() if n in fields})


def learner_of(algorithm, device="cpu", **settings):
    return make_learner(Units.of(DATA["both"], *BOUNDS), LIMITS, settings_of(algorithm, **settings), 1, device)


def learning(learner):
    replay = learner.replay(DATA["both"])
    return lambda: learner.update(replay.sample(learner.settings.batch, learner.generator), replay)


def run_of(method, learner):
    kind = method_for(method, type(learner)).settings
    # What tells forget states from keep states is learned before the first step: nothing is captured of it.
    settings = kind(steps=20, **{name: value for name, value in WHOLE.items() if name in kind.model_fields})
    return make_run(method, learner, DATA["forget"], DATA["keep"], settings, seed=2)


def unlearning(method, learner):
    run = run_of(method, learner)
    if isinstance(getattr(run, "targets", None), FixedTargets):
        run.targets.complete()
    return run


def everything(learner):
    """All that learning changes, as one vector."""
    parts = [p.flatten() for network in learner.networks().values() for p in network.state_dict().values()]
    for optimiser in learner.optimisers.values():
        parts += [value.flatten() for value in optimiser.state().values()]
    return torch.cat([part.detach().double() for part in parts])


def sizes_that_hang_on_data(graph):
    """Recorded operations that a GPU would have to be asked about, as masks that pick elements do."""
    found = []
    for node in graph.nodes:
        if node.op == "call_function" and isinstance(node.target, torch._ops.OpOverload):
            by_mask = node.target is not torch.ops.aten.index.Tensor or any(
                index.meta["val"].dtype == torch.bool for index in node.args[1] if index is not None
            )
            if torch.Tag.dynamic_output_shape in node.target.tags and by_mask:
                found.append(node)
    return found


def numbers(losses):
    return {name: float(loss) for name, loss in losses.items()}


def assert_replays_are_steps(recorded, taken, recorded_learner, taken_learner):
    """Takes a step of each kind of copy, records the first one's next, and goes on with both."""
    recorded(), taken()
    replay = make_fx(lambda: dict(recorded()))()
    assert not sizes_that_hang_on_data(replay.graph)
    taken()
    for _ in range(REPLAYS):
        with torch.no_grad():  # the gradients are part of the recording
            of_replay = replay()
        of_step = taken()
    assert numbers(of_replay) == numbers(of_step)
    assert torch.equal(everything(recorded_learner), everything(taken_learner))
    assert recorded_learner.state() == taken_learner.state()


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
def test_a_recorded_step_of_learning_replays_as_steps(algorithm):
    one, other = learner_of(algorithm), learner_of(algorithm)
    before = one.state()
    assert_replays_are_steps(learning(one), learning(other), one, other)
    assert one.state() != before, "lambda or alpha must have moved, or nothing was shown about them"


def test_a_recorded_step_of_cpqs_imitation_replays_as_steps():
    one, other = (learner_of("cpq", imitation_steps=100) for _ in range(2))
    assert_replays_are_steps(learning(one), learning(other), one, other)


@pytest.mark.parametrize(
    ("algorithm", "method"), [*((name, "safe_rule") for name in sorted(ALGORITHMS)), ("bcq_lag", "reward_only")]
)
def test_a_recorded_step_of_unlearning_replays_as_steps(algorithm, method):
    one, other = (unlearning(method, learner_of(algorithm)) for _ in range(2))
    before = one.state()
    assert_replays_are_steps(lambda: one.take_step(), lambda: other.take_step(), one.learner, other.learner)
    assert one.state() == other.state() != before


@pytest.mark.parametrize("at", [5, 19])
def test_each_kind_of_traj_deleters_steps_replays_as_steps(at):
    one, other = (unlearning("traj_deleter", learner_of("bcq_lag")) for _ in range(2))
    one.steps_done = other.steps_done = at
    assert_replays_are_steps(lambda: one.take_step(), lambda: other.take_step(), one.learner, other.learner)


def test_targets_that_are_computed_beforehand_are_those_of_the_agent_as_it_was():
    beforehand, on_the_way = (run_of("safe_rule", learner_of("bcq_lag")) for _ in range(2))
    every = torch.arange(beforehand.keep.size)
    beforehand.targets.complete()
    of_the_agent = torch.stack(on_the_way.targets.at(every))  # before its first step
    for _ in range(3):
        beforehand.step()
    assert torch.equal(torch.stack(beforehand.targets.at(every)), of_the_agent)
    assert beforehand.computed_once() == on_the_way.computed_once()


def test_steps_on_a_cpu_are_taken_each_time():
    count = 0

    def step():
        nonlocal count
        count += 1
        return {"count": torch.tensor(count)}

    steps = CapturedSteps(torch.device("cpu"), [])
    taken = [int(steps.take("one", step)["count"]) for _ in range(WARM_UP + 3)]
    assert taken == list(range(1, WARM_UP + 4))


class Seen(TorchDispatchMode):
    """The operations that are dispatched, by name."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        self.names.add(str(operation))
        return operation(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("algorithm", "method"), [*((name, "safe_rule") for name in sorted(ALGORITHMS)), ("cpq", "fine_tune")]
)
def test_no_step_waits_for_a_number_or_makes_a_tensor_of_one(algorithm, method):
    """Neither is seen by the recorder where the number comes from elsewhere."""
    run = unlearning(method, learner_of(algorithm))
    run.marked = torch.tensor([1])  # as if D_f carried a mark
    run.step()
    with Seen() as seen:
        run.step()
    assert "aten.randint.generator" in seen.names
    assert not {name for name in seen.names if "_local_scalar_dense" in name or "lift_fresh" in name}


on_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here: no steps can be captured")


@on_cuda
@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
def test_captured_steps_learn_and_unlearn_what_steps_one_by_one_do(algorithm):
    steps = 20
    captured = train(DATA["both"], LIMITS, settings_of(algorithm), BOUNDS, steps, 1, device="cuda")
    by_hand = learner_of(algorithm, "cuda")
    one = learning(by_hand)
    for _ in range(steps):
        one()
    torch.testing.assert_close(everything(captured), everything(by_hand), rtol=1e-4, atol=1e-5)

    run, plain = unlearning("safe_rule", captured), unlearning("safe_rule", by_hand)
    for _ in range(run.steps):
        run.step()
        plain.prepare_step(), plain.take_step()
        plain.steps_done += 1
    torch.testing.assert_close(everything(captured), everything(by_hand), rtol=1e-4, atol=1e-5)
    run.release()


@on_cuda
def test_what_a_gpu_learned_serves_on_a_cpu():
    policy = ServingPolicy(learner_of("bcq_lag", "cuda")).on_cpu()
    assert policy(torch.zeros(1, 5)).shape == (1, 2)
