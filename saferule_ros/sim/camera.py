"""Pictures of the simulated world without a screen, and where in the picture a point of the world is. [ours]

MuJoCo draws; the pose of the camera is set and known here, so points can be projected exactly. Only arrays
of MjModel and MjData are touched: with numpy 2 the bindings of MuJoCo 2.3.3 give arrays of the wrong length
for the fields of its viewer structures (MjvOption.geomgroup, MjvGLCamera.pos).
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saferule_ros.errors import SaferuleError
from saferule_ros.sim.compat import egl_loads

Image = NDArray[np.uint8]

OVERVIEW = "overview"
OVERVIEW_EXTENT = 2.1  # [m]; the rewarded circle of 1.5 m and what a robot does around it
_OVERVIEW_TILT = np.deg2rad(62.0)  # from the horizon: near enough to a map, and still a room
_OVERVIEW_FOVY = 40.0  # [deg]; a narrow lens keeps parallel walls nearly parallel
_ROUND = 96  # sides of what is drawn for a circle; MuJoCo's 28 are seen in large ones
_MAX_GEOMS = 1000  # the scenes of Safety-Gymnasium have fewer than 100
_EGL_HINT = (
    "Install the Debian packages libegl1, libegl-mesa0 and libgl1-mesa-dri "
    "(apt-get install libegl1 libegl-mesa0 libgl1-mesa-dri)"
)


class PictureError(SaferuleError):
    """No picture can be made: OpenGL is missing, or there is no such camera."""


@dataclass(frozen=True)
class View:
    """Where a camera is.

    Attributes:
        position: (3,) [m].
        rotation: (3, 3), columns right, up and backward in the world.
        fovy: vertical field of view [deg].
    """

    position: NDArray[np.float64]
    rotation: NDArray[np.float64]
    fovy: float

    def project(self, points: NDArray[np.float64], width: int, height: int) -> NDArray[np.float64]:
        """World points (N, 3) [m] to pixels (N, 2), x to the right and y down; NaN behind the camera."""
        right, up, back = ((np.asarray(points, np.float64) - self.position) @ self.rotation).T
        depth = np.where(back < 0, -back, np.nan)
        focal = height / 2 / np.tan(np.deg2rad(self.fovy) / 2)
        return np.stack([width / 2 + focal * right / depth, height / 2 - focal * up / depth], axis=1)


def overview(half_extent: float) -> View:
    """A view from the south, high up, that shows the square of that half-extent [m] around the origin."""
    distance = half_extent * (1 / np.tan(np.deg2rad(_OVERVIEW_FOVY) / 2) + np.cos(_OVERVIEW_TILT))
    back = np.array([0.0, -np.cos(_OVERVIEW_TILT), np.sin(_OVERVIEW_TILT)])
    right = np.array([1.0, 0.0, 0.0])
    return View(distance * back, np.stack([right, np.cross(back, right), back], axis=1), _OVERVIEW_FOVY)


def named_view(model: Any, data: Any, name: str) -> View:
    """The pose that camera `name` of the model has now.

    Raises:
        PictureError: no such camera; the error names those there are.
    """
    names = [model.camera(i).name for i in range(model.ncam)]
    if name not in names:
        raise PictureError(f"no camera {name!r}", f"Choose one of {', '.join([OVERVIEW, *names])}")
    index = names.index(name)
    rotation = data.cam_xmat[index].reshape(3, 3).copy()
    return View(data.cam_xpos[index].copy(), rotation, float(model.cam_fovy[index]))


class Camera:
    """Draws worlds into pictures of one size; any thread may ask.

    Args:
        width, height: of the pictures [pixels].

    Raises:
        PictureError: there is no EGL, the part of OpenGL that draws without a screen.
    """

    def __init__(self, width: int = 960, height: int = 720) -> None:
        if width < 1 or height < 1:
            raise PictureError(f"a picture of {width} x {height} pixels", "Both must be 1 or more")
        self.width, self.height = width, height
        self._stage = _Stage(width, height)
        self.close = weakref.finalize(self, self._stage.free)

    def picture(self, model: Any, data: Any, view: View, hidden_geoms: NDArray[np.int64] | None = None) -> Image:
        """The world as `view` sees it, uint8 (height, width, 3); the world is unchanged afterwards.

        Args:
            model, data: MuJoCo's.
            view: from where.
            hidden_geoms: indices of geoms to leave out.

        Raises:
            PictureError: the model has no camera to lend.
        """
        import mujoco

        if model.ncam < 1:
            raise PictureError("this world has no camera", "Add a <camera> to its MuJoCo model")
        camera = mujoco.MjvCamera()
        camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        camera.fixedcamid = 0
        area = mujoco.MjrRect(0, 0, self.width, self.height)
        pixels = np.empty((self.height, self.width, 3), np.uint8)
        with self._stage.current(model) as (scene, context):
            with _lent(model, data, view, hidden_geoms):
                everything = mujoco.mjtCatBit.mjCAT_ALL
                mujoco.mjv_updateScene(model, data, mujoco.MjvOption(), None, camera, everything, scene)
            mujoco.mjr_render(area, scene, context)
            mujoco.mjr_readPixels(pixels, None, area, context)
        return np.ascontiguousarray(pixels[::-1])  # OpenGL's rows go from the bottom up


class _Stage:
    """An OpenGL context and the textures of one model in it.

    The context is current only while it is used: what is current in one thread cannot be used, nor freed, by
    another.
    """

    def __init__(self, width: int, height: int) -> None:
        self._size = width, height
        self._lock = threading.Lock()
        self._gl = _gl_context(width, height)
        self._model: Any = None
        self._scene: Any = None
        self._context: Any = None

    @contextlib.contextmanager
    def current(self, model: Any) -> Iterator[tuple[Any, Any]]:
        """Inside, OpenGL works; gives MuJoCo's scene and rendering context for that model."""
        with self._lock, self._made_current():
            if self._model is not model:  # navigation tasks make a new model on every reset
                self._load(model)
            yield self._scene, self._context

    def free(self) -> None:
        """Gives the OpenGL memory back."""
        with self._lock:
            with self._made_current():
                self._unload()
            self._gl.free()

    def _load(self, model: Any) -> None:
        import mujoco

        self._unload()
        model.vis.global_.offwidth, model.vis.global_.offheight = self._size
        model.vis.quality.numslices = _ROUND
        self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        self._scene = mujoco.MjvScene(model, _MAX_GEOMS)
        self._model = model

    def _unload(self) -> None:
        if self._context is not None:
            self._context.free()
        self._model = self._scene = self._context = None

    @contextlib.contextmanager
    def _made_current(self) -> Iterator[None]:
        from mujoco import egl

        self._gl.make_current()
        try:
            yield
        finally:
            none = egl.EGL.EGL_NO_SURFACE
            egl.EGL.eglMakeCurrent(egl.EGL_DISPLAY, none, none, egl.EGL.EGL_NO_CONTEXT)


def _gl_context(width: int, height: int) -> Any:
    if not egl_loads():
        raise PictureError("no EGL on this machine, so no pictures of the simulator", _EGL_HINT)
    try:
        from mujoco.egl import GLContext

        return GLContext(width, height)
    except (ImportError, AttributeError, RuntimeError) as error:  # what they raise without a driver
        raise PictureError(f"EGL is there but cannot draw: {error}", _EGL_HINT) from error


@contextlib.contextmanager
def _lent(model: Any, data: Any, view: View, hidden: NDArray[np.int64] | None) -> Iterator[None]:
    """Lends camera 0 the view's pose, makes every geom visible but the hidden ones, and puts all of it back.

    Hazards and goals lie in geom groups that MuJoCo does not draw unless told, and that the lidar sorts by.
    """
    pose = (data.cam_xpos, data.cam_xmat, model.cam_fovy)
    arrays = (*pose, model.geom_group, model.geom_rgba, model.geom_matid)
    before = [array.copy() for array in arrays]
    try:
        for array, value in zip(pose, (view.position, view.rotation.ravel(), view.fovy), strict=True):
            array[0] = value
        model.geom_group[:] = 0
        if hidden is not None:
            model.geom_rgba[hidden, 3] = 0.0
            model.geom_matid[hidden] = -1  # a material's colour would win over the geom's
        yield
    finally:
        for array, old in zip(arrays, before, strict=True):
            array[:] = old
