"""What each verb of a task does. Reached through `cli.main`, once the arguments are known to be right."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from backbone.cost import count_cost, format_cost
from datasets.files import atomic_write, new_folder, write_json
from datasets.loader import Source
from tasks.common import checkpoint
from tasks.common.config import TaskConfig, flatten
from tasks.common.device import open_device, uses_cuda
from tasks.common.distributed import ALONE, World, join_world
from tasks.common.evaluate import Evaluation, draw_examples, evaluate_source
from tasks.common.fit import CURVES, METRICS, PICTURE, InterruptedRunError, fit
from tasks.common.head import fit_head
from tasks.common.mistakes import WorstMistakes
from tasks.common.onnx_file import MODEL, ExportedNetwork
from tasks.common.parser import CONFIG, Arguments, read_config
from tasks.common.predict import find_files, predict_files
from tasks.common.pretrained import build_pretrained, open_pretrained
from tasks.common.record import append_record
from tasks.common.report import metrics_as_json, print_metrics
from tasks.common.task import Task

INTERRUPTED = 130
LAUNCH = "launch_id"  # in a run folder
_RUN_ID = "TORCHELASTIC_RUN_ID"  # in the environment under torchrun
# Settings without any effect on the weights that a run ends with.
RESUME_MAY_CHANGE = frozenset(
    {"data.root", "loop.device", "loop.num_workers", "loop.checkpoint_minutes", "loop.max_unreadable_share"}
)


def train(task_class: type[Task[Any]], arguments: Arguments) -> int:
    """Train into a new run folder, or continue one; under `torchrun`, with all its processes."""
    with join_world(on_gpu=uses_cuda(arguments.config.loop)) as world:
        return _train(task_class, arguments, world)


def _train(task_class: type[Task[Any]], arguments: Arguments, world: World) -> int:
    config, options = arguments.config, arguments.options
    run, resume = world.share(_run_to_resume(task_class.name, options) if world.is_main else (None, False))
    if resume:
        assert run is not None
        config = with_conventions_of(config, run)
        check_unchanged(dataclasses.asdict(config), run / CONFIG)
        config = _without_pretrained(config)  # the checkpoint has the weights; their file may be gone
    else:
        config = with_conventions(config, world)
    solves = config.optim.layers == "head"
    if solves and (resume or world.size > 1):
        raise ValueError(
            "optim.layers: head is solved for at once, in one process; there is nothing to resume or share"
        )
    task = task_class.from_data(config)
    if world.is_main:
        warn_of_repairs(task.source("train"))
        warn_of_repairs(task.source("val"))
    if not resume:
        run = world.share(new_run(task, options["run_dir"], restarted=run) if world.is_main else Path())
    assert run is not None
    if world.is_main:
        if not resume and config.backbone.pretrained == "none" and config.data.root is not None:
            print("starting from random weights; --backbone.pretrained keras starts from ImageNet's", file=sys.stderr)
        print(f"{config.backbone.name}, {_images(task)}, run folder {run}", file=sys.stderr)
    try:
        metrics = fit_head(task, run) if solves else fit(task, run, resume=resume, world=world)
    except InterruptedRunError as stop:
        if world.is_main:
            print(f"{stop}; continue with: python -m tasks.{task.name} train --resume {run}", file=sys.stderr)
        return INTERRUPTED
    if world.is_main:
        print_metrics(metrics, f"best checkpoint, {_images(task)}")
        print(f"look at {run / PICTURE}{'' if solves else f' and {run / CURVES}'}", file=sys.stderr)
        print(f"details: python -m tasks.{task.name} evaluate --run {run}", file=sys.stderr)
    return 0


def _run_to_resume(name: str, options: dict[str, Any]) -> tuple[Path | None, bool]:
    """The run folder that there is already, if any, and whether there is a checkpoint in it to resume from."""
    if options["resume"]:
        return Path(options["resume"]), True
    run = restarted_run(name, options["run_dir"])
    return run, run is not None and (run / CONFIG).is_file() and checkpoint.exists(run)


def evaluate(task_class: type[Task[Any]], arguments: Arguments) -> int:
    """Score a run's best checkpoint, or published weights, on a split."""
    split = arguments.options["split"]
    task, model = load_model(task_class, arguments)
    if arguments.options["record"] and isinstance(model, ExportedNetwork):
        raise ValueError("--record: is for networks as they were trained; export.json has an exported one's scores")
    source = task.source(split)
    warn_of_repairs(source)
    mistakes = WorstMistakes(task)
    evaluation = evaluate_source(task, model, source, "evaluating", mistakes=mistakes)
    folder = out_folder(task, arguments.options, f"evaluate-{split}")
    draw_examples(task, model, source, folder / PICTURE)
    mistakes.write(source, folder)
    model_name = arguments.options["run"] or f"{task.config.backbone.name} {task.config.backbone.pretrained}"
    title, as_json = f"{model_name}, {evaluation.num_images} {split} images", arguments.options["json"]
    metrics = report(evaluation, folder, title, as_json=as_json)
    if arguments.options["record"]:
        if evaluation.num_unreadable:
            raise ValueError(
                f"--record: {evaluation.num_unreadable} of the {len(source)} {split} images are unreadable, so the "
                "scores are of another data set than others'; mend or remove them first"
            )
        append_record(task.name, arguments.config, metrics, split)
    return 0


def report(evaluation: Evaluation[Any], folder: Path, title: str, *, as_json: bool) -> dict[str, Any]:
    """Write scores and details to a folder, print the scores, as a table or as JSON, and return what was written."""
    content = metrics_as_json(evaluation.scores, evaluation.counts)
    write_json(folder / METRICS, content)
    evaluation.metric.write_details(folder)
    if as_json:
        print(json.dumps(content, indent=2))
    else:
        print_metrics(evaluation.scores, title)
    print(f"wrote {', '.join(sorted(path.name for path in folder.iterdir()))} to {folder}", file=sys.stderr)
    return content


def predict(task_class: type[Task[Any]], arguments: Arguments) -> int:
    """Draw and write predictions for images and videos."""
    paths = find_files(arguments.options["inputs"])
    task, model = load_model(task_class, arguments)
    folder = out_folder(task, arguments.options, "predict")
    num_pictures = predict_files(task, model, paths, folder)
    print(f"wrote predictions for {num_pictures} pictures to {folder}", file=sys.stderr)
    return 0


def cost(task_class: type[Task[Any]], arguments: Arguments) -> int:
    """Print mult-adds and parameters of the configured model."""
    config = _without_pretrained(arguments.config)
    task = task_class.with_num_classes(config, arguments.options["num_classes"])
    input_size = config.data.input_size
    model = task.build_model()
    # Not on the meta device: which regions a detector looks at depends on what it sees.
    counted = count_cost(model, torch.zeros(1, 3, input_size, input_size, dtype=torch.uint8))
    if arguments.options["json"]:
        print(json.dumps(counted.to_json(), indent=2))
    else:
        print(format_cost(counted, f"{type(model).__name__} on {config.backbone.name} at {input_size} px"))
    return 0


def load_model(task_class: type[Task[Any]], arguments: Arguments) -> tuple[Task[Any], nn.Module]:
    """The task of a run or of published weights, and its best model on the device that the configuration names."""
    if arguments.options["run"] is None:
        config = with_conventions(arguments.config)
        task = task_class.from_published(config)
        return task, task.build_model().to(open_device(config.loop))
    return _load_run(Path(arguments.options["run"]), task_class, arguments.config)


def open_run(run: Path, task_class: type[Task[Any]], config_class: type[TaskConfig]) -> tuple[Task[Any], nn.Module]:
    """The task of a run with the settings that it was made with, and its best model on the device that they name."""
    return _load_run(run, task_class, read_config(config_class, run / CONFIG))


def read_identity(run: Path, task: str | None = None) -> tuple[str, dict[str, Any]]:
    """The task of a run, and what its outputs stand for.

    Raises:
        ValueError: if it cannot be read, or is of another task than the one named.
    """
    if (run / MODEL).is_file():
        network = ExportedNetwork(run / MODEL, task)
        return network.task, network.vocabulary
    content = checkpoint.load_checkpoint(run / checkpoint.BEST, task)
    return content["task"], content["vocabulary"]


def _load_run(run: Path, task_class: type[Task[Any]], config: TaskConfig) -> tuple[Task[Any], nn.Module]:
    if (run / MODEL).is_file():
        return _load_exported(run / MODEL, task_class, config)
    path = run / checkpoint.BEST
    content = checkpoint.load_checkpoint(path, task_class.name)
    task = task_class(_without_pretrained(config), content["vocabulary"])
    model = task.build_model()
    try:
        model.load_state_dict(content["model"])
    except RuntimeError as error:
        first = str(error).split("\n")[1].strip()
        raise ValueError(f"{path}: does not fit the settings of the run: {first}") from error
    return task, model.to(open_device(task.config.loop))


def _load_exported(path: Path, task_class: type[Task[Any]], config: TaskConfig) -> tuple[Task[Any], nn.Module]:
    network = ExportedNetwork(path, task_class.name)
    task = task_class(_without_pretrained(config), network.vocabulary)
    if network.input_size != task.config.data.input_size:
        raise ValueError(f"data.input_size: the exported network takes {network.input_size} px and no other size")
    return task, network


def out_folder(task: Task[Any], options: dict[str, Any], default: str) -> Path:
    """The folder that the user names; else a new one in the run, or where runs are."""
    if options["out"] is not None:
        return make_folder(Path(options["out"]), "--out")
    if options.get("run") is not None:
        return new_folder(Path(options["run"]) / default)
    return new_folder(Path("runs") / task.name / f"{task.config.backbone.name}-{default}")


def with_conventions(config: Any, world: World = ALONE) -> Any:
    """The same settings with the conventions of the weights written down, since a run must not depend on a file.

    Raises:
        ValueError: if the weights cannot be read or do not fit the backbone.
    """
    weights = open_pretrained(config)
    if weights is None:
        return config
    conventions = build_pretrained(config, weights).conventions
    if world.is_main:
        print(f"weights {weights.origin}, conventions of {weights.conventions}: {conventions}", file=sys.stderr)
    backbone = dataclasses.replace(config.backbone, conventions=weights.conventions)
    return dataclasses.replace(config, backbone=backbone)


def with_conventions_of(config: Any, run: Path) -> Any:
    """The same settings with a run's conventions where they leave them to the weights, as a restarted command does."""
    if config.backbone.conventions is not None:
        return config
    saved = read_config(type(config), run / CONFIG).backbone.conventions
    return dataclasses.replace(config, backbone=dataclasses.replace(config.backbone, conventions=saved))


def _without_pretrained(config: Any) -> Any:
    """The same settings for a model whose weights come from elsewhere, or are not needed."""
    return dataclasses.replace(config, backbone=dataclasses.replace(config.backbone, pretrained="none"))


def warn_of_repairs(source: Source[Any]) -> None:
    """Say what was passed over while reading."""
    for line in source.warnings:
        warnings.warn(line, stacklevel=2)


def check_unchanged(settings: dict[str, Any], path: Path) -> None:
    """A run that is resumed ends as if it had never stopped, so only how it runs and where its data are may change."""
    saved = flatten(yaml.safe_load(path.read_text(encoding="utf-8")))
    for key, value in flatten(yaml.safe_load(_as_yaml(settings))).items():
        if value != saved.get(key, value) and key not in RESUME_MAY_CHANGE:
            raise ValueError(
                f"{key}: the run was made with {saved[key]!r}, and --resume continues it exactly; to change it to "
                f"{value!r} start a new run"
            )


def write_settings(settings: dict[str, Any], run: Path) -> None:
    """The `config.yaml` of a run."""
    with atomic_write(run / CONFIG) as temporary:
        temporary.write_text(_as_yaml(settings), encoding="utf-8")


def _as_yaml(settings: dict[str, Any]) -> str:
    return yaml.safe_dump(settings, sort_keys=False)


def new_run(task: Task[Any], run_dir: str | None, *, restarted: Path | None = None) -> Path:
    """A run folder with the task's settings in it, and what its outputs stand for.

    Args:
        task: that is trained.
        run_dir: to make; None for one by date and time.
        restarted: the folder that these processes had begun before they were started again, if any.
    """
    if restarted is not None:
        run = restarted
    elif run_dir is not None:
        run = make_folder(Path(run_dir), "--run_dir")
    else:
        run = new_folder(Path("runs") / task.name / time.strftime("%Y-%m-%d_%H-%M-%S"))
    name_launch(run)
    write_settings(dataclasses.asdict(task.config), run)
    task.write_vocabulary(run)
    return run


def name_launch(run: Path) -> None:
    """Write down which `torchrun` a run folder is of, so that processes which it starts again find the folder."""
    if _RUN_ID in os.environ:
        with atomic_write(run / LAUNCH) as temporary:
            temporary.write_text(_launch_id(), encoding="utf-8")


def restarted_run(name: str, run_dir: str | None) -> Path | None:
    """The run folder that these processes made before `torchrun --max-restarts` started them again; else None."""
    if os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0":
        return None
    newest_first = sorted((Path("runs") / name).glob(f"*/{LAUNCH}"), reverse=True)
    files = [Path(run_dir) / LAUNCH] if run_dir else newest_first
    ids = {file: file.read_text(encoding="utf-8") for file in files if file.is_file()}
    return next((file.parent for file, launch_id in ids.items() if launch_id == _launch_id()), None)


def _launch_id() -> str:
    """The id that the user gave `torchrun`, or else its process, which starts the others again."""
    run_id = os.environ[_RUN_ID]
    if run_id != "none":
        return run_id
    status = Path(f"/proc/{os.getppid()}/stat")  # another process may have had the same number before
    started = status.read_text(encoding="utf-8").rpartition(")")[2].split()[19] if status.is_file() else "?"
    return f"process {os.getppid()} started {started}"


def make_folder(path: Path, flag: str) -> Path:
    """The folder that a flag names, which must not exist yet."""
    try:
        path.mkdir(parents=True)
    except FileExistsError as error:
        raise ValueError(f"{flag}: {path} exists already, and nothing in it is overwritten; name another") from error
    return path


def _images(task: Task[Any]) -> str:
    data = task.config.data
    return f"the drawn sample at {data.input_size} px" if data.root is None else f"{data.root} at {data.input_size} px"
