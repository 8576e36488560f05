"""The layer table of ARCHITECTURE.md, held against the imports of every module."""

import ast
import importlib
import tomllib
from pathlib import Path

import pytest

from tasks.registry import TASKS, config_class, task_class

REPOSITORY = Path(__file__).resolve().parents[1]
FIRST_PARTY = {"backbone", "datasets", "tasks", "distill", "results"}

# Which first-party packages a package may import; `tasks.<one>` stands for every task.
ALLOWED = {
    "backbone": set(),
    "datasets": set(),
    "tasks.registry": {"tasks.common"},
    "tasks.common": {"backbone", "datasets", "tasks.registry"},
    "tasks.<one>": {"backbone", "datasets", "tasks.common"},
    "distill": {"backbone", "datasets", "tasks.common", "tasks.<one>", "tasks.registry"},
    "results": {"backbone", "datasets", "tasks.common", "tasks.<one>", "tasks.registry"},
}
# Third-party packages that only one module may import (and a benchmark, to compare with them).
ONLY_IN = {
    "albumentations": {"datasets/transforms.py", "tasks/classification/throughput.py"},
    "h5py": {"backbone/formats.py"},
    "pycocotools": {"tasks/detection/reference.py"},  # of the development environment alone
}
MODULES = sorted(
    path.relative_to(REPOSITORY) for package in FIRST_PARTY for path in (REPOSITORY / package).rglob("*.py")
)


def package_of(dotted: str) -> str:
    words = dotted.split(".")
    return ".".join(words[:2]) if words[0] == "tasks" and len(words) > 1 else words[0]


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module or "")
            if node.module == "tasks":
                found |= {f"tasks.{alias.name}" for alias in node.names}
    return found


def layer_of(package: str) -> str:
    return "tasks.<one>" if package.removeprefix("tasks.") in TASKS else package


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_module_imports_only_layers_below(module: Path) -> None:
    own = package_of(".".join(module.with_suffix("").parts))
    if own in ("tasks", "tasks.__init__", "tasks.__main__"):
        return
    for name in imports_of(REPOSITORY / module):
        package = package_of(name)
        first_word = name.split(".")[0]
        if first_word in FIRST_PARTY and package not in (own, "tasks"):
            assert layer_of(package) in ALLOWED[layer_of(own)], f"{module} imports {name}"
        if first_word in ONLY_IN:
            assert str(module) in ONLY_IN[first_word], f"{module} imports {name}"


def test_registry_lists_exactly_the_task_packages() -> None:
    packages = {path.parent.name for path in (REPOSITORY / "tasks").glob("*/*.py")} - {"common"}
    assert sorted(TASKS) == sorted(packages)
    for name in TASKS:
        assert task_class(name).name == name
        assert (task_class(name).__module__, config_class(name).__module__) == (
            f"tasks.{name}.task",
            f"tasks.{name}.config",
        )


def test_tasks_have_the_same_files() -> None:
    expected = {"__init__", "__main__", "config", "draw", "loss", "metric", "model", "task"}
    for task in TASKS:
        files = {path.stem for path in (REPOSITORY / "tasks" / task).glob("*.py")}
        assert expected <= files, f"tasks/{task} lacks {expected - files}"
        assert (REPOSITORY / "tasks" / task / "README.md").is_file()


@pytest.mark.parametrize("package", ["backbone", "datasets", "distill", "results", "tasks"])
def test_packages_are_ours(package: str) -> None:
    assert Path(importlib.import_module(package).__file__ or "").is_relative_to(REPOSITORY)


def test_an_installation_has_the_dependencies_alone() -> None:
    """`datasets` and `results` on an environment's path would hide other projects' packages."""
    metadata = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    assert metadata["tool"]["setuptools"] == {"packages": []}


def test_main_modules_define_nothing() -> None:
    """Worker processes cannot import from them."""
    for path in REPOSITORY.glob("*/**/__main__.py"):
        if ".venv" not in path.parts:
            defined = [n for n in ast.parse(path.read_text()).body if isinstance(n, ast.FunctionDef | ast.ClassDef)]
            assert not defined, path
