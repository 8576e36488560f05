"""What the suite can do: `load` a model, `train` one; `python -m tasks` lists the tasks."""

from tasks.api import Run, load, train
from tasks.common.training.callback import Callback

__all__ = ["Callback", "Run", "load", "train"]
