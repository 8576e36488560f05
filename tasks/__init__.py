"""What the suite can do: `load` a model, `train` one; `python -m tasks` lists the tasks."""

from tasks.api import Run, load, train

__all__ = ["Run", "load", "train"]
