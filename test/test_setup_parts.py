"""The set-up step's decisions: which ROS, which packages, when to build, what a failure teaches."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from environment import cmake_paths, colcon, debian, interpreter, locks, places, shell, turns
from environment.run import run
from environment.stamp import Stamp
from environment.trouble import Trouble
from setup_tools import ROOT, program

LOCKS = sorted(path.stem for path in (ROOT / "requirements").glob("*.lock"))
PROMPTLY = 20.0  # [s]; what is waited for takes milliseconds on an idle machine
SOURCED = {"ROS_DISTRO": "jazzy", "AMENT_PREFIX_PATH": "/opt/ros/jazzy"}


@pytest.mark.parametrize(
    ("wanted", "environ", "name"),
    [
        ("", {}, "kilted"),
        ("jazzy", {}, "jazzy"),
        ("", SOURCED, "jazzy-sourced"),
        ("jazzy", SOURCED, "jazzy-sourced"),
        ("kilted", SOURCED, "kilted"),
        ("", {"ROS_DISTRO": "jazzy"}, "kilted"),  # the variable alone: nothing is sourced
        ("", {"ROS_DISTRO": "humble", "AMENT_PREFIX_PATH": "/opt/ros/humble"}, "humble-sourced"),
    ],
)
def test_a_sourced_distribution_is_used_unless_another_is_asked_for(
    wanted: str, environ: dict[str, str], name: str
) -> None:
    assert places.choose(ROOT, wanted, environ).name == name


def test_an_unknown_distribution_is_refused_with_the_known_ones() -> None:
    with pytest.raises(Trouble, match="foxy") as caught:
        places.choose(ROOT, "foxy", {})
    assert "kilted, jazzy" in caught.value.remedy


@pytest.mark.parametrize("lock", LOCKS)
def test_locks_hold_exact_versions_only(lock: str) -> None:
    assert locks.read_lock(ROOT / "requirements" / f"{lock}.lock")


def test_a_loose_line_in_a_lock_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.lock").write_text("numpy==2.3.5\ntorch>=2\n")
    with pytest.raises(Trouble, match=r"bad\.lock:2.*torch>=2"):
        locks.read_lock(tmp_path / "bad.lock")


@pytest.mark.parametrize("distro", places.DISTROS_WITH_WHEELS)
def test_what_was_measured_is_what_is_pinned(distro: str) -> None:
    pins = locks.pins_for(places.Places(ROOT, distro, sourced=False), (3, 11), has_colcon=False)
    assert pins["numpy"] == "2.3.5"
    assert pins["torch"] == "2.13.0"
    assert pins["mujoco"] == "2.3.3"
    assert pins["safety-gymnasium"] == "1.0.0"
    assert pins["ros-rclpy"] == {"kilted": "9.1.2", "jazzy": "7.1.6"}[distro]


def test_no_package_is_in_two_locks_of_one_environment() -> None:
    for ros in ("ros-kilted", "ros-jazzy"):
        seen: dict[str, str] = {}
        for lock in ("python", "sim", "ray", "fuzz", "build", ros):
            for name in locks.read_lock(ROOT / "requirements" / f"{lock}.lock"):
                assert name not in seen, f"{name} is in {seen[name]}.lock and {lock}.lock"
                seen[name] = lock


def test_a_sourced_distribution_keeps_its_numpy_and_its_colcon() -> None:
    sourced = places.Places(ROOT, "jazzy", sourced=True)
    pins = locks.pins_for(sourced, (3, 12), has_colcon=True)
    assert "torch" in pins
    assert not {"numpy", "colcon-core", "ros-rclpy", "mujoco"} & set(pins)
    assert "colcon-core" in locks.pins_for(sourced, (3, 12), has_colcon=False)
    assert {"mujoco", "ray"} <= set(locks.pins_for(sourced, (3, 11), has_colcon=True))
    assert "atheris" in pins and "atheris" not in locks.pins_for(sourced, (3, 14), has_colcon=True)


def test_wheel_paths_are_rewritten_once(tmp_path: Path) -> None:
    export = tmp_path / "share" / "std_msgs" / "cmake" / "export.cmake"
    generator = tmp_path / "share" / "rosidl_generator_py" / "cmake" / "generate.cmake"
    for path in (export, generator):
        path.parent.mkdir(parents=True)
    builder = "/opt/python/cp311-cp311"
    export.write_text(f'DIRS "{builder}/include/python3.11;{builder}/lib/python3.11/site-packages/numpy/_core/include"')
    generator.write_text("PUBLIC ${Python3_INCLUDE_DIRS} ${Python3_NumPy_INCLUDE_DIRS})")
    assert cmake_paths.rewrite(tmp_path / "share", "/here/python", "/here/numpy") == 2
    assert export.read_text() == 'DIRS "/here/python;/here/numpy"'
    assert "$<BUILD_INTERFACE:${Python3_NumPy_INCLUDE_DIRS}>" in generator.read_text()
    assert cmake_paths.rewrite(tmp_path / "share", "/here/python", "/here/numpy") == 0


def test_a_build_is_due_for_an_interface_and_for_a_new_file_but_not_for_an_edit(tmp_path: Path) -> None:
    (tmp_path / "msg").mkdir()
    (tmp_path / "saferule_ros").mkdir()
    message = tmp_path / "msg" / "Action.msg"
    module = tmp_path / "saferule_ros" / "errors.py"
    message.write_text("float32[] values\n")
    module.write_text("x = 1\n")
    first = colcon.source_digest(tmp_path, "packages")
    module.write_text("x = 2\n")  # linked into the installation: nothing to do
    assert colcon.source_digest(tmp_path, "packages") == first
    message.write_text("float64[] values\n")
    second = colcon.source_digest(tmp_path, "packages")
    (tmp_path / "saferule_ros" / "new.py").write_text("")
    third = colcon.source_digest(tmp_path, "packages")
    assert len({first, second, third, colcon.source_digest(tmp_path, "others")}) == 4


def test_an_unreadable_stamp_means_not_done(tmp_path: Path) -> None:
    stamp = Stamp(tmp_path / "stamp.json")
    assert stamp.read() is None
    stamp.write("abc", ["b", "a"])
    assert stamp.read() == ("abc", ["a", "b"])
    stamp.path.write_text('{"digest": "ab')
    assert stamp.read() is None


def test_a_missing_debian_package_is_named_with_its_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "dpkg-query", 'case "$*" in *libegl1) exit 1;; *) printf installed;; esac')
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(Trouble) as caught:
        debian.ensure(debian.NEEDS, {"CI": "true"}, tmp_path / "apt.log")
    assert "libegl1: " in caught.value.what
    assert caught.value.remedy.endswith("sudo apt-get install -y libegl1")


def test_a_second_set_up_of_the_same_waits_for_the_first_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, entered, said = threading.Event(), threading.Event(), []

    def say(words: str, **_: object) -> None:
        said.append(words)
        told.set()

    def second() -> None:
        with turns.only_one(tmp_path, "kilted"):
            entered.set()

    monkeypatch.setattr(turns, "print", say, raising=False)
    waiting = threading.Thread(target=second)
    with turns.only_one(tmp_path, "kilted"):
        with turns.only_one(tmp_path, "jazzy"):
            assert not said, "another environment is no reason to wait"
        waiting.start()
        assert told.wait(PROMPTLY) and "kilted" in said[0]
        assert not entered.is_set()
    assert entered.wait(PROMPTLY)
    waiting.join()


@pytest.mark.parametrize(("ci", "installs"), [("true", True), ("", False)])
def test_debian_packages_are_installed_only_for_root_in_ci(
    ci: str, installs: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path / "dpkg-query", "exit 1")
    program(tmp_path / "apt-get", f'echo "$@" >> {tmp_path}/called')
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    needs = [debian.Need("libegl1", "a reason")]
    environ = {"CI": ci, "PATH": os.environ["PATH"]}
    if not installs:
        with pytest.raises(Trouble, match="libegl1") as caught:
            debian.ensure(needs, environ, tmp_path / "apt.log")
        assert caught.value.remedy.endswith("  apt-get install -y libegl1")
        assert not (tmp_path / "called").exists()
    else:
        debian.ensure(needs, environ, tmp_path / "apt.log")
        assert "install -y --no-install-recommends libegl1" in (tmp_path / "called").read_text()


def python_that_says(path: Path, version: str) -> Path:
    """A command that answers set-up's question as a Python of that version would."""
    numbers = ", ".join(version.split(".")[:2])
    facts = f'"executable": "{path}", "version": [{numbers}], "full_version": "{version}", "machine": "x86_64"'
    return program(path, f'echo \'{{{facts}, "include": "/none", "has_venv": true, "modules": []}}\'')


def test_a_python_that_is_missing_or_of_another_version_is_told(tmp_path: Path) -> None:
    place = places.Places(ROOT, "kilted", sourced=False)
    python_that_says(tmp_path / "python3", "3.9.2")
    with pytest.raises(Trouble, match=r"python3\.11 was not found .*, python3 is 3\.9\.2") as caught:
        interpreter.find(place, "", {"PATH": str(tmp_path)})
    assert "apt-get install -y python3.11 python3.11-dev python3.11-venv" in caught.value.remedy
    with pytest.raises(Trouble, match=r"python3\.99 was not found"):
        interpreter.find(place, "python3.99", os.environ)


def test_one_python_has_one_name_by_whatever_path_it_was_found(tmp_path: Path) -> None:
    """Else the environment would be made anew from another shell."""
    real = Path(interpreter.find(places.Places(ROOT, "kilted", sourced=False), "", os.environ).executable)
    (tmp_path / "python3.11").symlink_to(real)
    found = interpreter.ask("python3.11", {"PATH": str(tmp_path)})
    assert found is not None and Path(found.executable) == real


def test_set_up_leaves_virtual_environments_and_keeps_the_rest_of_the_path() -> None:
    environ = {"VIRTUAL_ENV": "/somewhere", "PATH": "/somewhere/bin:/usr/bin:/bin", "PYTHONPATH": "/x", "HOME": "/h"}
    assert shell.outside(environ) == {"PATH": "/usr/bin:/bin", "HOME": "/h"}
    system = f"{sys.base_prefix}/bin"
    assert shell.outside({"PATH": f"{sys.prefix}/bin:{system}"})["PATH"] == system


def test_what_is_imported_is_compiled_once_and_kept_in_the_environment(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text("")
    environ = {key: value for key, value in os.environ.items() if key != "PYTHONPYCACHEPREFIX"}
    environ |= {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": ""}
    place = places.Places(ROOT, os.environ["VIRTUAL_ENV"].rpartition("/")[2], sourced=False)
    where = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import module; print(module.__cached__)"
    line = shell.command(place, ["python", "-c", where])
    kept = Path(subprocess.run(line, env=environ, check=True, capture_output=True, text=True).stdout.strip())
    assert kept.is_file() and kept.is_relative_to(place.venv)
    assert not (tmp_path / "__pycache__").exists()
    kept.unlink()


def test_any_python3_of_the_right_version_will_do_but_it_needs_its_headers(tmp_path: Path) -> None:
    place = places.Places(ROOT, "kilted", sourced=False)
    python_that_says(tmp_path / "python3", "3.11.2")
    with pytest.raises(Trouble, match=r"lacks its C headers \(/none/Python\.h\)") as caught:
        interpreter.find(place, "", {"PATH": str(tmp_path)})
    assert caught.value.remedy.endswith("apt-get install -y python3.11-dev")


def test_a_distribution_whose_python_is_another_is_told(tmp_path: Path) -> None:
    place = places.Places(ROOT, "jazzy", sourced=True)
    bare = program(tmp_path / "bare", f'exec {sys.executable} -S "$@"')  # sees no installed package
    with pytest.raises(Trouble, match=r"ROS jazzy is sourced, but .* cannot import .*numpy"):
        interpreter.find(place, str(bare), {"PATH": os.environ["PATH"]})


def test_no_network_is_told_as_such(tmp_path: Path) -> None:
    closed = "http://127.0.0.1:9/simple"  # nothing listens on the discard port
    command = [sys.executable, "-m", "pip", "--isolated", "download", "--no-deps", "anything"]
    with pytest.raises(Trouble, match="package index could not be reached") as caught:
        run([*command, "--index-url", closed, "--retries", "1"], tmp_path / "log", os.environ, tmp_path)
    assert str(tmp_path / "log") in caught.value.remedy
