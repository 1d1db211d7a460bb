"""What policy_server lets others do with its policy store: list, show, verify, export, import, prune.

None of it changes what serves. All of it runs in threads beside control.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node

from saferule_ros.errors import SaferuleError
from saferule_ros.nodes.background import Background
from saferule_ros.nodes.policy_messages import fill_list
from saferule_ros.nodes.policy_services import PolicyServices
from saferule_ros.policy.archive import destination
from saferule_ros.policy.places import PLACES
from saferule_ros.policy.store import PolicyStore
from saferule_ros.srv import ExportPolicy, ImportPolicy, ListPolicies, PrunePolicies, ShowPolicy, VerifyPolicy

Response = TypeVar("Response")


class StoreServices:
    """Owns the services.

    Args:
        node: where they are.
        store: what they are about.
        policies: judges policies with the server's own limits.
    """

    def __init__(self, node: Node, store: PolicyStore, policies: PolicyServices) -> None:
        self._node = node
        self._store = store
        self._policies = policies
        aside = ReentrantCallbackGroup()  # control goes on while these wait, see Background
        for kind, name, work in (
            (ListPolicies, "list", self._list),
            (ShowPolicy, "show", self._show),
            (VerifyPolicy, "verify", self._verify),
            (ExportPolicy, "export", self._export),
            (ImportPolicy, "import", self._import),
            (PrunePolicies, "prune", self._prune),
        ):
            node.create_service(kind, f"~/{name}", self._beside(name, work), callback_group=aside)

    def _beside(self, name: str, work: Callable[[Any, Any], None]) -> Callable[[Any, Any], Any]:
        """A callback that does the work in a thread; an error becomes the reply's message."""

        async def serve(request: Any, response: Response) -> Response:
            try:
                await Background(self._node, name, lambda: work(request, response)).done()
                response.success = True  # type: ignore[attr-defined]
            except (SaferuleError, OSError) as error:
                response.message = str(error)  # type: ignore[attr-defined]
            return response

        return serve

    def _list(self, _: ListPolicies.Request, response: ListPolicies.Response) -> None:
        fill_list(response, self._store.list())

    def _show(self, request: ShowPolicy.Request, response: ShowPolicy.Response) -> None:
        response.policy_id = policy_id = self._chosen(request.policy_id, "active")
        manifest = self._store.get(policy_id).manifest
        response.place = self._store.places().of(policy_id) or ""
        # Another process may prune it in between.
        response.signer = next((entry.signed for entry in self._store.list() if entry.bundle_id == policy_id), "")
        response.manifest = json.dumps(manifest.model_dump(mode="json"))

    def _verify(self, request: VerifyPolicy.Request, response: VerifyPolicy.Response) -> None:
        response.policy_id = policy_id = self._chosen(request.policy_id, "candidate")
        report = self._policies.judge(policy_id)
        response.passed, response.message = report.passed, report.summary
        response.invariants = [check.name for check in report.checks]
        response.found = [check.value for check in report.checks]
        response.allowed = [check.limit for check in report.checks]

    def _export(self, request: ExportPolicy.Request, response: ExportPolicy.Response) -> None:
        response.policy_id = policy_id = self._chosen(request.policy_id, "active")
        path = destination(Path(request.path), policy_id)
        self._store.export_archive(policy_id, path)
        response.path = str(path)

    def _import(self, request: ImportPolicy.Request, response: ImportPolicy.Response) -> None:
        who = request.requester or "policy_server/import"
        response.policy_id = self._store.import_archive(request.path, reason=request.reason, requester=who)
        if request.candidate:
            self._store.set_candidate(response.policy_id, reason=request.reason, requester=who)

    def _prune(self, request: PrunePolicies.Request, response: PrunePolicies.Response) -> None:
        response.policy_ids = self._store.prune(request.keep, requester=request.requester or "policy_server/prune")

    def _chosen(self, name: str, otherwise: str) -> str:
        """The id that an id, a place or nothing stands for."""
        name = name or otherwise
        return self._store.require(name) if name in PLACES else name  # type: ignore[arg-type]
