"""The layers of the code base, checked against every import: `python -m tests.test_layers` prints them as a table.

A unit is a package, a task, or a folder or file of `tasks/common`. A unit imports only the units that ALLOWED lists for
it, which are all below it: there are no circular imports and no imports from a lower layer to a higher one.
"""

import ast
import graphlib
import importlib
import tomllib
from pathlib import Path

import pytest

from tasks.registry import TASKS, config_class, task_class

REPOSITORY = Path(__file__).resolve().parents[1]
FIRST_PARTY = {"backbone", "datasets", "tasks", "distill", "results"}

# The units of `tasks/common` from the bottom up; a unit imports only units of the rows above its own here.
COMMON_LAYERS = (
    ("ranges", "legacy"),
    ("config", "settings", "published"),
    ("runtime", "thresholds", "agreement", "weights"),
    ("inference_task",),
    ("task", "face_inference"),
    ("face_task",),
    ("model", "drawing", "deploy"),
    ("runs",),
    ("evaluation",),
    ("training", "prediction"),
    ("benchmark",),
    ("verbs",),
)
REGISTRY, CLI, API = "tasks.registry", "tasks.common.cli", "tasks.api"
ONE_TASK = "tasks.<task>"


def _allowed() -> dict[str, set[str]]:
    """Unit -> the units it may import, from the bottom up; `tasks.<task>` is any one task, never another."""
    allowed: dict[str, set[str]] = {"backbone": set(), "datasets": set()}
    below = set(allowed)
    for layer in COMMON_LAYERS:
        allowed |= {f"tasks.common.{unit}": set(below) for unit in layer}
        below |= {f"tasks.common.{unit}" for unit in layer}
        if "task" in layer:
            allowed[REGISTRY] = {f"tasks.common.{unit}" for unit in ("config", "inference_task", "task")}
            # Not the commands, which are imported by name when they are called: `--help` does not wait for torch.
            settings = {f"tasks.common.{unit}" for unit in ("config", "settings", "legacy", "runtime")}
            allowed[CLI] = {"datasets", *settings, REGISTRY}
            below |= {REGISTRY}  # to open a run of any task
    allowed["tasks.common.verbs"] |= {CLI}  # for the parsed arguments
    allowed[ONE_TASK] = below | {CLI}
    allowed[API] = below | {CLI, REGISTRY}
    allowed["tasks"] = {REGISTRY, API, "tasks.common.training"}
    allowed["distill"] = below | {CLI, REGISTRY, ONE_TASK}
    allowed["results"] = below | {CLI, REGISTRY, ONE_TASK}
    return allowed


ALLOWED = _allowed()
# Third-party packages that only one module may import (and a benchmark, to compare with them).
ONLY_IN = {
    "albumentations": {"datasets/operations.py", "results/bench/loading.py"},
    "h5py": {"backbone/formats.py"},
    "torch_pruning": {"tasks/common/training/pruning.py"},
    "pycocotools": {"results/bench/detection_reference.py"},  # of the development environment alone
}
MODULES = sorted(
    path.relative_to(REPOSITORY) for package in FIRST_PARTY for path in (REPOSITORY / package).rglob("*.py")
)


def module_name(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def unit_of(module: str) -> str:
    """The unit of a module, for example `tasks.common.runs` or `tasks.detection`."""
    parts = module.split(".")
    if parts[0] != "tasks" or len(parts) == 1 or parts[1] == "__main__":
        return parts[0]
    return ".".join(parts[:3]) if parts[1] == "common" else ".".join(parts[:2])


def layer_of(unit: str) -> str:
    """The key of a unit in ALLOWED."""
    return ONE_TASK if unit.removeprefix("tasks.") in TASKS else unit


def imports_of(path: Path) -> set[str]:
    """The names of all imported modules, those within functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            submodules = {f"{node.module}.{alias.name}" for alias in node.names}
            modules = {name for name in submodules if _is_module(name)}
            found |= modules or {node.module}
    return found


def _is_module(name: str) -> bool:
    path = REPOSITORY.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def first_party_imports() -> dict[str, set[str]]:
    """Module -> the modules of this repository that it imports."""
    return {
        module_name(path): {name for name in imports_of(REPOSITORY / path) if name.split(".")[0] in FIRST_PARTY}
        for path in MODULES
    }


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_module_imports_only_layers_below(module: Path) -> None:
    own = unit_of(module_name(module))
    if own == "tasks.common":  # its __init__
        return
    assert layer_of(own) in ALLOWED, (
        f"{module}: {own} is in no layer; add a task to tasks/registry.py: TASKS, and any other unit to "
        "tests/test_layers.py: COMMON_LAYERS"
    )
    for name in imports_of(REPOSITORY / module):
        package, unit = name.split(".")[0], unit_of(name)
        if package in FIRST_PARTY and unit != own:
            assert layer_of(unit) in ALLOWED[layer_of(own)], (
                f"{module} imports {name}, but {own} may import only {', '.join(sorted(ALLOWED[layer_of(own)]))}; move "
                "the shared code to a layer below both"
            )
        if package in ONLY_IN:
            assert str(module) in ONLY_IN[package], f"{module} imports {name}, which only {ONLY_IN[package]} may"


def cycle_of(graph: dict[str, set[str]]) -> list[str]:
    """A circle of imports, or an empty list."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        circle: list[str] = error.args[1]
        return circle
    return []


def test_modules_have_no_circular_imports() -> None:
    assert cycle_of(first_party_imports()) == []


def test_units_have_no_circular_imports() -> None:
    assert cycle_of(ALLOWED) == []
    units: dict[str, set[str]] = {}
    for module, names in first_party_imports().items():
        own = unit_of(module)
        units.setdefault(own, set()).update({unit_of(name) for name in names} - {own})
    assert cycle_of(units) == []


def test_a_circle_is_found() -> None:
    assert cycle_of({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    assert set(cycle_of({"a": {"b"}, "b": {"c"}, "c": {"a"}})) == {"a", "b", "c"}


# What is built on the readers of `datasets`, from the bottom up; nothing below imports it.
ON_READERS = ("datasets.look", "datasets.writers", "datasets.tools")


def test_readers_import_nothing_that_is_built_on_them() -> None:
    for module, imported in first_party_imports().items():
        if not module.startswith("datasets.") or module == "datasets.__main__":
            continue
        own = next((number for number, name in enumerate(ON_READERS) if module.startswith(name)), -1)
        above = {name for name in imported if name.startswith(ON_READERS[own + 1 :])}
        assert not above, f"{module} imports {above}"


def test_commands_are_modules_of_their_name() -> None:
    """The command line has no import of them that the other tests could check."""
    from tasks.common.cli.commands import COMMANDS

    for verb, command in COMMANDS.items():
        assert command.module == f"tasks.common.verbs.{verb}"
        assert hasattr(importlib.import_module(command.module), verb)


def test_registry_lists_exactly_the_task_packages() -> None:
    packages = {path.parent.name for path in (REPOSITORY / "tasks").glob("*/*.py")} - {"common"}
    unlisted, missing = sorted(packages - set(TASKS)), sorted(set(TASKS) - packages)
    assert not unlisted, f"add {', '.join(unlisted)} to tasks/registry.py: TASKS"
    assert not missing, f"tasks/registry.py: TASKS lists {', '.join(missing)}, but there is no such folder in tasks/"


@pytest.mark.parametrize("task", TASKS)
def test_registry_finds_the_classes_of_a_task(task: str) -> None:
    for find, file, suffix in ((config_class, "config", "Config"), (task_class, "task", "Task")):
        where = f"tasks/{task}/{file}.py: class {task.capitalize()}{suffix}"
        example = f"copy tasks/attributes/{file}.py: class Attributes{suffix}"
        try:
            found = find(task)
        except (ModuleNotFoundError, AttributeError) as error:
            raise AssertionError(f"{where} cannot be imported ({error}); {example}") from error
        assert found.__module__ == f"tasks.{task}.{file}", f"{where} is defined in {found.__module__}; {example}"
    name = getattr(task_class(task), "name", None)
    assert name == task, f"tasks/{task}/task.py: set the class attribute name = '{task}', got {name!r}"


# File of every task -> its content.
TASK_FILES = {
    "__init__.py": "a docstring",
    "__main__.py": "the entry point of `python -m tasks.<task>`",
    "config.py": "the settings, <Task>Config",
    "draw.py": "drawing of predictions",
    "loss.py": "the targets and the loss",
    "metric.py": "the Metric",
    "model.py": "the network and the decoding of its outputs",
    "task.py": "<Task>Task, which puts the parts together",
    "README.md": "how to train and use the task, with measured scores",
}


@pytest.mark.parametrize("task", TASKS)
def test_tasks_have_the_same_files(task: str) -> None:
    missing = [file for file in TASK_FILES if not (REPOSITORY / "tasks" / task / file).is_file()]
    described = [f"\n  {file}: {TASK_FILES[file]}; copy tasks/attributes/{file}" for file in missing]
    assert not missing, f"tasks/{task} lacks {len(missing)} files:{''.join(described)}"


@pytest.mark.parametrize("package", ["backbone", "datasets", "distill", "results", "tasks"])
def test_packages_are_ours(package: str) -> None:
    assert Path(importlib.import_module(package).__file__ or "").is_relative_to(REPOSITORY)


def test_an_installation_has_only_the_dependencies() -> None:
    """`datasets` and `results` on an environment's path would hide other projects' packages."""
    metadata = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    assert metadata["tool"]["setuptools"] == {"packages": []}


def test_main_modules_define_nothing() -> None:
    """Worker processes cannot import from them."""
    for path in REPOSITORY.glob("*/**/__main__.py"):
        if ".venv" not in path.parts:
            defined = [n for n in ast.parse(path.read_text()).body if isinstance(n, ast.FunctionDef | ast.ClassDef)]
            assert not defined, path


def layer_table() -> str:
    """The units from the bottom up: files, lines, and an x in the column of each unit that is imported.

    All marks are left of the diagonal, where a unit's row meets its own column.
    """
    lines_of: dict[str, list[int]] = {}
    for path in MODULES:
        num_lines = len((REPOSITORY / path).read_text(encoding="utf-8").splitlines())
        lines_of.setdefault(unit_of(module_name(path)), []).append(num_lines)
    imports = {(unit_of(module), unit_of(name)) for module, names in first_party_imports().items() for name in names}
    order = list(ALLOWED)
    connected = lines_of.keys() & {unit for pair in imports for unit in pair}
    units = sorted(connected, key=lambda unit: (order.index(layer_of(unit)), unit))
    rows = [f"{'unit':<27}files  lines   imports" + "".join(f"{n:>3}" for n in range(1, len(units) + 1))]
    for number, unit in enumerate(units, 1):
        marks = ["\\" if other == unit else "x" if (unit, other) in imports else "." for other in units]
        size = f"{len(lines_of[unit]):>5}{sum(lines_of[unit]):>7}"
        rows.append(f"{number:>2} {unit.replace('.', '/'):<24}{size}          {''.join(f'{m:>3}' for m in marks)}")
    num_files, num_lines = sum(map(len, lines_of.values())), sum(map(sum, lines_of.values()))
    return "\n".join([*rows, f"{'all':<27}{num_files:>5}{num_lines:>7}"])


if __name__ == "__main__":
    print(layer_table())
