"""`python -m tasks`: the tasks and their first command."""

import importlib
import pkgutil

import tasks

if __name__ == "__main__":
    for package in pkgutil.iter_modules(tasks.__path__):
        if package.ispkg and package.name != "common":
            summary = (importlib.import_module(f"tasks.{package.name}").__doc__ or "").split("\n")[0]
            print(f"{package.name:<16}{summary}\n{'':<16}python -m tasks.{package.name} train")
