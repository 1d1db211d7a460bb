"""The layers of saferule_ros: who may import whom, checked in the source and at run time."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "saferule_ros"

# A folder imports itself and those before it.
LAYERS = (
    "dataset",
    "safeguard",
    "recording",
    "contract",
    "learning",
    "unlearning",
    "evaluation",
    "attacks",
    "policy",
    "sim",
    "patching",
    "reporting",
    "experiments",
    "nodes",
    "cli",
)
GENERATED = {"msg", "srv", "action"}  # by colcon, from the interface files
ROS_CLIENT = {"rclpy", "launch", "launch_ros", "ament_index_python"}


@dataclass(frozen=True)
class Import:
    """One import statement: `module` is absolute; `deferred` means that importing the file does not run it."""

    file: Path
    line: int
    module: str
    deferred: bool

    def __str__(self) -> str:
        return f"{self.file.relative_to(PACKAGE.parent)}:{self.line} imports {self.module}"


def for_checkers_only(node: ast.AST) -> bool:
    """Whether this is an `if TYPE_CHECKING:`, which never runs."""
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def imports_of(file: Path) -> Iterator[Import]:
    """Every import in `file`, of relative ones the absolute name."""
    package = ["saferule_ros", *file.relative_to(PACKAGE).parts[:-1]]

    def visit(node: ast.AST, deferred: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            for name in node.names:
                yield Import(file, node.lineno, name.name, deferred)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            if module == "saferule_ros":  # `from saferule_ros import policy` imports the folder
                for name in node.names:
                    yield Import(file, node.lineno, f"saferule_ros.{name.name}", deferred)
            else:
                yield Import(file, node.lineno, module, deferred)
        inside = deferred or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) or for_checkers_only(node)
        for child in ast.iter_child_nodes(node):
            yield from visit(child, inside)

    yield from visit(ast.parse(file.read_text()), False)


def layer_of(file: Path) -> str:
    """The folder that a file is in; "" for the modules at the package's root."""
    parts = file.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else ""


def files(*layers: str) -> list[Path]:
    return sorted(file for file in PACKAGE.rglob("*.py") if not layers or layer_of(file) in layers)


def layer_imported(found: Import) -> str:
    """The layer that an import reaches into, "" if none."""
    parts = found.module.split(".")
    return parts[1] if parts[0] == "saferule_ros" and len(parts) > 1 and parts[1] in LAYERS else ""


def test_every_folder_has_a_place_in_the_order() -> None:
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir() and any(path.glob("*.py"))}
    assert folders <= set(LAYERS) | GENERATED, f"Say in LAYERS where these stand: {folders - set(LAYERS)}"


@pytest.mark.parametrize("layer", LAYERS)
def test_a_folder_imports_only_itself_and_those_before_it(layer: str) -> None:
    allowed = set(LAYERS[: LAYERS.index(layer) + 1])
    wrong = [
        str(found)
        for file in files(layer)
        for found in imports_of(file)
        if layer_imported(found) and layer_imported(found) not in allowed
    ]
    assert not wrong, "\n".join(wrong)


def test_modules_at_the_root_import_no_folder() -> None:
    wrong = [str(found) for file in files("") for found in imports_of(file) if layer_imported(found)]
    assert not wrong, "\n".join(wrong)


def test_only_nodes_import_ros() -> None:
    """Neither the client library nor the generated messages: recording works on bytes."""
    wrong = []
    for file in files():
        if layer_of(file) == "nodes":
            continue
        for found in imports_of(file):
            parts = found.module.split(".")
            generated = parts[0] == "saferule_ros" and len(parts) > 1 and parts[1] in GENERATED
            if parts[0] in ROS_CLIENT or parts[0].endswith("_msgs") or generated:
                wrong.append(str(found))
    assert not wrong, "\n".join(wrong)


def test_importing_policy_does_not_import_torch_by_itself() -> None:
    wrong = [
        str(found)
        for file in files("policy")
        for found in imports_of(file)
        if found.module.split(".")[0] == "torch" and not found.deferred
    ]
    assert not wrong, "\n".join(wrong)


def module_name(file: Path) -> str:
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def import_without(blocked: str, modules: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    """Imports `modules` in a fresh Python in which importing `blocked` fails."""
    program = (
        f"import importlib, sys\nsys.modules[{blocked!r}] = None\n"
        f"for name in {modules!r}:\n    importlib.import_module(name)\n"
    )
    return subprocess.run(
        [sys.executable, "-c", program], cwd=cwd, capture_output=True, text=True, timeout=120, check=False
    )


def test_the_core_runs_without_ros(tmp_path: Path) -> None:
    core = [module_name(file) for file in files() if layer_of(file) != "nodes"]
    core = [name for name in core if not name.endswith("__main__")]
    result = import_without("rclpy", core, tmp_path)
    assert result.returncode == 0, result.stderr


def test_serving_runs_without_torch(tmp_path: Path) -> None:
    """A robot that only serves need not have torch at all."""
    serving = [module_name(file) for file in files("policy")]
    result = import_without("torch", serving, tmp_path)
    assert result.returncode == 0, result.stderr


@pytest.mark.ros
@pytest.mark.parametrize("node", ["policy_server", "dataset_recorder"])
def test_the_robots_nodes_run_without_torch(node: str, tmp_path: Path) -> None:
    pytest.importorskip("rclpy", reason="ROS 2 is not installed")
    result = import_without("torch", [f"saferule_ros.nodes.{node}"], tmp_path)
    assert result.returncode == 0, result.stderr
