"""`export`: write a run's network as an ONNX file to a new run folder, and compare scores, size and latency."""

from __future__ import annotations

import dataclasses
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import nn

from datasets.files import write_json
from datasets.types import Image
from tasks.common.cli.parser import Arguments
from tasks.common.deploy.difference import largest_difference, random_images
from tasks.common.deploy.exported import ExportedModel
from tasks.common.deploy.formats.table import FORMATS
from tasks.common.deploy.inference import inference_copy
from tasks.common.deploy.onnx_file import ExportedNetwork, add_postprocessing, write_onnx
from tasks.common.deploy.onnx_network import is_onnx
from tasks.common.deploy.quantization import NUM_FIRST_LAYERS
from tasks.common.deploy.readme import format_readme
from tasks.common.deploy.session import MODEL, describe_outputs
from tasks.common.deploy.web_page import read_runtime, write_page
from tasks.common.evaluation.sample import sample_images
from tasks.common.runs.folder import check_out_folder, explain_full_disk, same_again, whole_out_folder, write_settings
from tasks.common.runs.load import load_model, refuse_export
from tasks.common.runs.threshold import copy_table
from tasks.common.runtime.extras import check_packages
from tasks.common.runtime.repository import ROOT
from tasks.common.settings import CONFIG, flatten, read_config
from tasks.common.task import Task
from tasks.common.training.quantization_aware import fine_tune
from tasks.common.verbs.comparison import Candidate, Comparison, file_candidate, network_candidate, print_rows
from tasks.common.verbs.formats import Converted, convert, int8_converter
from tasks.common.verbs.int8 import Attempt, Quantizations, find_int8, print_attempts

if TYPE_CHECKING:
    from onnx import GraphProto

REPORT = "export.json"
ONNX_RUNTIME = "ONNX Runtime"
PREDICTOR_FILE = ROOT / "tasks" / "common" / "deploy" / "predictor.py"  # copied as it is
PAGE = "index.html: the page; see it by `python -m http.server --bind 127.0.0.1`, at http://127.0.0.1:8000"
CALIBRATION_IMAGES = 100  # of the training split
MAX_FINE_TUNING_IMAGES = 1400  # others of it


class Exported(NamedTuple):
    """What `export` found and wrote to a temporary folder.

    Attributes:
        file: the ONNX file to keep.
        comparison: of the versions of the network.
        max_difference: of an output of the raw float32 file from PyTorch's, relative to its largest value.
        tried: the quantisations, if any.
        converted: for another runtime, if one was asked for.
    """

    file: Path
    comparison: Comparison
    max_difference: float
    tried: Sequence[Attempt]
    converted: Converted | None


def export(task_class: type[Task[Any]], arguments: Arguments) -> int:
    """Export a network to ONNX and compare it with the original; without validation images in all but scores.

    Raises:
        ValueError: if the run is an exported network, the network cannot be exported, the outputs differ, or int8 lacks
            training images or loses more than `--max_loss`.
    """
    options = arguments.options
    check_out_folder(task_class.name, out=options["out"], run=options["run"])
    _check_flags(options)
    page_files = read_runtime() if options["format"] == "web" else None
    task, network = load_model(task_class, arguments.config, options["run"], arguments.given)
    if is_onnx(network):
        raise ValueError(f"{arguments.config.pretrained}: is an ONNX file already")
    graph = None if options["raw"] else task.postprocessing(network)
    with tempfile.TemporaryDirectory() as temporary:
        exported = _export(task, network, graph, options, Path(temporary))
        name = "export-int8" if options["int8"] else "export"
        place = whole_out_folder(task, name, out=options["out"], run=options["run"])
        with place as (folder, unfinished), explain_full_disk(folder, same_again):
            shutil.copyfile(exported.file, unfinished / MODEL)
            write_settings(dataclasses.asdict(task.config), unfinished)
            task.write_metadata(unfinished)
            if exported.converted is not None:
                exported.converted.save(unfinished)
            if options["run"]:
                copy_table(options["run"], unfinished)
            rows = exported.comparison.rows(unfinished)
            _write_report(exported, rows, unfinished)
            if graph is not None:
                task.write_extra_files(unfinished)
                shutil.copyfile(PREDICTOR_FILE, unfinished / PREDICTOR_FILE.name)
                other_files = [] if exported.converted is None else [exported.converted.describe()]
                if page_files is not None:
                    write_page(unfinished, task.predictor_settings(), page_files)
                    other_files.append(PAGE)
                _write_readme(task, rows, _pretrained(arguments), other_files, unfinished)
    _print(task, exported, rows)
    print(f"use it with: python -m tasks.{task.name} predict --run {quote(str(folder))} INPUT...", file=sys.stderr)
    if page_files is not None:
        server = f"python -m http.server --bind 127.0.0.1 --directory {quote(str(folder))}"
        print(f"see the page at http://127.0.0.1:8000 with: {server}", file=sys.stderr)
    return 0


def _check_flags(options: Mapping[str, Any]) -> None:
    """Find out what cannot be done before anything is loaded.

    Raises:
        ValueError: if the run is an exported network, flags contradict each other, or a runtime is not installed.
    """
    run, name = options["run"], options["format"]
    refuse_export(run)
    if name == "web" and options["raw"]:
        raise ValueError("--raw: a page needs the postprocessing inside the file; leave it out with --format web")
    if options["finetune"] and not options["int8"]:
        raise ValueError("--finetune: trains the network for 8 bits; give --int8 too")
    if name in FORMATS:
        if options["int8"] and FORMATS[name].int8 is None:
            raise ValueError(f"--int8: files for {FORMATS[name].title} are in float32; leave out one of the flags")
        check_packages(name, "--format")


def _export(
    task: Task[Any], network: nn.Module, graph: GraphProto | None, options: Mapping[str, Any], folder: Path
) -> Exported:
    """Write the network in all forms that are asked for to a folder, and compare them."""
    images, others = _training_images(task, finetune=options["finetune"]) if options["int8"] else ([], [])
    raw, side = folder / "float32.onnx", task.config.data.input_size
    write_onnx(network, side, raw, task.name, task.metadata)
    on_cpu = inference_copy(network)
    difference = largest_difference(on_cpu, ExportedNetwork(ExportedModel(raw)), random_images(side))

    finish = partial(_finish, graph=graph, task=task)

    @cache
    def finished(raw: Path) -> Candidate:
        title = "ONNX, int8" if raw.stem.startswith("int8") else "ONNX, float32"
        file = finish(raw)
        return file_candidate(task, title, ExportedModel(file), file.stat().st_size)

    comparison = Comparison(task)
    num_bytes = sum(tensor.nbytes for tensor in flatten(on_cpu.state_dict()).values())
    comparison.add(network_candidate(task, "PyTorch", network, num_bytes, on_cpu=on_cpu))
    float32, converted, name = finished(raw), None, options["format"]
    if not options["int8"]:
        if name in FORMATS:
            converted = convert(name, task, on_cpu, raw, finish(raw), float32)
            if converted.candidate is not None:
                comparison.add(converted.candidate)
        comparison.add(float32)
        return Exported(finish(raw), comparison, difference, [], converted)

    def write_fine_tuned() -> Path:
        path = folder / "fine_tuned.onnx"
        write_onnx(fine_tune(network, others, images, task.config.seed), side, path, task.name, task.metadata)
        return path

    comparison.add(float32)
    quantizations = Quantizations(raw, images, write_fine_tuned if options["finetune"] else None)
    find = partial(
        find_int8,
        task,
        quantizations,
        reference=float32.predict,
        score_of=comparison.score,
        float_score=comparison.score(float32),
        max_loss=options["max_loss"],
    )
    of_format = int8_converter(name, task, on_cpu, raw, images, finish) if name in FORMATS else None
    best, tried = find(runtime=ONNX_RUNTIME, num_first_layers=NUM_FIRST_LAYERS, candidate_of=finished)
    if of_format is not None:
        form = FORMATS[name]
        there, tried_there = find(
            runtime=form.title,
            num_first_layers=form.num_first_layers,
            candidate_of=lambda path: of_format(path)[1],
        )
        converted, candidate = of_format(there.raw)
        converted = converted._replace(tried=tried_there)
        comparison.add(candidate)
    comparison.add(finished(best.raw))
    return Exported(finish(best.raw), comparison, difference, tried, converted)


def _finish(raw: Path, graph: GraphProto | None, task: Task[Any]) -> Path:
    """A file with the graph behind the network; the file itself if there is none."""
    if graph is None:
        return raw
    path = raw.with_name(f"finished-{raw.name}")
    if not path.exists():
        shutil.copyfile(raw, path)
        add_postprocessing(path, graph, task)
    return path


def _training_images(task: Task[Any], *, finetune: bool) -> tuple[list[Image], list[Image]]:
    """Random samples of preprocessed training images: to calibrate and choose by, and others to fine-tune on.

    Raises:
        ValueError: if there are none.
    """
    try:
        source = task.source("train")
    except ValueError as error:
        raise ValueError(f"--int8: needs training images for the ranges of its values: {error}") from error
    wanted = CALIBRATION_IMAGES + (MAX_FINE_TUNING_IMAGES if finetune else 0)
    images, reason = sample_images(task, source, wanted, "reading images for int8")
    if not images:
        number = min(wanted, len(source))
        raise ValueError(f"--int8: none of {number} training images can be read; the last one: {reason}")
    if finetune and len(images) <= CALIBRATION_IMAGES:
        raise ValueError(
            f"--finetune: trains on other images than the {CALIBRATION_IMAGES} that 8 bits are chosen by; expected "
            f"more training images, found {len(images)}; leave it out"
        )
    return images[:CALIBRATION_IMAGES], images[CALIBRATION_IMAGES:]


def _write_report(exported: Exported, rows: Sequence[Mapping[str, Any]], folder: Path) -> None:
    converted = exported.converted
    report = {
        "max_difference": exported.max_difference,
        "networks": rows,
        "int8": [attempt.as_record() for attempt in exported.tried],
        "format": None if converted is None else converted.as_record(),
    }
    write_json(folder / REPORT, report)


def _write_readme(
    task: Task[Any], rows: Sequence[Mapping[str, Any]], pretrained: str, other_files: Sequence[str], folder: Path
) -> None:
    text = format_readme(
        task.name,
        side=task.config.data.input_size,
        outputs=describe_outputs(folder / MODEL),
        score_name=task.score_name,
        rows=rows,
        pretrained=pretrained,
        other_files=other_files,
    )
    (folder / "README.md").write_text(text, encoding="utf-8")


def _pretrained(arguments: Arguments) -> str:
    """What the weights are from, or what the run started from."""
    run = arguments.options["run"]
    if run is None:
        return str(arguments.config.pretrained)
    return str(read_config(type(arguments.config), Path(run) / CONFIG).pretrained)


def _print(task: Task[Any], exported: Exported, rows: Sequence[Mapping[str, Any]]) -> None:
    print_rows(rows, task.score_name)
    print(
        "largest difference between the outputs of PyTorch and ONNX in float32: "
        f"{exported.max_difference:.1e} of the largest value"
    )
    if exported.converted is not None:
        print(exported.converted.describe())
    score = rows[1]["metrics"].get(task.score_name)  # of ONNX in float32, where there is an int8
    if exported.tried:
        print_attempts(ONNX_RUNTIME, exported.tried, task, score)
    if exported.converted is not None and exported.converted.tried:
        print_attempts(exported.converted.title, exported.converted.tried, task, score)
