"""`python -m tasks`: the tasks and their first command."""

import importlib

from tasks.registry import TASKS

if __name__ == "__main__":
    for name in TASKS:
        summary = (importlib.import_module(f"tasks.{name}").__doc__ or "").split("\n")[0]
        print(f"{name:<16}{summary}\n{'':<16}python -m tasks.{name} train")
