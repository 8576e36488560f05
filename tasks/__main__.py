"""`python -m tasks`: the tasks, and their first commands; `python -m tasks TASK ...` is `python -m tasks.TASK ...`."""

import importlib
import runpy
import sys

from tasks.registry import TASKS


def list_tasks() -> str:
    """Each task with its summary and its first command."""
    lines = []
    for name in TASKS:
        summary = (importlib.import_module(f"tasks.{name}").__doc__ or "").split("\n")[0]
        lines += [f"{name:<16}{summary}", f"{'':<16}python -m tasks.{name} train"]
    return "\n".join(lines)


if __name__ == "__main__":
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in TASKS:
        del sys.argv[1]
        runpy.run_module(f"tasks.{name}", run_name="__main__", alter_sys=True)
    elif name in ("-h", "--help"):
        print(list_tasks())
    else:
        print(f"error: there is no task {name}; the tasks are:\n\n{list_tasks()}", file=sys.stderr)
        sys.exit(2)
