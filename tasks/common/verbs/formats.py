"""`export --format`: a file for another runtime beside the ONNX file, checked and compared where it can be run."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from datasets.types import Image
from tasks.common.deploy.difference import largest_difference, random_images
from tasks.common.deploy.exported import ExportedModel
from tasks.common.deploy.formats.source import ConversionSource, Run
from tasks.common.deploy.formats.table import FORMATS, Format, convert_file, int8_writer
from tasks.common.deploy.onnx_file import ExportedNetwork
from tasks.common.deploy.session import stack_images
from tasks.common.evaluation.sample import sample_images
from tasks.common.inference_task import predict_all
from tasks.common.runtime.extras import check_packages
from tasks.common.task import Task
from tasks.common.verbs.comparison import Candidate, file_candidate
from tasks.common.verbs.int8 import Attempt

NUM_IMAGES = 20  # of the validation split, for the difference of the outputs
MIN_AGREEMENT = 0.98  # of the predictions with the ONNX file's


class Check(NamedTuple):
    """How near a converted file is to the original.

    Attributes:
        max_difference: of an output from PyTorch's, relative to its largest value.
        agreement: of the predictions with the ONNX file's, in [0, 1].
        images: what it was computed over, in words.
    """

    max_difference: float
    agreement: float
    images: str


class Converted(NamedTuple):
    """A network in another runtime's format.

    Attributes:
        title: of the runtime, with its version.
        folder: has its files, and nothing else.
        files: the names in the folder.
        num_bytes: of all of it.
        candidate: to compare; None where the runtime does not run on this machine.
        check: likewise; None in 8 bits, too.
        tried: the quantisations, if any.
    """

    title: str
    folder: Path
    files: list[str]
    num_bytes: int
    candidate: Candidate | None = None
    check: Check | None = None
    tried: Sequence[Attempt] = ()

    @classmethod
    def of_folder(cls, title: str, folder: Path) -> Self:
        """The files in a folder, unchecked."""
        num_bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        return cls(title, folder, sorted(path.name for path in folder.iterdir()), num_bytes)

    def save(self, folder: Path) -> None:
        """Copy the files into a folder."""
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)

    def as_record(self) -> dict[str, Any]:
        """For a report."""
        record: dict[str, Any] = {"runtime": self.title, "files": self.files, "bytes": self.num_bytes}
        record["check"] = None if self.check is None else self.check._asdict()
        return record | {"int8": [attempt.as_record() for attempt in self.tried]}

    def describe(self) -> str:
        """A line about the check."""
        names = " and ".join(self.files)
        if self.candidate is None:
            return (
                f"{names}: {self.num_bytes / 1e6:.2f} MB, by {self.title}; the structure was checked, but the outputs "
                "are unverified, since it does not run here"
            )
        if self.check is None:
            return f"{names}: 8 bits, {self.num_bytes / 1e6:.2f} MB, by {self.title}"
        return (
            f"{names}: largest difference between the outputs of PyTorch and {self.title}: "
            f"{self.check.max_difference:.1e} of the largest value; predictions that agree with the ONNX file's: "
            f"{self.check.agreement:.3f}, over {self.check.images}"
        )


class _ConvertedModel(ExportedModel):
    """A converted file in place of the ONNX file that it was made from."""

    def __init__(self, onnx: Path, run: Run) -> None:
        super().__init__(onnx)
        self._run = run

    def run(self, images: NDArray[np.uint8]) -> list[NDArray[Any]]:
        rows = [self._run(image[None]) for image in np.ascontiguousarray(images)]
        # Outputs without a dimension for the images, as a detector's anchors, are the same for all of them.
        return [np.concatenate(column) if len(column[0]) == 1 else column[0] for column in zip(*rows, strict=True)]


def convert(
    name: str, task: Task[Any], network: nn.Module, raw: Path, exported: Path, reference: Candidate
) -> Converted:
    """Convert a network, and check it on validation images, or on random pixels if there are none.

    Args:
        name: of the format, whose packages are installed.
        task: of the network.
        network: the original, on the CPU.
        raw: its ONNX file.
        exported: the ONNX file that is kept, with its postprocessing if it has one.
        reference: the same, to compare predictions with.

    Raises:
        ValueError: if it cannot be converted, or its outputs or predictions differ.
    """
    form = FORMATS[name]
    version, folder = check_packages(name, "--format"), raw.with_name(name)
    title = f"{form.title} {version}"
    folder.mkdir()
    model = ExportedModel(raw)
    source = ConversionSource(network, model.output_names, raw, model.input_size)
    run = _convert(form, source, folder)
    if run is None:
        return Converted.of_folder(title, folder)
    images, described = _images(task)
    advice = f"install another version of {name}"
    model = _ConvertedModel(raw, run)
    difference = largest_difference(
        network,
        ExportedNetwork(model),
        torch.from_numpy(stack_images(images)),
        title=f"the {form.title} file",
        advice=advice,
    )
    if form.reads_onnx and exported != raw:  # only now: the outputs of the whole are no numbers to compare one by one
        run = _convert(form, source._replace(onnx=exported), folder)
        assert run is not None
        model = _ConvertedModel(exported, run)
    converted = Converted.of_folder(title, folder)
    candidate = file_candidate(task, title, model, converted.num_bytes)
    agreement = task.agreement(
        predict_all(reference.predict, images), predict_all(candidate.predict, images)
    ).similarity
    if not agreement >= MIN_AGREEMENT:
        raise ValueError(
            f"export: {agreement:.3f} of the predictions of the {form.title} file agree with the ONNX file's, expected "
            f"at least {MIN_AGREEMENT}; {advice}, or use the ONNX file"
        )
    return converted._replace(candidate=candidate, check=Check(difference, agreement, described))


def int8_converter(
    name: str,
    task: Task[Any],
    network: nn.Module,
    raw: Path,
    images: Sequence[Image],
    finish: Callable[[Path], Path],
) -> Callable[[Path], tuple[Converted, Candidate]]:
    """What converts a quantised ONNX file, with raw outputs, of a network, and opens the result.

    Args:
        name: of the format, whose packages are installed and which can be in 8 bits.
        task: of the network.
        network: the original, on the CPU.
        raw: its ONNX file in float32.
        images: preprocessed training images for calibration.
        finish: an ONNX file with raw outputs -> the one that would be kept, with its postprocessing if it has one.

    Raises:
        ValueError: if it cannot be converted; the returned function likewise.
    """
    form = FORMATS[name]
    version, model = check_packages(name, "--format"), ExportedModel(raw)
    title = f"{form.title} {version}"
    write = int8_writer(form, ConversionSource(network, model.output_names, raw, model.input_size), images)

    @cache
    def converted(quantized: Path) -> tuple[Converted, Candidate]:
        onnx = finish(quantized) if form.reads_onnx else quantized
        (folder := raw.with_name(f"{name}-{quantized.stem}")).mkdir()
        run = write(onnx, folder)(None)
        found = Converted.of_folder(title, folder)
        candidate = file_candidate(task, f"{form.title}, int8", _ConvertedModel(onnx, run), found.num_bytes)
        return found._replace(candidate=candidate), candidate

    return converted


def _convert(form: Format, source: ConversionSource, folder: Path) -> Run | None:
    open_file = convert_file(form, source, folder)
    return None if open_file is None else open_file(None)


def _images(task: Task[Any]) -> tuple[list[Image], str]:
    """Preprocessed images (S, S, 3), and what they are."""
    try:
        images, _ = sample_images(task, task.source("val"), NUM_IMAGES, "reading images")
    except ValueError:  # the comparison says so
        images = []
    if images:
        return images, f"{len(images)} validation images"
    images = list(random_images(task.config.data.input_size).permute(0, 2, 3, 1).numpy())
    return images, f"{len(images)} images of random pixels"
