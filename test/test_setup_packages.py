"""The virtual environment, made for real by pip, from small wheels that the tests write."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest
from environment import interpreter, packages, places, shell
from environment.trouble import Trouble


def write_wheel(folder: Path, name: str, version: str, requires: tuple[str, ...] = ()) -> None:
    """A wheel with one module, `name`.py, that holds its version."""
    folder.mkdir(exist_ok=True)
    info = f"{name}-{version}.dist-info"
    needs = "".join(f"Requires-Dist: {line}\n" for line in requires)
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}.py", f"version = {version!r}\n")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}")
        wheel.writestr(
            f"{info}/WHEEL",
            "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        wheel.writestr(f"{info}/RECORD", "")


class Setting:
    """A repository's place in a temporary folder, with an index that has the test's wheels only."""

    def __init__(self, folder: Path) -> None:
        self.place = places.Places(folder, "kilted", sourced=False)
        self.wheels = folder / "wheels"
        kept = {name: value for name, value in shell.outside(os.environ).items() if not name.startswith("PIP_")}
        self.environ = {
            **kept,
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.wheels),
        }
        self.python = interpreter.find(self.place, "", self.environ)

    def install(self, pins: dict[str, str], torch: str = "cpu") -> None:
        packages.install(self.place, self.python, pins, torch, self.environ)

    def installed(self) -> set[str]:
        return {path.stem for path in self.place.venv.glob("lib/python3.*/site-packages/*.dist-info")}


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    return Setting(tmp_path)


def test_an_environment_follows_its_locks(setting: Setting, capsys: pytest.CaptureFixture[str]) -> None:
    write_wheel(setting.wheels, "torch", "2.13.0", ("filelock", "setuptools"))
    write_wheel(setting.wheels, "first", "1.0")
    write_wheel(setting.wheels, "first", "1.1")

    setting.install({"torch": "2.13.0", "first": "1.0"})
    assert {"torch-2.13.0", "first-1.0"} <= setting.installed()

    stamp = setting.place.venv / "setup-stamp.json"
    before = stamp.stat().st_mtime_ns
    setting.install({"torch": "2.13.0", "first": "1.0"})
    assert stamp.stat().st_mtime_ns == before, "a second time changes nothing"

    mark = setting.place.venv / "mark"
    mark.touch()
    setting.install({"torch": "2.13.0", "first": "1.1"})
    assert "first-1.1" in setting.installed() and "first-1.0" not in setting.installed()
    assert mark.exists(), "a new version is installed into the environment as it is"

    setting.install({"torch": "2.13.0"})
    assert "first-1.1" not in setting.installed()
    assert not mark.exists(), "an environment from which a package went is made anew"


def test_cuda_is_never_downloaded_unasked_and_a_failure_is_not_taken_for_done(setting: Setting) -> None:
    write_wheel(setting.wheels, "torch", "2.13.0", ("filelock", 'nvidia_cublas ; platform_system == "Linux"'))
    write_wheel(setting.wheels, "filelock", "1.0")
    write_wheel(setting.wheels, "nvidia_cublas", "13.0")

    with pytest.raises(Trouble, match=r"torch 2\.13\.0 with CUDA") as caught:
        setting.install({"torch": "2.13.0", "filelock": "1.0"})
    assert "make setup TORCH=cuda" in caught.value.remedy
    assert "PIP_EXTRA_INDEX_URL" in caught.value.remedy
    assert not setting.installed() & {"torch-2.13.0", "nvidia_cublas-13.0"}

    mark = setting.place.venv / "mark"
    mark.touch()
    setting.install({"torch": "2.13.0", "filelock": "1.0"}, torch="cuda")
    assert {"torch-2.13.0", "nvidia_cublas-13.0"} <= setting.installed()
    assert not mark.exists(), "an environment that was left half-finished is made anew"

    with pytest.raises(Trouble, match=r"has no nowhere==1\.0"):
        setting.install({"torch": "2.13.0", "filelock": "1.0", "nowhere": "1.0"}, torch="cuda")
    assert not (setting.place.venv / "setup-stamp.json").exists(), "a failed set-up does not count as done"
