"""Names of episodes: the same times come again, with each start of a simulator and in each recording of one."""

import hashlib
import re

# With a contract's name of 60, a time of 20 and a count, it all stays within the 128 characters of a name.
_LONGEST = 40
_DIGEST = 8
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_.+-]")


def label_of(bag_id: str) -> str:
    """A bag's id as a part of names: shortened, and without what names cannot have, where that must be; then still
    another one for each id.
    """
    label = _NOT_IN_NAMES.sub("_", bag_id)
    if label == bag_id and len(label) <= _LONGEST:
        return label
    digest = hashlib.sha256(bag_id.encode(errors="surrogateescape")).hexdigest()[:_DIGEST]
    return f"{label[: _LONGEST - _DIGEST - 1]}_{digest}"


def episode_id(contract: str, label: str, time: int, set_back: int) -> str:
    """The name of an episode.

    Args:
        contract: name of the contract.
        label: of the recording, or of the process; empty: none.
        time: of its first tick [ns].
        set_back: how often the clock was set back before.
    """
    parts = [contract, label, str(time), str(set_back or "")]
    return "-".join(part for part in parts if part)
