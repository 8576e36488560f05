"""`python -m distill`: settings, teachers, distillation, baseline, report."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from datasets.files import only_process
from datasets.images.read import IMAGE_SUFFIXES
from datasets.sources import Source
from distill.config import DistillConfig
from distill.ensemble import TeacherEnsemble
from distill.names import parse_teacher
from distill.objectives import DistillObjective, build_objective
from distill.report import MASKS, PICTURE, report
from distill.task import Distillation
from distill.teacher import Teacher
from distill.teachers import open_teacher
from distill.training import fit_or_resume
from distill.views import UnlabelledImages
from tasks.common.cli.parser import Arguments
from tasks.common.evaluation.scoring import (
    NOT_HELD_OUT,
    describe_images,
    inspect_data,
    validation_source,
    warn_about_data,
)
from tasks.common.legacy import upgrade_folders
from tasks.common.prediction.find import find_files
from tasks.common.runs import checkpoint
from tasks.common.runs.folder import (
    MIN_FREE_BYTES,
    check_run_folder,
    check_unchanged,
    check_writable,
    explain_full_disk,
    find_restarted_run,
    make_run_folder,
    new_run,
    shared_settings,
    write_launch_id,
    write_settings,
)
from tasks.common.runs.load import identify_run
from tasks.common.runs.pretrained import use_pretrained
from tasks.common.runtime.device import uses_cuda
from tasks.common.runtime.distributed import World, join_world
from tasks.common.runtime.signals import INTERRUPTED
from tasks.common.settings import CONFIG, build_settings, load_yaml
from tasks.common.task import Objective, Task
from tasks.common.training.backup import Backup, check_place, find_run
from tasks.common.training.fit import InterruptedRunError
from tasks.common.training.loggers.table import check_loggers
from tasks.common.training.state import size_of_checkpoints
from tasks.common.verbs.train import check_settings
from tasks.registry import task_class

DISTILLED_RUN, BASELINE_RUN = "distilled", "baseline"
# Students whose label map is that of labelled data: fewer classes than the teacher's, or with counts for their weights.
FROM_DATA = ("classification", "segmentation")


def distill(task_name: str, arguments: Arguments) -> int:
    """Distil, train the baseline, and compare; under `torchrun` with all its processes."""
    with join_world(on_gpu=uses_cuda(arguments.config.loop)) as world:
        return _distill(task_name, arguments, world)


def _distill(task_name: str, arguments: Arguments, world: World) -> int:
    options = arguments.options
    lists = {key: tuple(options[key]) for key in ("teacher", "unlabelled")}
    settings = build_settings(DistillConfig, options | lists)
    config = _with_student(arguments.config, options["student"])
    _check(config, settings, options)
    world.check_same(shared_settings(dataclasses.asdict(config) | dataclasses.asdict(settings)))
    if world.is_main:
        _check_place(options, config, world)
    how_to_resume = f"run the same command again to resume: python -m distill {shlex.join(sys.argv[1:])}"
    try:
        student = _build_student(task_name, config, settings)
        has_scores = _inspect(student, settings, world)
        given = arguments.given | ({"backbone.name"} if options["student"] else set())
        student, _ = use_pretrained(student, given, world)
        teachers = [open_teacher(text, student, settings.onnx, world) for text in settings.teacher]
        distillation, ensemble = _build_distillation(student, teachers, settings, world)
        num_images = len(distillation.training_set())
        baseline = _build_baseline(student, num_images, settings, world) if has_scores else None
        if world.is_main:
            _check_place(options, config, world, num_bytes=(1 + (baseline is not None)) * size_of_checkpoints(student))
        run = world.broadcast(
            _run_folder(task_name, student.config, settings, options, world) if world.is_main else Path()
        )
        how_to_resume = f"continue with: python -m distill --resume {shlex.quote(str(run))}"
        backups = _backups(run, config.loop.backup)
        alone = only_process(run, "--resume") if world.is_main else nullcontext()
        with explain_full_disk(run, lambda: how_to_resume), alone:
            if world.is_main and run in backups:
                backups[run].copy()
            runs = [_train(student, run / DISTILLED_RUN, world, backups, distillation)]
            if world.is_main:
                ensemble.close()
            if baseline is not None:
                runs.append(_train(baseline, run / BASELINE_RUN, world, backups))
    except InterruptedRunError as stop:
        if world.is_main:
            print(f"{stop}; {how_to_resume}", file=sys.stderr)
        return INTERRUPTED
    if not world.is_main:
        return 0
    if settings.views is not None:
        _print_cache_use(ensemble)
    if has_scores:
        report(student, teachers, runs, run)
        evaluate = f"python -m tasks.{task_name} evaluate --run {shlex.quote(str(run / DISTILLED_RUN))}"
        pictures = " and ".join(str(run / name) for name in (PICTURE, MASKS) if (run / name).is_file())
        print(f"look at {pictures}; the student: {evaluate}", file=sys.stderr)
    else:
        print(f"{NOT_HELD_OUT}; {run / DISTILLED_RUN} is not compared with its teachers", file=sys.stderr)
    for folder in (*runs, run):
        if folder in backups:
            backups[folder].finish()
    return 0


def _with_student(config: Any, name: str | None) -> Any:
    if name is None:
        return config
    return dataclasses.replace(config, backbone=dataclasses.replace(config.backbone, name=name, channels=None))


def _check(config: Any, settings: DistillConfig, options: dict[str, Any]) -> None:
    """Reject combinations of both groups of settings that cannot work."""
    if config.optim.layers == "linear_probe":
        raise ValueError("optim.layers: expected all or gradual; a distillation trains the whole network")
    if settings.unlabelled and config.data.root is None:
        raise ValueError("data.root: with --unlabelled, expected a folder with labelled validation images")
    if settings.unlabelled and config.optim.balance:
        raise ValueError("optim.balance: expected 0 with --unlabelled images, whose classes are not known")
    if settings.unlabelled_part is not None and not (settings.unlabelled and hasattr(config.data, "face_part")):
        raise ValueError("unlabelled_part: needs --unlabelled photos of faces")
    check_loggers(config.loop.logger_names)
    if config.loop.backup is not None:
        check_place(config.loop.backup, options)


def _check_place(options: dict[str, Any], config: Any, world: World, num_bytes: int = MIN_FREE_BYTES) -> None:
    """Raise a ValueError if the run folder cannot be written, or is new and has less free space."""
    existing = options["resume"] or _restarted_run(options, world)
    if existing is None and config.loop.backup is not None:
        begun = Path(options["run_dir"])
        existing = begun if (begun / CONFIG).is_file() else None
    if existing is not None:
        check_writable(Path(existing), "--resume")
    else:
        check_run_folder("distill", options["run_dir"], num_bytes)


def _inspect(student: Task[Any], settings: DistillConfig, world: World) -> bool:
    """Look at the data, and check the settings that depend on them; returns whether some are held out."""
    if world.is_main and not settings.unlabelled:
        inspect_data(student)
    val_source = validation_source(student)
    if world.is_main and settings.unlabelled and val_source is not None:
        warn_about_data(val_source)
    check_settings(student, has_scores=val_source is not None)
    return val_source is not None


def _build_student(task_name: str, config: Any, settings: DistillConfig) -> Task[Any]:
    """The student's task, with the label map of a teacher that is a run, else with that of the data.

    A classifier's classes are found in the teacher by name, so labelled images may have some of its classes only.
    """
    student_class = task_class(task_name)
    if task_name == "embedding" and not settings.alpha:
        return student_class(config, {"identities": []})  # the distillation loss needs no class prototypes
    kind, spec = parse_teacher(settings.teacher[0])
    if task_name != "embedding" and kind == "run":
        _, metadata = identify_run(Path(spec), task_name)
        if task_name not in FROM_DATA or settings.unlabelled:
            return student_class(config, metadata)
    return student_class.from_data(config)


def _build_distillation(
    student: Task[Any], teachers: list[Teacher], settings: DistillConfig, world: World
) -> tuple[Distillation, TeacherEnsemble]:
    """The training objective and the teachers in it, checked on a dummy image, with the cache enabled."""
    objective = build_objective(student, class_loss=settings.class_loss, temperature=settings.temperature)
    ensemble = TeacherEnsemble(teachers, objective, loop=student.config.loop, hint_stride=settings.hint_stride)
    images = _training_images(student, objective, settings)
    if world.size > 1:
        world.check_same({"list of training images": describe_images(images)})
    distillation = Distillation(
        student,
        ensemble,
        objective,
        images,
        alpha=settings.alpha,
        num_views=settings.views,
        hint_stride=settings.hint_stride,
        face_part=settings.unlabelled_part,
    )
    distillation.dry_run()
    if settings.views is not None:
        folder, size_bytes = ensemble.enable_cache(images, settings.views, student.config.seed)
        if world.is_main:
            print(f"teacher outputs are cached in {folder}, up to {size_bytes / 1e6:.0f} MB", file=sys.stderr)
    return distillation, ensemble


def _training_images(student: Task[Any], objective: DistillObjective, settings: DistillConfig) -> Source[Any]:
    if not settings.unlabelled:
        return student.source("train")
    paths = [path for path in find_files(settings.unlabelled) if path.suffix.lower() in IMAGE_SUFFIXES]
    if not paths:
        raise ValueError(f"--unlabelled: {' '.join(settings.unlabelled)}: no images found")
    images = UnlabelledImages(paths, objective.dummy_truth)
    images.decoding = student.decoding
    return images


def _build_baseline(student: Task[Any], num_images: int, settings: DistillConfig, world: World) -> Task[Any] | None:
    """The same student without a teacher, for the same number of steps.

    None if it is unwanted or there are no labelled training images.
    """
    if not settings.baseline:
        return None
    config = student.config
    if settings.unlabelled:
        student.source("val")  # an error in what both splits share is not a lack of labels
    try:
        labelled = type(student).from_data(config)
        num_labelled = len(labelled.source("train"))
    except ValueError as error:
        if not settings.unlabelled:  # the student's own training images have labels
            raise
        if world.is_main:
            print(f"no baseline: cannot read labelled training images: {error}", file=sys.stderr)
        return None
    epochs = max(1, round(config.optim.epochs * num_images / num_labelled))
    config = dataclasses.replace(config, optim=dataclasses.replace(config.optim, epochs=epochs))
    return type(student)(config, labelled.metadata)


def _restarted_run(options: dict[str, Any], world: World) -> Path | None:
    return find_restarted_run("distill", options["run_dir"], is_restarted=world.is_restarted)


def _run_folder(task_name: str, config: Any, settings: DistillConfig, options: dict[str, Any], world: World) -> Path:
    """The folder to resume, or a new one with all settings."""
    content = {"task": task_name} | dataclasses.asdict(config) | dataclasses.asdict(settings)
    content |= {key: list(content[key]) for key in ("teacher", "unlabelled")}
    run, url = Path(options["resume"]) if options["resume"] else _restarted_run(options, world), config.loop.backup
    if url is not None:
        run = find_run(url, run, options["run_dir"], partial(_as_saved, content), (DISTILLED_RUN, BASELINE_RUN))
    if run is not None and (run / CONFIG).is_file():
        check_unchanged(content, run / CONFIG)
        upgrade_folders(run)
        return run
    run = run or make_run_folder("distill", options["run_dir"])
    write_launch_id(run)
    write_settings(content, run)
    return run


def _as_saved(content: dict[str, Any], run: Path) -> dict[str, Any]:
    """The settings of the command, if a run is a distillation.

    Raises:
        ValueError: if it is not.
    """
    if "teacher" not in load_yaml(run / CONFIG):
        raise ValueError(f"{run} is not a distillation")
    return content


def _backups(run: Path, url: str | None) -> dict[Path, Backup]:
    """What copies the run's folder and those of its trainings to a bucket, by folder; empty without a URL."""
    if url is None:
        return {}
    inner = {run / name: f"{url.rstrip('/')}/{name}" for name in (DISTILLED_RUN, BASELINE_RUN)}
    return {folder: Backup(folder, place) for folder, place in {run: url, **inner}.items()}


def _train(
    task: Task[Any],
    run: Path,
    world: World,
    backups: Mapping[Path, Backup],
    objective: Objective | None = None,
) -> Path:
    """Train into a run folder, unless that is finished; returns the folder."""
    if world.is_main:
        print(f"{task.config.backbone.name}, {run.name}: {run}", file=sys.stderr)
        if not checkpoint.exists(run):  # new, or killed before or after its settings were written
            new_run(task, str(run), restarted=run if run.is_dir() else None)
    fit_or_resume(task, run, world, objective, [backups[run]] if run in backups else [])
    return run


def _print_cache_use(ensemble: TeacherEnsemble) -> None:
    computed = f"the teacher ran on {ensemble.num_forward} views in {ensemble.forward_s:.0f} s"
    cached = f"{ensemble.num_cached} came from the cache, which saved about {ensemble.time_saved_s:.0f} s"
    print(f"{computed}; {cached}", file=sys.stderr)
