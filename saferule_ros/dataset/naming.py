"""Errors for names that nobody knows: they say which names come close."""

import difflib
from collections.abc import Sequence

from saferule_ros.dataset.errors import DatasetError

# Enough to recognise a typing error, few enough for one line of a terminal.
_SHOWN = 5


def unknown_names(kind: str, unknown: Sequence[str], known: Sequence[str]) -> DatasetError:
    """The error for names that are not in `known`.

    Args:
        kind: what they name: "bag", "episode".
        unknown: at least one name that was asked for.
        known: names that would have been right.
    """
    return DatasetError(f"unknown {kind} {listed([repr(name) for name in unknown])}", closest(unknown[0], known, kind))


def listed(names: Sequence[str]) -> str:
    """The first names of a list that may be long, and how many more there are."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def closest(name: str, known: Sequence[str], kind: str) -> str:
    """The hint for a name that is not known: the closest ones, or the first of all."""
    close = difflib.get_close_matches(name, known, n=_SHOWN, cutoff=0.6)
    shown = close or list(known[:_SHOWN])
    names = ", ".join(repr(name) for name in shown) or "none"
    rest = f" (of {len(known)})" if len(known) > len(shown) else ""
    return f"Did you mean {names}{rest}?" if close else f"Known {kind}s: {names}{rest}"
