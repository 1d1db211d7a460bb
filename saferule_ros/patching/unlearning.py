"""From a checkpoint and a forget set, both in a workspace, to a certified run, and its result as a checkpoint.

A checkpoint that was patched before goes on to forget what it had to forget then: the dataset is the same, and whatever
is not in D_f is learned from.
"""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from saferule_ros.dataset.dataset import EpisodeDataset
from saferule_ros.dataset.forget_set import ForgetSet
from saferule_ros.errors import SaferuleError
from saferule_ros.learning.checkpoint import load_checkpoint, save_checkpoint
from saferule_ros.learning.learner import Learner
from saferule_ros.learning.unfinished import Unfinished
from saferule_ros.patching.origin import Origin
from saferule_ros.settings import name_of
from saferule_ros.unlearning.certificate import Certificate
from saferule_ros.unlearning.certified import CertifiedRun
from saferule_ros.unlearning.methods import method_for
from saferule_ros.unlearning.settings import RunSettings
from saferule_ros.workspace import Workspace

# Count up when the same settings come to take other steps: what was stopped before then is not gone on with.
STEPS_VERSION = 4


class DatasetMismatch(SaferuleError):
    """The workspace's dataset is not the one that a learner learned from."""


class Unlearning:
    """A run that is ready to begin.

    Args:
        workspace: has the dataset, the checkpoint and the forget set.
        checkpoint_id: of the learner that is to forget.
        forget_set_id: of what.
        method: see unlearning/methods.py.
        read_settings: gives the settings, of the class that it is called with.
        steps: overrides theirs; 0: does not.
        seed: of every random draw.
        device: cpu or cuda.

    Attributes:
        dataset: what the learner learned from.
        forget_set: the selection.
        forgotten_before: ids of the forget sets of earlier patches of this checkpoint, oldest first: part of D_f.
        keep: D_k, all of it.
        settings: of the run.
        certified: the run and its certificate.

    Raises:
        DatasetMismatch: the learner learned from another dataset.
        OriginError, ForgetSetError: what earlier patches had to forget cannot be read.
        SaferuleError: something is missing or damaged, or the method does not work on this learner.
    """

    def __init__(
        self, workspace: Workspace, checkpoint_id: str, forget_set_id: str, method: str,
        read_settings: Callable[[type[RunSettings]], RunSettings], steps: int, seed: int,
        device: str = "cpu",
    ) -> None:  # fmt: skip
        self._workspace, self._parent, self._method, self._seed = workspace, checkpoint_id, method, seed
        learner, learned_from = load_checkpoint(workspace.checkpoint(checkpoint_id), device)
        self.settings = read_settings(method_for(method, type(learner)).settings)
        if steps:
            self.settings = self.settings.model_copy(update={"steps": steps})
        self.dataset = EpisodeDataset.load(workspace.dataset)
        if self.dataset.digest != learned_from:
            raise DatasetMismatch(
                f"checkpoint {checkpoint_id} was learned from dataset {learned_from}, "
                f"but {workspace.dataset} is {self.dataset.digest}",
                "Put the dataset that it was learned from into the workspace",
            )
        self.forget_set = ForgetSet.load(workspace.forget_sets, forget_set_id)
        origin = Origin.load(workspace.checkpoint(checkpoint_id))
        before = origin.forgotten if origin else []
        self.forgotten_before = [earlier for earlier in before if earlier != forget_set_id]
        earlier = [ForgetSet.load(workspace.forget_sets, one) for one in self.forgotten_before]
        forget, self.keep = self.forget_set.split(self.dataset, earlier)
        self.certified = CertifiedRun(method, learner, forget, self.keep, self.settings, seed)

    def parent(self) -> Learner:
        """The learner that is to forget, as it was before."""
        return load_checkpoint(self._workspace.checkpoint(self._parent), self.certified.run.learner.device)[0]

    @property
    def unfinished(self) -> Unfinished:
        """Where this very run is kept while it is stopped: its name has all that it depends on."""
        asked = {
            "steps_version": STEPS_VERSION, "parent": self._parent, "forget_set": self.forget_set.id,
            "forgotten_before": self.forgotten_before, "method": self._method,
            "settings": self.settings.model_dump(mode="json"), "seed": self._seed,
            "device": self.certified.run.learner.device.type,
        }  # fmt: skip
        return Unfinished(self._workspace.training / name_of(asked))

    def save(self, certificate: Certificate | None) -> str:
        """Saves the learner as it is now, with what it comes from, durably; returns the checkpoint's id."""
        learner, workspace = self.certified.run.learner, self._workspace
        # Two forget sets of the same steps, named for two reasons, teach the same to the bit.
        made_for = {
            "parent": self._parent, "forget_set": self.forget_set.id, "forgotten_before": self.forgotten_before,
            "method": self._method, "seed": self._seed,
        }  # fmt: skip
        checkpoint_id = save_checkpoint(learner, workspace.checkpoints, self.dataset.digest, made_for)
        origin = Origin(
            parent_checkpoint=self._parent, forget_set_id=self.forget_set.id, forgotten_before=self.forgotten_before,
            method=self._method, settings=self.settings.model_dump(mode="json"), seed=self._seed,
            steps=self.certified.run.steps_done, certificate=described(certificate),
            budget=asdict(self.certified.run.meter.budget),
        )  # fmt: skip
        origin.save(workspace.checkpoint(checkpoint_id))
        return checkpoint_id


def described(certificate: Certificate | None) -> dict[str, Any] | None:
    """A certificate as plain data, with its verdicts."""
    if certificate is None:
        return None
    return asdict(certificate) | {
        "reward_suppressed": certificate.reward_suppressed, "cost_separated": certificate.cost_separated,
    }  # fmt: skip
