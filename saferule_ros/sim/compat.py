"""Makes Safety-Gymnasium 1.0.0 importable and quick on today's Python. [ours]

Three things need handling; each can go once upstream has dealt with it:

1. Its dataclasses have numpy arrays as field defaults, which Python 3.11 and later refuse
   ("mutable default <class 'numpy.ndarray'>"). While it is imported such defaults become factories.
2. It imports gymnasium_robotics, which cannot be installed next to numpy >= 1.24, for its multi-agent module
   alone. While it is imported an empty stand-in takes that place, and is removed afterwards.
3. Every reset of a navigation task decodes six sky pictures (24 MB of PNG): 1.1 s. The sky is made a computed
   gradient instead: 14 ms. Physics and observations do not depend on it.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import importlib
import importlib.util
import inspect
import os
import sys
import threading
import types
from collections.abc import Iterator
from typing import Any

import numpy as np

from saferule_ros.errors import SaferuleError

_lock = threading.Lock()
_STAND_IN = "gymnasium_robotics"
_STAND_IN_MODULES = (
    _STAND_IN,
    f"{_STAND_IN}.envs",
    f"{_STAND_IN}.envs.multiagent_mujoco",
    f"{_STAND_IN}.envs.multiagent_mujoco.mujoco_multi",
)
# Pale haze at the horizon, soft blue above: readable behind white and coloured marks in pictures.
_SKY = {
    "@type": "skybox",
    "@builtin": "gradient",
    "@rgb1": "0.70 0.78 0.88",
    "@rgb2": "0.93 0.95 0.97",
    "@width": "64",
    "@height": "64",
}


class SimulatorMissingError(SaferuleError):
    """Safety-Gymnasium or something that it needs is not installed."""


def import_safety_gymnasium() -> types.ModuleType:
    """Returns the module safety_gymnasium, imported with the fixes above; cheap after the first call.

    Raises:
        SimulatorMissingError: the package or one of its dependencies is missing.
    """
    with _lock:
        module = sys.modules.get("safety_gymnasium")
        if module is None:
            module = _import_fixed()
        _use_computed_sky(importlib.import_module("safety_gymnasium.world"))
        return module


def _import_fixed() -> types.ModuleType:
    with array_defaults_as_factories(), robotics_stand_in(), _mujoco_without_broken_egl():
        try:
            return importlib.import_module("safety_gymnasium")
        except ModuleNotFoundError as error:
            raise SimulatorMissingError(
                f"the simulator cannot be imported: no module {error.name!r}",
                "Install it with the pins in requirements/ (make setup), not with a plain pip install",
            ) from error


@contextlib.contextmanager
def array_defaults_as_factories() -> Iterator[None]:
    """Inside, @dataclass takes numpy arrays as defaults, as in Python 3.10, and gives each object its own."""
    original = dataclasses.dataclass

    def dataclass(cls: type | None = None, /, **options: Any) -> Any:
        def decorate(target: type) -> type:
            for name in inspect.get_annotations(target):
                default = target.__dict__.get(name)
                if isinstance(default, np.ndarray):
                    setattr(target, name, dataclasses.field(default_factory=default.copy))
            return original(target, **options)

        return decorate if cls is None else decorate(cls)

    dataclasses.dataclass = dataclass  # type: ignore[assignment]
    try:
        yield
    finally:
        dataclasses.dataclass = original  # type: ignore[assignment]


@contextlib.contextmanager
def robotics_stand_in() -> Iterator[None]:
    """Inside, `gymnasium_robotics` can be imported: the real one where installed, an empty one elsewhere."""
    if importlib.util.find_spec(_STAND_IN) is not None:
        yield
        return
    modules = {name: types.ModuleType(name) for name in _STAND_IN_MODULES}
    modules[_STAND_IN_MODULES[-1]].MultiAgentMujocoEnv = type(  # type: ignore[attr-defined]
        "MultiAgentMujocoEnv", (), {}
    )
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name in modules:
            sys.modules.pop(name, None)


def _use_computed_sky(world: types.ModuleType) -> None:
    """Swaps `xmltodict` inside safety_gymnasium.world for one that writes a computed sky; idempotent."""
    original = world.xmltodict
    if getattr(original, "computed_sky", False):
        return

    def unparse(tree: dict[str, Any], *args: Any, **kwargs: Any) -> str:
        assets = tree["mujoco"]["asset"]
        assets["texture"] = [_SKY if t.get("@type") == "skybox" else t for t in assets["texture"]]
        return original.unparse(tree, *args, **kwargs)

    world.xmltodict = types.SimpleNamespace(  # type: ignore[attr-defined]
        parse=original.parse, unparse=unparse, computed_sky=True
    )


@contextlib.contextmanager
def _mujoco_without_broken_egl() -> Iterator[None]:
    """With MUJOCO_GL=egl MuJoCo cannot be imported where EGL is missing; but physics needs no pictures."""
    wanted = os.environ.get("MUJOCO_GL", "").strip().lower()
    if wanted == "egl" and not egl_loads():
        with _environment("MUJOCO_GL", "disabled"):
            yield
    else:
        yield


def egl_loads() -> bool:
    """Whether the machine has an EGL library (Debian: libegl1)."""
    try:
        ctypes.CDLL("libEGL.so.1")
    except OSError:
        return False
    return True


@contextlib.contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = before


def make_environment(task_id: str) -> Any:
    """A new Safety-Gymnasium environment. It draws a seed from numpy's global generator, put back here."""
    module = import_safety_gymnasium()
    state = np.random.get_state()
    try:
        return module.make(task_id)
    finally:
        np.random.set_state(state)
