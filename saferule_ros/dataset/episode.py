"""One episode: what the robot saw, did, earned and broke between a reset and an end."""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from saferule_ros.dataset.errors import DatasetError
from saferule_ros.dataset.mapped import blocks, is_mapped

Floats = npt.NDArray[np.float32]
Stamps = npt.NDArray[np.int64]

# Part of every digest: content that is hashed in another way must not look alike.
EPISODE_SCHEMA = "saferule_ros/episode/1"


@dataclass(frozen=True, eq=False)
class Episode:
    """A complete, contiguous run of T transitions. Immutable: arrays are copied and made read-only.

    Columns that are mapped from a file, read-only and of the right type, stay there: an episode may be of hours.

    Attributes:
        id: unique name.
        bag_id: bag it came from; empty if it never was in one.
        observations: (T+1, O) raw units of the robot; row t+1 is what action t led to.
        actions: (T, A) raw units of the robot.
        rewards: (T,) task units.
        costs: (T,) safety cost, >= 0.
        terminated: the last observation is absorbing: nothing is worth anything after it.
        truncated: cut (time limit, operator, lost message): the state went on.
        policy_ids: policies that acted, in order of first appearance.
        fallbacks: commands that were the declared safe action.
        lost: ticks that are known to be missing after the last transition.
        first_step: above 0 for a piece of an episode: the step at which it begins.
        stamps: (T,) when each action's observation was measured [ns since the epoch]; zeros where that is not known.
        recorded_by: who or what recorded it; empty where that is not known.

    Raises:
        DatasetError: shapes that do not fit each other, a non-finite value, a negative cost, no end.
    """

    id: str
    bag_id: str
    observations: Floats
    actions: Floats
    rewards: Floats
    costs: Floats
    terminated: bool
    truncated: bool
    policy_ids: tuple[str, ...] = ()
    fallbacks: int = 0
    lost: int = 0
    first_step: int = 0
    stamps: Stamps | None = None
    recorded_by: str = ""

    def __post_init__(self) -> None:
        if not self.id:
            raise DatasetError("an episode has an empty id", "Give every episode a unique name")
        for name, dimensions in (("observations", 2), ("actions", 2), ("rewards", 1), ("costs", 1)):
            object.__setattr__(self, name, self._checked(name, dimensions))
        object.__setattr__(self, "policy_ids", tuple(self.policy_ids))
        object.__setattr__(self, "stamps", self._checked_stamps())
        for name in ("terminated", "truncated"):
            object.__setattr__(self, name, bool(getattr(self, name)))
        self._check_fit()

    @property
    def length(self) -> int:
        """Number of transitions, T."""
        return len(self.rewards)

    @property
    def episode_return(self) -> float:
        """Sum of rewards, undiscounted, added in double precision."""
        return float(self.rewards.sum(dtype=np.float64))

    @property
    def episode_cost(self) -> float:
        """Sum of costs, undiscounted, added in double precision."""
        return float(self.costs.sum(dtype=np.float64))

    @cached_property
    def origin(self) -> str:
        """SHA-256, hex, of what is known of when and by whom it was recorded; empty if nothing is."""
        assert self.stamps is not None  # set when it was made
        if not self.recorded_by and not self.stamps.any():
            return ""
        name = self.recorded_by.encode()
        content = hashlib.sha256(len(name).to_bytes(8, "little") + name)
        for block in blocks(self.stamps):
            content.update(np.ascontiguousarray(block, dtype="<i8").data)
        return content.hexdigest()

    @cached_property
    def digest(self) -> str:
        """SHA-256, hex, of id, arrays, ends and counts.

        The bag and the origin are left out: the same episode keeps its digest wherever it is stored, and the
        dataset's digest binds all of them.
        """
        header = json.dumps(
            {
                "schema": EPISODE_SCHEMA,
                "id": self.id,
                "shape": [self.length, self.observations.shape[1], self.actions.shape[1]],
                "terminated": self.terminated,
                "truncated": self.truncated,
                "policy_ids": self.policy_ids,
                "fallbacks": self.fallbacks,
                "lost": self.lost,
                # Only where it says something, so that whole episodes keep the digests they always had.
                **({"first_step": self.first_step} if self.first_step else {}),
            },
            sort_keys=True,
            separators=(",", ":"),
        ).encode()
        content = hashlib.sha256(len(header).to_bytes(8, "little") + header)
        for column in (self.observations, self.actions, self.rewards, self.costs):
            for block in blocks(column):
                content.update(np.ascontiguousarray(block, dtype="<f4").data)
        return content.hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Episode) and (self.bag_id, self.digest) == (other.bag_id, other.digest)

    def __hash__(self) -> int:
        return hash((self.bag_id, self.digest))

    def _checked(self, name: str, dimensions: int) -> Floats:
        """A read-only float32 copy of a column, or the error that says what is wrong with it."""
        with np.errstate(over="ignore"):  # too large for single precision becomes inf, which is refused below
            given = getattr(self, name)
            mapped = is_mapped(given) and given.dtype == np.float32
            column = given if mapped else np.array(given, dtype=np.float32, order="C")
        if column.ndim != dimensions:
            raise DatasetError(
                f"episode {self.id!r}: {name} have shape {column.shape}, not {dimensions} dimensions",
                "Expected (T+1, O) observations, (T, A) actions, (T,) rewards and (T,) costs",
            )
        if not all(np.isfinite(block).all() for block in blocks(column)):
            where = tuple(int(i) for i in np.argwhere(~np.isfinite(column))[0])
            raise DatasetError(
                f"episode {self.id!r}: {name}{list(where)} is {column[where]}",
                "Non-finite data is never learned from: repair the source or leave this episode out",
            )
        column.setflags(write=False)
        return column

    def _checked_stamps(self) -> Stamps:
        """A read-only copy; zeros where none were given."""
        if self.stamps is None:
            given = np.zeros(len(self.rewards), np.int64)
        elif is_mapped(self.stamps) and self.stamps.dtype == np.int64:
            given = self.stamps
        else:
            given = np.array(self.stamps, np.int64)
        if given.shape != self.rewards.shape:
            raise DatasetError(
                f"episode {self.id!r}: stamps have shape {given.shape}, rewards {self.rewards.shape}",
                "Give one stamp for each action, or none",
            )
        given.setflags(write=False)
        return given

    def _check_fit(self) -> None:
        shapes = {name: getattr(self, name).shape for name in ("observations", "actions", "rewards", "costs")}
        length = len(self.actions)
        if length < 1:
            raise DatasetError(f"episode {self.id!r} has no transition", "Leave empty episodes out")
        if len(self.observations) != length + 1 or len(self.rewards) != length or len(self.costs) != length:
            raise DatasetError(
                f"episode {self.id!r}: lengths do not fit: {shapes}",
                "T actions need T+1 observations, T rewards and T costs",
            )
        if not self.observations.shape[1] or not self.actions.shape[1]:
            raise DatasetError(f"episode {self.id!r}: vectors of size 0: {shapes}", "Record at least one value")
        if (self.costs < 0).any():
            step = int(np.argmax(self.costs < 0))
            raise DatasetError(
                f"episode {self.id!r}: costs[{step}] is {self.costs[step]}, which is negative",
                "A cost is 0 where nothing was broken and positive otherwise",
            )
        if not (self.terminated or self.truncated):
            raise DatasetError(
                f"episode {self.id!r} is neither terminated nor truncated",
                "Every finished episode is one or the other: cut ones are truncated",
            )
        if min(self.fallbacks, self.lost, self.first_step) < 0:
            raise DatasetError(
                f"episode {self.id!r}: fallbacks {self.fallbacks}, lost {self.lost}, first_step {self.first_step}",
                "Counts are 0 or more",
            )
