"""What `python -m distill` does, once the arguments are known to be right."""

from __future__ import annotations

import csv
import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import Any

from datasets.files import new_folder
from datasets.images import IMAGE_SUFFIXES
from datasets.loader import Source
from distill.config import DistillConfig
from distill.names import parse_teacher
from distill.report import PICTURE, Learner, compare, evaluate_teacher, verdict, write_report
from distill.subjects import Subject, build_subject
from distill.task import Distillation
from distill.teachers import Teacher, open_teacher
from distill.teaching import Teaching
from distill.trained import fit_once
from distill.views import UnlabelledImages
from tasks.common.cli.parser import Arguments
from tasks.common.evaluation.evaluate import warn_of_repairs
from tasks.common.evaluation.predict import find_files
from tasks.common.runs.folder import (
    LOG,
    METRICS,
    check_unchanged,
    make_folder,
    name_launch,
    new_run,
    restarted_run,
    write_settings,
)
from tasks.common.runs.load import identify_run, open_run
from tasks.common.runs.pretrained import with_conventions
from tasks.common.runtime.device import uses_cuda
from tasks.common.runtime.distributed import World, join_world
from tasks.common.settings import CONFIG, build_settings
from tasks.common.task import Objective, Task
from tasks.common.training.fit import InterruptedRunError
from tasks.common.verbs.train import INTERRUPTED
from tasks.registry import task_class

DISTILLED_RUN, ALONE_RUN = "distilled", "alone"


def distill(task_name: str, arguments: Arguments) -> int:
    """Teach, train the same student alone, and compare; under `torchrun`, with all its processes."""
    with join_world(on_gpu=uses_cuda(arguments.config.loop)) as world:
        return _distill(task_name, arguments, world)


def _distill(task_name: str, arguments: Arguments, world: World) -> int:
    options = arguments.options
    distilling = build_settings(
        DistillConfig, options | {key: tuple(options[key]) for key in ("teacher", "unlabelled")}
    )
    config = with_conventions(_with_student(arguments.config, options["student"]), world)
    _check(config, distilling)
    go_on = f"run the same command again to go on: python -m distill {' '.join(sys.argv[1:])}"
    try:
        student = _student(task_name, config, distilling)
        teachers = [open_teacher(text, student, distilling.onnx, world) for text in distilling.teacher]
        objective, teaching = _objective(student, teachers, distilling, world)
        run = world.share(_run_folder(task_name, config, distilling, options) if world.is_main else Path())
        go_on = f"continue with: python -m distill --resume {run}"
        trained = [_train(student, run / DISTILLED_RUN, world, objective)]
        if world.is_main:
            teaching.close()
        if distilling.alone:
            trained += _train_alone(student, len(objective.training_set()), run / ALONE_RUN, world)
    except InterruptedRunError as stop:
        if world.is_main:
            print(f"{stop}; {go_on}", file=sys.stderr)
        return INTERRUPTED
    if not world.is_main:
        return 0
    if distilling.views is not None:
        _say_what_was_saved(teaching)
    _report(student, teachers, [_learner(student, folder) for folder in trained], run)
    evaluate = f"python -m tasks.{task_name} evaluate --run {run / DISTILLED_RUN}"
    print(f"look at {run / PICTURE}; the student: {evaluate}", file=sys.stderr)
    return 0


def _with_student(config: Any, name: str | None) -> Any:
    if name is None:
        return config
    return dataclasses.replace(config, backbone=dataclasses.replace(config.backbone, name=name))


def _check(config: Any, distilling: DistillConfig) -> None:
    """What the settings of both together do not allow."""
    if config.optim.layers == "linear_probe":
        raise ValueError("optim.layers: expected all or gradual; a teacher teaches a whole network")
    if distilling.unlabelled and config.data.root is None:
        raise ValueError("data.root: with --unlabelled, say where labelled images are that the student is scored on")
    if distilling.unlabelled_part is not None and not (distilling.unlabelled and hasattr(config.data, "face_part")):
        raise ValueError("unlabelled_part: is for --unlabelled photos of faces")


def _student(task_name: str, config: Any, distilling: DistillConfig) -> Task[Any]:
    """The student's task: with the outputs of a teacher that is a run, or else those that the data ask for."""
    student_class = task_class(task_name)
    if task_name == "embedding" and not distilling.alpha:
        return student_class(config, {"identities": []})  # no person needs to be told from the others
    kind, which = parse_teacher(distilling.teacher[0])
    if task_name != "embedding" and kind == "run":
        _, metadata = identify_run(Path(which), task_name)
        return student_class(config, metadata)
    return student_class.from_data(config)


def _objective(
    student: Task[Any], teachers: list[Teacher], distilling: DistillConfig, world: World
) -> tuple[Distillation, Teaching]:
    subject = build_subject(student, class_loss=distilling.class_loss, temperature=distilling.temperature)
    teaching = Teaching(teachers, subject, loop=student.config.loop, hint_stride=distilling.hint_stride)
    images = _images(student, subject, distilling)
    if world.is_main:
        warn_of_repairs(images)
    objective = Distillation(
        student,
        teaching,
        subject,
        images,
        alpha=distilling.alpha,
        num_views=distilling.views,
        hint_stride=distilling.hint_stride,
        face_part=distilling.unlabelled_part,
    )
    objective.dry_run()
    if distilling.views is not None:
        folder, size_bytes = teaching.remember(images, distilling.views, student.config.seed)
        if world.is_main:
            print(f"the teacher's answers are kept in {folder}, up to {size_bytes / 1e6:.0f} MB", file=sys.stderr)
    return objective, teaching


def _images(student: Task[Any], subject: Subject, distilling: DistillConfig) -> Source[Any]:
    if not distilling.unlabelled:
        return student.source("train")
    paths = [path for path in find_files(distilling.unlabelled) if path.suffix.lower() in IMAGE_SUFFIXES]
    if not paths:
        raise ValueError(f"--unlabelled: {' '.join(distilling.unlabelled)}: no image there")
    return UnlabelledImages(paths, subject.nothing)


def _run_folder(task_name: str, config: Any, distilling: DistillConfig, options: dict[str, Any]) -> Path:
    settings = {"task": task_name} | dataclasses.asdict(config) | dataclasses.asdict(distilling)
    settings |= {key: list(settings[key]) for key in ("teacher", "unlabelled")}
    if options["resume"] is not None:
        run = Path(options["resume"])
        check_unchanged(settings, run / CONFIG)
        return run
    restarted = restarted_run("distill", options["run_dir"])
    if restarted is not None:
        run = restarted
    elif options["run_dir"] is not None:
        run = make_folder(Path(options["run_dir"]), "--run_dir")
    else:
        run = new_folder(Path("runs") / "distill" / time.strftime("%Y-%m-%d_%H-%M-%S"))
    name_launch(run)
    write_settings(settings, run)
    return run


def _train(task: Task[Any], run: Path, world: World, objective: Objective | None = None) -> Path:
    """Train into a folder of its own, or go on, or leave what is finished; returns the folder."""
    if world.is_main:
        print(f"{task.config.backbone.name}, {run.name}: {run}", file=sys.stderr)
        if not run.is_dir():
            new_run(task, str(run))
    fit_once(task, run, world, objective)
    return run


def _train_alone(student: Task[Any], num_images: int, run: Path, world: World) -> list[Path]:
    """The same student, trained on labels for as many steps; nothing where there are no labelled training images."""
    config = student.config
    try:
        labelled = type(student).from_data(config)
        num_labelled = len(labelled.source("train"))
    except ValueError as error:
        if world.is_main:
            print(f"the student is not trained alone, for want of labels: {error}", file=sys.stderr)
        return []
    epochs = max(1, round(config.optim.epochs * num_images / num_labelled))
    config = dataclasses.replace(config, optim=dataclasses.replace(config.optim, epochs=epochs))
    return [_train(type(student)(config, labelled.metadata), run, world)]


def _learner(student: Task[Any], run: Path) -> Learner:
    """The best checkpoint of a run, and how it came about."""
    _, model = open_run(run, type(student), type(student.config))
    with (run / LOG).open(newline="", encoding="utf-8") as file:
        history = [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]
    scored = [row for row in history if student.score_name in row]
    metrics = json.loads((run / METRICS).read_text(encoding="utf-8"))
    config = student.config
    return Learner(f"{config.backbone.name} {run.name}", model, config.data.input_size, metrics, scored)


def _report(student: Task[Any], teachers: list[Teacher], learners: list[Learner], run: Path) -> None:
    """Measure the teachers beside the students, and print, write and draw what came of it."""
    compared = []
    for teacher in teachers:
        metrics = evaluate_teacher(teacher.task, teacher.model, student)
        compared.append(Learner(teacher.title, teacher.model, teacher.input_size, metrics))
    compared += learners
    rows = compare(compared)
    write_report(rows, compared, student.score_name, run)
    if len(learners) == 2:
        print(verdict(rows[-3:], student.score_name))


def _say_what_was_saved(teaching: Teaching) -> None:
    asked = f"the teacher was asked about {teaching.num_forward} views in {teaching.asking_s:.0f} s"
    saved = f"{teaching.num_cached} answers were there already, which saved about {teaching.saved_s:.0f} s"
    print(f"{asked}; {saved}", file=sys.stderr)
