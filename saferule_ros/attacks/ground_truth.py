"""What an attack did, on disk: evaluation compares with it, and tries its trigger."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from saferule_ros.attacks.errors import AttackError
from saferule_ros.attacks.marker import Marker
from saferule_ros.dataset.durable import write_atomically

GROUND_TRUTH_SCHEMA = "saferule_ros/ground-truth/1"


@dataclass(frozen=True)
class GroundTruth:
    """An attack and all that is needed to make it again.

    Attributes:
        forget_set_id: the forget set with it, of what was touched, or of what somebody who errs would name. It
            names this file, too.
        attack, seed, settings: what was asked for.
        clean_digest, poisoned_digest: of the dataset before and after.
        bag_id: of the poisoned episodes.
        ratio: share of transitions that is poisoned in truth.
        stretches: poisoned steps of each episode, by id: [first, last + 1] pairs.
        marker: what sets off the backdoor; None for attacks without one.
    """

    forget_set_id: str
    attack: str
    seed: int
    settings: dict[str, Any]
    clean_digest: str
    poisoned_digest: str
    bag_id: str
    ratio: float
    stretches: dict[str, list[tuple[int, int]]]
    marker: Marker | None

    def save(self, folder: Path) -> Path:
        """Writes <folder>/<forget set id>.json, durable on return."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.forget_set_id}.json"
        write_atomically(path, json.dumps({"schema": GROUND_TRUTH_SCHEMA, **asdict(self)}, indent=1).encode())
        return path

    @classmethod
    def load(cls, folder: Path, forget_set_id: str) -> "GroundTruth":
        """Reads what `save` wrote.

        Raises:
            AttackError: there is none for that forget set, or it cannot be read.
        """
        path = folder / f"{forget_set_id}.json"
        if not path.is_file():
            known = ", ".join(sorted(file.stem for file in folder.glob("*.json"))) or "none"
            raise AttackError(
                f"no attack is recorded for forget set {forget_set_id!r}",
                f"`saferule poison` records one. Known in {folder}: {known}",
            )
        try:
            stored = json.loads(path.read_bytes())
            if stored.pop("schema") != GROUND_TRUTH_SCHEMA:
                raise ValueError(f"it is not of schema {GROUND_TRUTH_SCHEMA!r}")
            marker = stored["marker"] and Marker(
                tuple(stored["marker"]["dimensions"]), tuple(stored["marker"]["values"])
            )
            stretches = {name: [(begin, end) for begin, end in pairs] for name, pairs in stored["stretches"].items()}
            return cls(**{**stored, "marker": marker, "stretches": stretches})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise AttackError(f"{str(path)!r} cannot be read: {error}", "Poison the clean data again") from error
