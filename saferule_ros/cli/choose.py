"""Which policy is meant: an id, the beginning of one, or a place in the store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from saferule_ros.errors import SaferuleError

if TYPE_CHECKING:
    from saferule_ros.policy.reader import StoreReader

PLACES = ("active", "previous", "candidate")

PolicyArgument = Annotated[
    str, typer.Argument(metavar="POLICY", help="Policy id or its beginning, or: active, previous, candidate.")
]


class AmbiguousPolicy(SaferuleError):
    """Several policies begin like that."""


def choose_policy(store: StoreReader, name: str) -> str:
    """The full id.

    Raises:
        AmbiguousPolicy: several ids begin with `name`.
        PolicyError: none does, or the place is empty, or there is no store.
    """
    if name in PLACES:
        return store.require(name)  # type: ignore[arg-type]
    ids = [entry.bundle_id for entry in store.list()]
    begins = [bundle_id for bundle_id in ids if name and bundle_id.startswith(name)]
    if len(begins) > 1:
        raise AmbiguousPolicy(f"several policies begin with {name!r}: {', '.join(begins)}", "Type more of the id")
    if len(begins) == 1:
        return begins[0]
    store.path(name)  # raises, and names those that there are
    return name
