"""The loggers that `loop.loggers` names; each needs the extra of its name (`pip install '.[tensorboard]'`)."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.common.runtime.extras import check_packages
from tasks.common.training.loggers.base import Logger
from tasks.common.training.loggers.mlflow import MlflowLogger
from tasks.common.training.loggers.tensorboard import TensorBoardLogger
from tasks.common.training.loggers.wandb import WandbLogger

_CLASSES: dict[str, type[Logger]] = {"tensorboard": TensorBoardLogger, "mlflow": MlflowLogger, "wandb": WandbLogger}


def build_loggers(names: Sequence[str]) -> list[Logger]:
    """The loggers of those names."""
    return [_CLASSES[name]() for name in names]


def check_loggers(names: Sequence[str]) -> None:
    """Raise a ValueError, with the command that installs it, if the package of a logger is missing."""
    for name in names:
        check_packages(name, "loop.loggers")
