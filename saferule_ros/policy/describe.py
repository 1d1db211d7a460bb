"""The store in words, for people: what `saferule policy list|show|verify` print."""

import json

from saferule_ros.policy.errors import CorruptBundleError
from saferule_ros.policy.reader import StoreEntry, StoreReader

COLUMNS = ("policy", "place", "algorithm", "parent", "created", "state")


def policy_rows(store: StoreReader) -> list[dict[str, str]]:
    """One row of COLUMNS per bundle, oldest first, damaged ones last."""
    return [_row(entry) for entry in store.list()]


def list_policies(store: StoreReader) -> str:
    """The store as a table."""
    rows = [dict(zip(COLUMNS, COLUMNS, strict=True)), *policy_rows(store)]
    widths = {column: max(len(row[column]) for row in rows) for column in COLUMNS}
    lines = ("  ".join(row[column].ljust(widths[column]) for column in COLUMNS) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def show_policy(store: StoreReader, bundle_id: str) -> str:
    """A bundle's verified manifest as indented JSON, with folder and place. For errors see StoreReader.get."""
    bundle = store.get(bundle_id)
    head = {"folder": str(bundle.path), "place": store.places().of(bundle_id) or ""}
    return json.dumps(head | bundle.manifest.model_dump(mode="json"), indent=2)


def verify_policies(store: StoreReader, bundle_id: str = "") -> list[str]:
    """What is wrong with one bundle, or with all where no id is given; empty: nothing."""
    if not bundle_id:
        return [entry.problem for entry in store.list() if entry.problem]
    try:
        store.get(bundle_id)
    except CorruptBundleError as error:
        return [str(error)]
    return []


def _row(entry: StoreEntry) -> dict[str, str]:
    manifest = entry.manifest
    return {
        "policy": entry.bundle_id,
        "place": entry.place or "",
        "algorithm": manifest.algorithm if manifest else "",
        "parent": (manifest.parent or "") if manifest else "",
        "created": manifest.created_at.isoformat(sep=" ", timespec="seconds") if manifest else "",
        "state": f"damaged: {entry.problem}" if entry.problem else "ok",
    }
