"""Pictures: not black, projected where MuJoCo draws, the path in the colours of safe and costly steps."""

import threading
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("gymnasium", reason="the simulator is not installed")

from PIL import Image

from saferule_ros.errors import SaferuleError
from saferule_ros.sim.behaviour import demonstrate
from saferule_ros.sim.camera import Camera, PictureError, View, named_view, overview
from saferule_ros.sim.compat import egl_loads
from saferule_ros.sim.environment import SafetyEnvironment
from saferule_ros.sim.rendering import COST_COLOUR, SAFE_COLOUR, path_picture, save_picture
from saferule_ros.sim.rollout import Trajectory

needs_egl = pytest.mark.skipif(not egl_loads(), reason="no EGL: apt-get install libegl1 libegl-mesa0 libgl1-mesa-dri")
pytestmark = needs_egl


@pytest.fixture(scope="module")
def circle() -> SafetyEnvironment:
    return SafetyEnvironment("SafetyPointCircle1")


@pytest.fixture(scope="module")
def unsafe(circle: SafetyEnvironment) -> Trajectory:
    return demonstrate(circle, "unsafe", 3)


def near(image: np.ndarray, colour: tuple[int, ...], tolerance: int = 24) -> np.ndarray:
    """Which pixels have that colour, bool (height, width)."""
    return (np.abs(image.astype(int) - np.array(colour)) <= tolerance).all(axis=2)


@pytest.mark.parametrize("camera", ["overview", "fixedfar", "track", "vision"])
def test_a_camera_sees_something_and_always_the_same(circle: SafetyEnvironment, camera: str) -> None:
    circle.reset(0)
    image = circle.render(camera, 320, 240)
    assert image.shape == (240, 320, 3) and image.dtype == np.uint8
    assert 40 < image.mean() < 250 and image.std() > 3
    circle.step(np.ones(2, np.float32))
    circle.reset(0)
    np.testing.assert_array_equal(circle.render(camera, 320, 240), image)


def test_locomotion_tasks_have_pictures_too() -> None:
    env = SafetyEnvironment("SafetyHalfCheetahVelocity")
    env.reset(0)
    assert env.render("track", 160, 120).std() > 3
    with pytest.raises(PictureError, match=r"'overview'.*track"):
        env.render("overview", 160, 120)


def test_an_unknown_camera_is_refused_with_those_there_are(circle: SafetyEnvironment) -> None:
    circle.reset(0)
    with pytest.raises(PictureError, match=r"'attic'.*overview, fixednear, fixedfar"):
        circle.render("attic")


@pytest.mark.parametrize("which", ["overview", "fixedfar"])
def test_a_point_of_the_world_is_projected_to_where_mujoco_draws_it(circle: SafetyEnvironment, which: str) -> None:
    circle.reset(5)
    view: View = overview(2.1) if which == "overview" else named_view(circle.model, circle.data, which)
    camera = Camera(640, 480)
    whole = camera.picture(circle.model, circle.data, view)
    without = camera.picture(circle.model, circle.data, view, circle.robot_geoms())
    camera.close()
    red = near(whole, (200, 20, 50), 55) & (whole != without).any(axis=2)
    rows, columns = np.nonzero(red)
    seen = np.array([columns.mean(), rows.mean()])
    pixel = view.project(circle.data.body("agent").xpos[None], 640, 480)[0]
    assert np.linalg.norm(seen - pixel) < 6  # pixels; the robot's ball is about 20 wide


def test_a_point_behind_the_camera_is_nowhere() -> None:
    assert np.isnan(overview(2.0).project(np.array([[0.0, -50.0, 50.0]]), 640, 480)).all()


def test_drawing_changes_nothing_in_the_world(circle: SafetyEnvironment) -> None:
    def run(draw: bool) -> bytes:
        seen = [circle.reset(2)]
        for _ in range(20):
            if draw:
                circle.render("overview", 64, 48)
            seen.append(circle.step(np.array([0.7, 0.3], np.float32)).observation)
        return np.stack(seen).tobytes()

    assert run(draw=True) == run(draw=False)
    model, data = circle.model, circle.data
    lent = (data.cam_xpos, data.cam_xmat, model.cam_fovy, model.geom_group, model.geom_rgba, model.geom_matid)
    before = [array.copy() for array in lent]
    camera = Camera(64, 48)
    camera.picture(model, data, overview(3.0), circle.robot_geoms())
    camera.close()
    for array, value in zip(lent, before, strict=True):
        np.testing.assert_array_equal(array, value)


def test_pictures_can_be_made_from_another_thread(circle: SafetyEnvironment) -> None:
    circle.reset(0)
    here = circle.render("overview", 160, 120)
    there: list[np.ndarray] = []
    thread = threading.Thread(target=lambda: there.append(circle.render("overview", 160, 120)))
    thread.start()
    thread.join(60)
    np.testing.assert_array_equal(there[0], here)
    np.testing.assert_array_equal(circle.render("overview", 160, 120), here)


def test_the_path_is_in_the_picture_in_both_colours_and_where_the_robot_was(
    circle: SafetyEnvironment, tmp_path: Path
) -> None:
    unsafe = demonstrate(circle, "unsafe", 3)  # the robot now stands at the end of it
    image = path_picture(circle, unsafe.path, unsafe.costs, title="unsafe", width=640, height=480)
    assert image.shape == (480, 640, 3) and 60 < image.mean() < 250
    legend = np.zeros(image.shape[:2], bool)
    legend[:90, :240] = True
    for colour, costly in ((SAFE_COLOUR, False), (COST_COLOUR, True)):
        drawn = near(image, colour) & ~legend
        assert drawn.sum() > 150
        ends = unsafe.path[1:][(unsafe.costs > 0) == costly]
        at = np.round(overview(2.1).project(np.column_stack([ends, np.zeros(len(ends))]), 640, 480)).astype(int)
        hit = [near(image[y - 2 : y + 3, x - 2 : x + 3], colour).any() for x, y in at]
        assert np.mean(hit) > 0.85  # the robot and the beginning's mark cover a few
    x, y = overview(2.1).project(circle.data.body("agent").xpos[None], 640, 480)[0].round().astype(int)
    assert near(image[y - 4 : y + 5, x - 4 : x + 5], (200, 20, 50), 55).mean() > 0.5  # on top of its path
    save_picture(image, tmp_path / "path.png")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "path.png")), image)


def test_a_safe_path_has_no_costly_colour(circle: SafetyEnvironment, unsafe: Trajectory) -> None:
    image = path_picture(circle, unsafe.path, np.zeros(500), width=640, height=480)
    image[:90, :240] = 0  # the legend shows both colours
    assert near(image, SAFE_COLOUR).sum() > 300 and near(image, COST_COLOUR, 10).sum() == 0


@pytest.mark.parametrize(
    ("points", "steps", "message"), [(5, 5, "T costs"), (1, 0, "T costs"), (3, 2, "NaN or infinity")]
)
def test_a_path_that_does_not_fit_is_refused(circle: SafetyEnvironment, points: int, steps: int, message: str) -> None:
    circle.reset(0)
    path = np.zeros((points, 2))
    path[-1] = np.nan if "NaN" in message else 0.0
    with pytest.raises(SaferuleError, match=message):
        path_picture(circle, path, np.zeros(steps))
