"""`export --format`: a file for another runtime beside the ONNX file, checked and compared where it can be run."""

from __future__ import annotations

import shutil
from collections import namedtuple
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from datasets.sources import Source
from datasets.types import Image
from tasks.common.deploy.difference import largest_difference, random_images
from tasks.common.deploy.exported import ExportedModel, ExportedPredictor, has_postprocessing
from tasks.common.deploy.formats.source import ConversionSource, Run, silence
from tasks.common.deploy.formats.table import FORMATS, Format, check_packages
from tasks.common.evaluation.evaluate import TorchPredictor, evaluate_source
from tasks.common.evaluation.exported import evaluate_exported
from tasks.common.evaluation.sample import sample_images
from tasks.common.evaluation.scoring import Evaluation, Predict
from tasks.common.task import Task
from tasks.registry import inference_class

NUM_IMAGES = 20  # of the validation split, for the difference of the outputs


class Runner(NamedTuple):
    """What runs a converted file on this machine.

    Attributes:
        evaluate: (images with their truth, title of the progress bar) -> its scores.
        predict: preprocessed images -> a prediction for each.
        difference: the largest of an output from PyTorch's, relative to its largest value.
        images: what it was computed over, in words.
    """

    evaluate: Callable[[Source[Any], str], Evaluation[Any]]
    predict: Predict[Any]
    difference: float
    images: str


class Converted(NamedTuple):
    """A network in another runtime's format.

    Attributes:
        title: of the runtime, with its version.
        folder: has its files, and nothing else.
        files: the names in the folder.
        num_bytes: of all of it.
        runner: None where the runtime does not run on this machine.
    """

    title: str
    folder: Path
    files: Sequence[str]
    num_bytes: int
    runner: Runner | None

    def save(self, folder: Path) -> None:
        """Copy the files into a folder."""
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)

    def as_record(self) -> dict[str, Any]:
        """For a report."""
        difference = None if self.runner is None else self.runner.difference
        return {"runtime": self.title, "files": list(self.files), "bytes": self.num_bytes, "max_difference": difference}

    def describe(self) -> str:
        """A line about the check."""
        if self.runner is None:
            return (
                f"{' and '.join(self.files)}: {self.num_bytes / 1e6:.2f} MB, by {self.title}; the structure was "
                "checked, but the outputs are unverified, since it does not run here"
            )
        return (
            f"{' and '.join(self.files)}: largest difference between the outputs of PyTorch and {self.title}: "
            f"{self.runner.difference:.1e} of the largest value, over {self.runner.images}"
        )


class _RunNetwork(nn.Module):
    """A converted file in place of the network: raw outputs, image by image."""

    def __init__(self, run: Run, names: Sequence[str]) -> None:
        super().__init__()
        self._run, self._outputs = run, namedtuple("Outputs", names)

    def forward(self, images: Tensor) -> Any:
        """uint8 RGB (N, 3, S, S) -> the raw outputs."""
        rows = [self._run(image[None]) for image in images.cpu().contiguous().numpy()]
        # Outputs without a dimension for the images, as a detector's anchors, are the same for all of them.
        values = [np.concatenate(column) if len(column[0]) == 1 else column[0] for column in zip(*rows, strict=True)]
        return self._outputs(*map(torch.from_numpy, values))


class _RunModel(ExportedModel):
    """A converted file in place of the ONNX file that it was made from."""

    def __init__(self, onnx: Path, run: Run) -> None:
        super().__init__(onnx)
        self._run = run

    def __call__(self, pixels: Sequence[Image]) -> dict[str, NDArray[Any]]:
        images = np.ascontiguousarray(np.stack(pixels).transpose(0, 3, 1, 2))
        return dict(zip(self._names, self._run(images), strict=True))


def convert(name: str, task: Task[Any], network: nn.Module, raw: Path, exported: Path) -> Converted:
    """Convert a network, and check the outputs on validation images, or on random pixels if there are none.

    Args:
        name: of the format, whose packages are installed.
        task: of the network.
        network: the original, on the CPU.
        raw: its ONNX file.
        exported: the ONNX file that is kept, with its postprocessing if it has one.

    Raises:
        ValueError: if it cannot be converted, or its outputs differ.
    """
    form, version = FORMATS[name], check_packages(name)
    title, side = f"{form.title} {version}", task.config.data.input_size
    folder = raw.with_name(name)
    folder.mkdir()
    with torch.inference_mode():
        names = network(torch.zeros(2, 3, side, side, dtype=torch.uint8))._fields
    source = ConversionSource(network, names, raw, side)
    run = _convert(form, source, folder)
    if run is None:
        return _of_folder(title, folder, None)
    images, described = _images(task)
    of_file = _RunNetwork(run, names)
    advice = f"install another version of {name}"
    difference = largest_difference(network, of_file, images, title=f"the {form.title} file", advice=advice)
    if form.reads_onnx and has_postprocessing(exported):
        run = _convert(form, source._replace(onnx=exported), folder)
        assert run is not None
        model = _RunModel(exported, run)
        predictor = ExportedPredictor(inference_class(task.name)(task.config, model.metadata), model)
        runner = Runner(partial(evaluate_exported, predictor), predictor, difference, described)
    else:
        evaluate = partial(evaluate_source, task, of_file)
        runner = Runner(evaluate, TorchPredictor(task, of_file), difference, described)
    return _of_folder(title, folder, runner)


def _of_folder(title: str, folder: Path, runner: Runner | None) -> Converted:
    files = sorted(path.name for path in folder.iterdir())
    num_bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return Converted(title, folder, files, num_bytes, runner)


def _convert(form: Format, source: ConversionSource, folder: Path) -> Run | None:
    try:
        with silence():
            run = form.convert(source, folder)
            if run is not None:
                run(source.example().numpy())  # the first call prints, too
            return run
    except Exception as error:  # converters raise many types
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ValueError(f"{type(source.network).__name__} cannot be converted to {form.title}: {reason}") from error


def _images(task: Task[Any]) -> tuple[Tensor, str]:
    """uint8 RGB (N, 3, S, S), and what they are."""
    try:
        images, _ = sample_images(task, task.source("val"), NUM_IMAGES, "reading images")
    except ValueError:  # the comparison says so
        images = []
    if not images:
        pixels = random_images(task.config.data.input_size)
        return pixels, f"{len(pixels)} images of random pixels"
    return torch.from_numpy(np.stack(images).transpose(0, 3, 1, 2).copy()), f"{len(images)} validation images"
