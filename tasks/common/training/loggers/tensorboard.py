"""TensorBoard: event files in the run folder; `tensorboard --logdir runs` shows all runs."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from tasks.common.settings import flatten
from tasks.common.training.loggers.base import Logger


class TensorBoardLogger(Logger):
    """Writes event files into the run folder; those of a resumed run replace what came after its checkpoint."""

    def open(self) -> None:
        """Write the settings, as text and as hyperparameters with the score to compare runs by."""
        tensorboard: Any = importlib.import_module("torch.utils.tensorboard")  # only now: an optional package
        training = self.training
        is_new = next(training.run.glob("events.out.tfevents.*"), None) is None
        self._writer = tensorboard.SummaryWriter(str(training.run), purge_step=training.step + 1)
        if is_new:
            text = yaml.safe_dump(dict(training.settings), sort_keys=False)
            settings = {
                key: value if isinstance(value, str | int | float) else str(value)
                for key, value in flatten(training.settings).items()
            }
            self._writer.add_text("settings", f"```yaml\n{text}```")
            # `add_hparams` would make a second run, in a folder of its own.
            for summary in tensorboard.summary.hparams(settings, {f"best/{training.score_name}": 0}):
                self._writer.file_writer.add_summary(summary)

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        """See `Logger`."""
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, step)

    def log_picture(self, step: int, path: Path) -> None:
        """See `Logger`."""
        with Image.open(path, formats=("PNG", "JPEG")) as image:
            pixels = np.asarray(image.convert("RGB"))
        self._writer.add_image(path.stem, pixels, step, dataformats="HWC")

    def close(self, *, is_complete: bool) -> None:
        """See `Logger`."""
        self._writer.close()
