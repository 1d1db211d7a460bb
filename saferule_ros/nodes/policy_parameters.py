"""What policy_server can be told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from saferule_ros.errors import SettingsError
from saferule_ros.nodes.parameters import parameter
from saferule_ros.nodes.serving import LimitSettings
from saferule_ros.policy.failsafe import Reaction
from saferule_ros.workspace import Workspace


@dataclass(frozen=True)
class Parameters:
    """Parameters of policy_server."""

    workspace: str = parameter("", "folder of the robot's store; or give `store`")
    store: str = parameter("", "folder of the policy store; empty: the workspace's")
    autostart: bool = parameter(True, "configure and activate without a lifecycle manager")
    stale_after: float = parameter(0.5, "oldest observation that is acted on", unit="s", low=0.001, high=60.0)
    deadline: float = parameter(
        0.0, "longest time for one action, 0: the policy's control period", unit="s", low=0.0, high=60.0
    )
    reaction: str = parameter(
        Reaction.ZERO.value, "what goes out instead of the policy's action", choices=tuple(r.value for r in Reaction)
    )
    gate_deadline: float = parameter(
        0.0, "gate: largest p99 of the time per action, 0: half the control period", unit="s", low=0.0, high=60.0
    )
    gate_timeout: float = parameter(120.0, "gate: longest time for all its checks", unit="s", low=1.0, high=3600.0)

    @property
    def store_folder(self) -> Path:
        """Folder of the policy store.

        Raises:
            SettingsError: neither it nor the workspace is set.
        """
        if not self.store and not self.workspace:
            raise SettingsError("policy_server was given neither workspace nor store", "Set one of these parameters")
        given = Path(self.store) if self.store else Workspace(Path(self.workspace)).store
        return given.expanduser().absolute()

    @property
    def limits(self) -> LimitSettings:
        """What actions are held against."""
        return LimitSettings(self.stale_after, self.deadline, Reaction(self.reaction))
