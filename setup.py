"""Installs what needs no ROS: `pip install .[learning]` and the `saferule` command. With ROS, use colcon."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).resolve().parent
INIT = (HERE / "saferule_ros" / "__init__.py").read_text()
VERSION = re.search(r'^__version__ = "(.+)"$', INIT, re.MULTILINE)
assert VERSION is not None, "saferule_ros/__init__.py has no __version__"

# Lower bounds: what was tried. Exact versions of a set that works together: requirements/*.lock.
SERVING = ["onnx>=1.16", "onnxruntime>=1.18"]
LEARNING = [*SERVING, "torch>=2.13,<2.14", "onnxscript>=0.5", "safetensors>=0.4"]
REPORT = ["matplotlib>=3.8", "jinja2>=3.1", "pillow>=10"]
# Safety-Gymnasium itself is not among them: its own pins cannot be met on CPython 3.11, and an extra cannot
# say what works: pip install --no-deps safety-gymnasium==1.0.0
SIM = [
    "gymnasium==0.28.1",
    "mujoco==2.3.3",
    "pygame==2.6.1",
    "numpy<2.4",
    "xmltodict>=0.13",
    "imageio>=2.31",
    *REPORT,
]

setup(
    name="saferule_ros",
    version=VERSION.group(1),
    description="Patches a robot's learned policy on board: unlearns bad logs, swaps the repaired policy in.",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["saferule_ros", "saferule_ros.*"]),
    package_data={"saferule_ros": ["**/*.html", "**/*.j2", "**/*.yaml", "**/*.css"]},
    install_requires=[
        "numpy>=1.26",
        "cryptography>=42",
        "pydantic>=2.5",
        "pyyaml>=6.0",
        "typer>=0.12",
        "rich>=13.0",
        "mcap>=1.1",
        "mcap-ros2-support>=0.5",
        "rosbags>=0.10",
        "h5py>=3.10",
    ],
    extras_require={
        "serving": SERVING,
        "learning": LEARNING,
        "report": REPORT,
        "sim": SIM,
        "ray": [*LEARNING, *SIM, "ray>=2.9"],
        "dev": [
            "pytest>=8",
            "pytest-timeout>=2.3",
            "hypothesis>=6.100",
            "ruff>=0.17,<0.18",
            "mypy>=2.4,<3",
            "types-PyYAML",
        ],
    },
    entry_points={"console_scripts": ["saferule = saferule_ros.cli.main:app"]},
    zip_safe=False,
)
