"""ROS messages of policy_server, made from what the store says."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from builtin_interfaces.msg import Time

from saferule_ros.policy.reader import StoreEntry
from saferule_ros.srv import ListPolicies


def time_of(moment: datetime) -> Time:
    whole = int(moment.timestamp())
    return Time(sec=whole, nanosec=moment.microsecond * 1000)


def fill_list(response: ListPolicies.Response, entries: Sequence[StoreEntry]) -> ListPolicies.Response:
    """One entry per bundle; damaged ones last, without what only their manifest could have told."""
    for entry in entries:
        manifest = entry.manifest
        response.policy_ids.append(entry.bundle_id)
        response.places.append(entry.place or "")
        response.parents.append((manifest.parent or "") if manifest else "")
        response.algorithms.append(manifest.algorithm if manifest else "")
        response.created.append(time_of(manifest.created_at) if manifest else Time())
    damaged = [f"{entry.bundle_id}: {entry.problem}" for entry in entries if entry.problem]
    response.success = True
    response.message = f"damaged: {'; '.join(damaged)}" if damaged else ""
    return response
