"""The suite in a Python program: `load` a model, `train` one. Nothing heavy is imported before they are called.

from tasks import load

model = load("runs/detection/cells")
result = model("photo.jpg")
"""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets.files import read_json
from tasks.common.published import PUBLISHED_MODELS
from tasks.common.runtime.repository import ROOT
from tasks.common.training.callback import Callback
from tasks.registry import TASKS, config_class, task_class

if TYPE_CHECKING:
    from datasets.types import Split
    from tasks.common.cli.parser import Arguments
    from tasks.common.prediction.model import Model

# The recipe that "finetune" names where it is not `configs/<task>/finetune.yaml`.
FINETUNE = {"geolocation": "linear_probe"}


@dataclass(frozen=True)
class Run:
    """A run folder.

    Attributes:
        path: of the folder.
    """

    path: Path

    @property
    def scores(self) -> dict[str, float | None]:
        """The content of metrics.json: the best checkpoint's scores (None: not defined), epoch and counts of images."""
        scores: dict[str, float | None] = read_json(self.path / "metrics.json", "the scores of a finished training")
        return scores

    @property
    def history(self) -> list[dict[str, float | None]]:
        """The log: for each epoch its losses, and scores where it was evaluated; `pandas.DataFrame` takes it."""
        path = self.path / "log.csv"
        if not path.is_file():  # of a linear probe, which has no epochs
            return []
        try:
            with path.open(encoding="utf-8", newline="") as file:
                rows = list(csv.DictReader(file))
            return [{key: float(text) if text else None for key, text in row.items()} for row in rows]
        except (OSError, TypeError, ValueError, csv.Error) as error:
            raise ValueError(f"{path}: not the log of a training ({error})") from error

    def load(self, *, settings: Mapping[str, Any] | None = None) -> Model[Any]:
        """The best model, see `tasks.load`."""
        return load(self.path, settings=settings)

    def evaluate(self, data: str | Path | None = None, split: Split = "val") -> dict[str, float | None]:
        """Score the best model, see `Model.evaluate`; on its own validation images `scores` has these numbers."""
        return self.load().evaluate(data, split)


def load(model: str | Path, task: str | None = None, *, settings: Mapping[str, Any] | None = None) -> Model[Any]:
    """Load a model for predictions; needs no data and changes no global state.

    Args:
        model: a run folder, a folder written by `export` or the .onnx file in it, the name of a published model
            (`python -m tasks.<task> models`, `python -m backbone weights`) or its file, or hf:USER/NAME for a run on
            the Hugging Face Hub.
        task: its name; None to find it out, which is possible for all but some published files.
        settings: those of `predict` by their names on the command line, such as `{"nms_iou": 0.6}`.

    Raises:
        ValueError: if there is no such model, it cannot be read, or a setting is wrong.
    """
    from tasks.common.prediction.open import open_model

    run = _run_folder(Path(model))
    name = _task_of(str(model), run, task)
    flag = f"--pretrained={model}" if run is None else f"--run={run}"
    arguments = _read(name, "predict", [*_flags(settings), flag])
    return open_model(name, arguments.config, arguments.options["run"], arguments.given)


def train(
    task: str,
    *,
    data: str | Path | None = None,
    recipe: str | Path | None = None,
    pretrained: str | Path | None = None,
    run_dir: str | Path | None = None,
    resume: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    callbacks: Sequence[Callback] = (),
) -> Run:
    """Train a model as `python -m tasks.<task> train` does.

    Args:
        task: its name, such as "detection".
        data: folder of the images; without it and a recipe, generated toy pictures by the toy recipe.
        recipe: "finetune" for the task's recipe for images of one's own, the name of another file in configs/<task>,
            or a path.
        pretrained: the weights to start from, in place of the recipe's.
        run_dir: the new run folder; None for one in runs/<task>, named by date and time.
        resume: run folder of an interrupted training to continue.
        settings: others by their names on the command line, such as `{"optim.epochs": 5}`; they override the recipe.
        callbacks: told of each epoch and more; subclasses of `tasks.Callback`.

    Raises:
        ValueError: if a setting is wrong, or the data cannot be used.
        InterruptedRunError: after Ctrl-C; the run can be resumed.
    """
    _check_task(task)
    named = {"data.root": data, "pretrained": pretrained, "run_dir": run_dir, "resume": resume}
    words = _flags({key: value for key, value in named.items() if value is not None})
    if recipe is not None:
        words += ["--config", str(_recipe(task, recipe))]
    arguments = _read(task, "train", [*words, *_flags(settings)])
    from tasks.common.verbs.train import run_training

    return Run(run_training(task_class(task), arguments, callbacks))


def _read(task: str, verb: str, words: list[str]) -> Arguments:
    """What the command line reads from words after a verb, of which `predict` takes no inputs here."""
    from tasks.common.cli.commands import COMMANDS, add_run_flag
    from tasks.common.cli.main import SAMPLE_CONFIG
    from tasks.common.cli.parser import read_arguments

    without_inputs = dataclasses.replace(COMMANDS["predict"], add_flags=add_run_flag)
    sample_config = ROOT / "configs" / task / SAMPLE_CONFIG
    return read_arguments(task, config_class(task), sample_config, verb, words, {**COMMANDS, "predict": without_inputs})


def _flags(settings: Mapping[str, Any] | None) -> list[str]:
    """Settings as words of the command line."""
    return [f"--{key}={_as_word(value)}" for key, value in (settings or {}).items()]


def _as_word(value: Any) -> str:
    return str(value) if isinstance(value, str | Path) else json.dumps(value)


def _run_folder(model: Path) -> Path | None:
    """The folder of a run or an export, if the model is one or an .onnx file in one.

    Raises:
        ValueError: if it is another folder.
    """
    from tasks.common.settings import CONFIG, config_file

    folder = model.parent if model.suffix == ".onnx" and (model.parent / CONFIG).is_file() else model
    return config_file(folder).parent if folder.is_dir() else None


def _task_of(model: str, run: Path | None, task: str | None) -> str:
    """The name of the task that a model solves."""
    from backbone.published import PUBLISHED
    from datasets.console import did_you_mean
    from tasks.common.runs.exported import exported_task

    if task is not None:
        _check_task(task)
    if run is not None:
        of_run = exported_task(run) or _task_of_checkpoint(run)
        if task not in (None, of_run):
            raise ValueError(f"{run}: a model of tasks.{of_run}, not of tasks.{task}")
        return of_run
    if task is not None:
        return task
    from tasks.common.runs.card import HUB
    from tasks.common.runs.hub import pull_run
    from tasks.common.runs.load import identify_published

    if model.startswith(HUB):
        task_on_hub: str = pull_run(model)[1]["task"]
        return task_on_hub
    found = identify_published(model)
    names = [name for row in PUBLISHED for name in (row.name, row.publisher)]
    if found is None and model not in names and not Path(model).is_file():
        names += [row.name for row in PUBLISHED_MODELS]
        raise ValueError(
            f"{model}: there is no such file, run folder or published model{did_you_mean(model, names)}; `python -m "
            "tasks.<task> models` and `python -m backbone weights` list the published ones"
        )
    return found or "classification"  # ImageNet's weights


def _task_of_checkpoint(run: Path) -> str:
    from tasks.common.runs.load import identify_run  # torch is slow to import

    return identify_run(run)[0]


def _check_task(task: str) -> None:
    if task not in TASKS:
        from datasets.console import did_you_mean

        raise ValueError(f"there is no task {task}{did_you_mean(task, TASKS)}; the tasks are {', '.join(TASKS)}")


def _recipe(task: str, recipe: str | Path) -> Path:
    """The file of a recipe.

    Raises:
        ValueError: if there is none.
    """
    folder = ROOT / "configs" / task
    name = FINETUNE.get(task, "finetune") if recipe == "finetune" else str(recipe)
    candidates = (folder / f"{name}.yaml", Path(recipe))
    names = sorted(path.stem for path in folder.glob("*.yaml"))
    found = next((path for path in candidates if path.is_file()), None)
    if found is None:
        raise ValueError(f"recipe: there is no {recipe}; expected a YAML file, finetune, or one of {', '.join(names)}")
    return found
