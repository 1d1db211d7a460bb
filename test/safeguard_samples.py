"""Safeguard files for tests, in few words."""

from typing import Any


def safeguard_file(
    sizes: tuple[int, int], labels: dict[str, str], unsafe: tuple[str, ...], *ways: tuple[Any, ...], **rest: Any
) -> dict[str, Any]:
    """The content of one that begins in "clear".

    Args:
        sizes: of observation and action.
        labels: by name.
        unsafe: states that are.
        ways: (from, when, to), and the ticks after which.
    """
    states = dict.fromkeys(name for way in ways for name in (way[0], way[2]))
    return {
        "schema": "saferule_ros/safeguard/1", "name": "sample", "observation_size": sizes[0], "action_size": sizes[1],
        "labels": labels, "initial": "clear", "states": {name: {"unsafe": name in unsafe} for name in states},
        "transitions": [dict(zip(("from", "when", "to", "after"), way, strict=False)) for way in ways], **rest,
    }  # fmt: skip
