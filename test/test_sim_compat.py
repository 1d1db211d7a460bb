"""The three fixes around `import safety_gymnasium` are needed, effective, and leave nothing behind."""

import dataclasses
import os
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

pytest.importorskip("gymnasium", reason="the simulator is not installed")

from saferule_ros.sim import compat


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs code in a fresh interpreter: what an import does can only be seen once per process."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **environment},
        check=False,
    )


@pytest.mark.skipif(sys.version_info < (3, 11), reason="dataclasses refuse array defaults from Python 3.11")
def test_without_the_first_fix_the_import_fails_on_array_defaults() -> None:
    result = run_python("""
        from saferule_ros.sim import compat
        with compat.robotics_stand_in():
            import safety_gymnasium
    """)
    assert result.returncode != 0
    assert "mutable default <class 'numpy.ndarray'>" in result.stderr


def test_without_the_second_fix_the_import_fails_on_gymnasium_robotics() -> None:
    result = run_python("""
        from saferule_ros.sim import compat
        with compat.array_defaults_as_factories():
            import safety_gymnasium
    """)
    assert result.returncode != 0
    assert "No module named 'gymnasium_robotics'" in result.stderr


def test_with_the_fixes_the_import_works_prints_nothing_and_leaves_nothing_behind() -> None:
    result = run_python("""
        import dataclasses, os, sys
        import saferule_ros.sim.environment, saferule_ros.sim.evaluate, saferule_ros.sim.rendering
        def settings():
            return os.environ.get("MUJOCO_GL")
        before = dataclasses.dataclass, settings()
        module = saferule_ros.sim.environment.SafetyEnvironment("SafetyPointCircle1")
        module.reset(0)
        assert (dataclasses.dataclass, settings()) == before
        assert not [name for name in sys.modules if name.startswith("gymnasium_robotics")]
    """)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_each_object_gets_its_own_copy_of_an_array_default() -> None:
    with compat.array_defaults_as_factories():

        @dataclasses.dataclass
        class Geom:
            colour: np.ndarray = np.zeros(3)  # noqa: RUF009 - what upstream does
            size: float = 1.0

        first, second = Geom(), Geom()
    first.colour[0] = 1.0
    assert second.colour[0] == 0.0
    assert Geom(np.ones(3), 2.0).size == 2.0


def test_without_the_third_fix_a_reset_decodes_the_sky_pictures_and_is_many_times_slower() -> None:
    compat.import_safety_gymnasium()
    import safety_gymnasium.world as world
    import xmltodict

    env = compat.make_environment("SafetyPointCircle1-v0")
    fast, fast_start = fastest_reset(env)
    fixed = world.xmltodict
    world.xmltodict = xmltodict
    try:
        slow, slow_start = fastest_reset(env)
    finally:
        world.xmltodict = fixed
    assert "star_hd" not in xmltodict.unparse({"x": None}) and fixed is not xmltodict
    np.testing.assert_array_equal(fast_start, slow_start)  # the sky is nothing but a picture
    assert slow > 10 * fast, f"with pictures {slow:.3f} s, without {fast:.3f} s"  # measured: 60 to 100 times


def fastest_reset(env: object) -> tuple[float, np.ndarray]:
    """Shortest of three resets [s of CPU], and the first observation of seed 3."""
    times = []
    for _ in range(3):
        begin = time.process_time()
        observation, _ = env.reset(seed=3)  # type: ignore[attr-defined]
        times.append(time.process_time() - begin)
    return min(times), observation


def test_making_an_environment_leaves_numpys_global_generator_as_it_was() -> None:
    np.random.seed(5)
    expected = np.random.random()
    np.random.seed(5)
    compat.make_environment("SafetyPointCircle1-v0")
    assert np.random.random() == expected


def test_a_missing_simulator_is_an_error_that_says_how_to_install_it() -> None:
    result = run_python("""
        import sys
        sys.modules["xmltodict"] = None
        from saferule_ros.sim import compat
        try:
            compat.import_safety_gymnasium()
        except compat.SimulatorMissingError as error:
            print(error)
    """)
    assert "xmltodict" in result.stdout and "requirements/" in result.stdout, result.stderr


def test_without_egl_physics_works_and_pictures_are_refused_with_the_packages_to_install() -> None:
    result = run_python(
        """
        import ctypes
        real = ctypes.CDLL
        def no_egl(name, *args, **kwargs):
            if name and "EGL" in str(name):
                raise OSError("libEGL.so.1: cannot open shared object file")
            return real(name, *args, **kwargs)
        ctypes.CDLL = ctypes.cdll._dlltype = no_egl  # the second is what PyOpenGL calls
        from saferule_ros.sim.camera import PictureError
        from saferule_ros.sim.environment import SafetyEnvironment
        env = SafetyEnvironment("SafetyPointCircle1")
        env.reset(0)
        try:
            env.render()
        except PictureError as error:
            print(error)
        """,
        MUJOCO_GL="egl",
    )
    assert "libegl1" in result.stdout and "libgl1-mesa-dri" in result.stdout, result.stderr
