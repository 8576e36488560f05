"""The model card: `README.md` of a run folder, with the front matter of Hugging Face's model cards.

Training writes it, and an evaluation adds its scores: https://huggingface.co/docs/hub/model-cards. Between the comments
`<!-- scores -->` and so on the text is written anew; whatever else somebody changes in it stays.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import re
import shlex
import warnings
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from datasets.files import atomic_write
from datasets.words import first_of, plural
from tasks.common.config import HARDWARE, LOADER, TaskConfig
from tasks.common.deploy.readme import describe_licence
from tasks.common.inference_task import InferenceTask
from tasks.common.runs.threshold import resolve_threshold
from tasks.common.settings import CONFIG, flatten, get_setting, load_yaml, read_config, replace_settings

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

CARD = "README.md"
HUB = "hf:"  # before USER/NAME, where a model is named
# Hugging Face's names of tasks: https://huggingface.co/tasks.
PIPELINE_TAGS = {
    "detection": "object-detection",
    "segmentation": "image-segmentation",
    "embedding": "image-feature-extraction",
}
_OF_PEOPLE = ("attributes", "embedding", "geolocation")  # whose pages have "Responsible use"

# What acts in an evaluation, but changes scores by rounding at most.
_ROUNDING = frozenset({"optim.batch_size", *HARDWARE, *LOADER} - {"loop.precision"})

_TEXT = """
# {title}

{what}, trained with MobileNet suite.

| | |
| --- | --- |
| data | {data} |
| weights | {weights} |
| cost | {cost} |
| made by | {command} |

## Scores

{scores}

## Limits

{limits}

## Use

{use}
"""


def write_card(
    task: InferenceTask[Any],
    run: Path,
    *,
    num_images: int,
    mult_adds: int,
    num_params: int,
    scores: Mapping[str, float],
    num_scored: int,
    command: str | None = None,
) -> None:
    """Write the card of a run that has been trained; of one that was complete before, only the scores.

    Args:
        task: of the run.
        run: its folder.
        num_images: for training.
        mult_adds: of an image.
        num_params: parameters of the network.
        scores: of the best checkpoint; none without validation images.
        num_scored: validation images.
        command: that made it, in Markdown; None for the training.
    """
    from huggingface_hub import ModelCardData  # slow to import

    if (run / CARD).exists():
        _add_scores(task, run, "val", scores, num_scored)
        return
    config = task.config
    results = _results(task, "val", scores, num_scored)
    front_matter = ModelCardData(
        library_name="mobilenet-suite",
        pipeline_tag=PIPELINE_TAGS.get(task.name, "image-classification"),
        tags=[task.name, "mobilenet", "pytorch"],
        metrics=[result.metric_type for result in results] or None,
        model_name=run.name,
        eval_results=results or None,
    )
    weights = describe_licence(config.pretrained).replace(config.pretrained, without_places(config.pretrained))
    pruned = ", sparse," if config.optim.keep_zeros else "" if config.backbone.channels is None else ", pruned,"
    text = _TEXT.format(
        title=run.name,
        what=f"{task.name.capitalize()} by {config.backbone.name}{pruned} at {config.data.input_size} px",
        data=f"{data_name(task)}, {plural(num_images, 'training image')}{_classes(task.metadata)}",
        weights=weights,
        cost=f"{mult_adds / 1e6:,.1f} M mult-adds an image, {num_params:,} parameters",
        command=f"{command or _command(task.name, run)}, on {date.today().isoformat()}",
        scores=_section("scores", _format_scores(results)),
        limits="\n".join(f"- {limit}" for limit in _limits(task, bool(results))),
        use=_section("use", how_to_use(task.name, str(run))),
    )
    _write(run / CARD, f"---\n{front_matter.to_yaml()}\n---\n{text}")


def add_scores(task: InferenceTask[Any], run: Path, split: str, scores: Mapping[str, float], num_scored: int) -> None:
    """Add the scores of an evaluation to a run's card, in place of older ones on the same images.

    Without a card, or one with another text in place of its scores, nothing is written; nor are scores on other data
    than the run's own, or with other settings, which its card does not tell apart.

    Args:
        task: that was evaluated.
        run: its folder.
        split: of the images.
        scores: by name.
        num_scored: images.
    """
    if (run / CARD).is_file() and _has_settings_of(task.config, run):
        _add_scores(task, run, split, scores, num_scored)


def _has_settings_of(config: TaskConfig, run: Path) -> bool:
    """Whether the settings that scores depend on are those of the run."""
    of_run: Any = read_config(type(config), run / CONFIG)
    if hasattr(of_run, "threshold"):  # the evaluated one is a number already
        of_run = replace_settings(of_run, {"threshold": resolve_threshold(of_run.threshold, run)})
    return all(
        value == get_setting(of_run, key)
        for key, value in flatten(dataclasses.asdict(config)).items()
        if key not in _ROUNDING and config.acts_in(key, "evaluate", has_run=True)
    )


def _add_scores(task: InferenceTask[Any], run: Path, split: str, scores: Mapping[str, float], num_scored: int) -> None:
    from huggingface_hub import ModelCard  # slow to import

    try:
        if not _has_section((run / CARD).read_text(encoding="utf-8"), "scores"):
            return
        card = ModelCard.load(run / CARD)
    except (ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        warnings.warn(f"{run / CARD}: gets no scores, since it cannot be read as a model card ({reason})", stacklevel=2)
        return
    added = _results(task, split, scores, num_scored)
    same = {row.unique_identifier for row in added}
    results = [row for row in card.data.eval_results or () if row.unique_identifier not in same] + added
    if results:
        card.data.model_name = card.data.model_name or run.name
        card.data.eval_results = results
    card.text = replace_section(card.text, "scores", _format_scores(results))
    _write(run / CARD, str(card))


def how_to_use(task: str, model: str) -> str:
    """The lines that run a model: a folder, or `hf:` and its repository."""
    flag = "--pretrained" if model.startswith(HUB) else "--run"
    return f"""    python -m tasks.{task} predict {flag} {shlex.quote(model)} photo.jpg

```python
from tasks import load

model = load({json.dumps(model)})
print(model("photo.jpg"))
```"""


def data_name(task: InferenceTask[Any]) -> str:
    """The name of a task's data: of its folder, not where that is."""
    root = task.config.data.root
    return "the generated sample" if root is None else Path(root).resolve().name


def without_places(value: Any) -> Any:
    """A setting, or nested ones, with the name alone of each file and folder: where it is, is nobody's business."""
    if isinstance(value, dict):
        return {key: without_places(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [without_places(inner) for inner in value]
    if not isinstance(value, str) or re.match(rf"{HUB}|https?://", value) or re.fullmatch(r"\d+/\d+", value):
        return value  # the last one is a fold of a cross-validation
    return re.split(r"[/\\]", value.rstrip("/\\"))[-1]


def replace_section(text: str, name: str, body: str) -> str:
    """A card's text with another section of that name, or as it is without one."""
    return re.sub(_pattern(name), lambda _: _section(name, body), text, flags=re.DOTALL)


def _has_section(text: str, name: str) -> bool:
    return re.search(_pattern(name), text, flags=re.DOTALL) is not None


def _pattern(name: str) -> str:
    return f"<!-- {name} -->.*?<!-- end of {name} -->"


def _section(name: str, body: str) -> str:
    return f"<!-- {name} -->\n{body}\n<!-- end of {name} -->"


def _results(task: InferenceTask[Any], split: str, scores: Mapping[str, float], num_scored: int) -> list[EvalResult]:
    """The scores that are defined, as Hugging Face's `model-index` has them."""
    from huggingface_hub import EvalResult

    name = data_name(task)
    return [
        EvalResult(
            task_type=PIPELINE_TAGS.get(task.name, "image-classification"),
            dataset_type=re.sub(r"[^\w.-]+", "-", name),
            dataset_name=name,
            dataset_split=split,
            dataset_args={"num_images": num_scored, "date": date.today().isoformat()},
            metric_type=metric,
            metric_name=metric,
            metric_value=round(value, 4),
        )
        for metric, value in scores.items()
        if math.isfinite(value)
    ]


def _format_scores(results: Sequence[EvalResult]) -> str:
    """A table for each split of data."""
    tables = []
    for _, group in itertools.groupby(results, lambda row: row.unique_identifier):
        rows = list(group)
        facts = rows[0].dataset_args or {}
        tables.append(
            f"{facts.get('num_images', '?')} {rows[0].dataset_split} images of {rows[0].dataset_name}, "
            f"{facts.get('date', '?')}:\n\n| score | |\n| --- | --- |\n"
            + "\n".join(f"| {row.metric_name} | {row.metric_value:.4f} |" for row in rows)
        )
    return "\n\n".join(tables) or "None: no images were held out."


def _classes(metadata: Mapping[str, Any]) -> str:
    """The classes or attributes; of the people that a face network was trained on, their number alone."""
    names = metadata.get("class_names") or metadata.get("attribute_names")
    if names:
        noun = "class" if metadata.get("class_names") else "attribute"
        return f", {plural(len(names), noun)}: {first_of(names)}"
    return f", {len(metadata['identities'])} people" if metadata.get("identities") else ""


def _command(task: str, run: Path) -> str:
    """What made the run: with the settings in its folder, or in that of the distillation that it belongs to."""
    if (run.parent / CONFIG).is_file() and "teacher" in load_yaml(run.parent / CONFIG):
        return f"`python -m distill --config {CONFIG}` of the folder above"
    return f"`python -m tasks.{task} train --config {CONFIG}`"


def _limits(task: InferenceTask[Any], has_scores: bool) -> list[str]:
    lines = ["Not tested on anything but the images below Scores; on other cameras, places or people expect less."]
    if has_scores:
        lines.append("The validation images also chose the best checkpoint, so their scores are a little too high.")
    if task.config.data.root is None:
        lines.append("Trained on generated pictures: it finds nothing in photos.")
    if task.name in _OF_PEOPLE:
        lines.append(
            f"Faces and places concern people: see Responsible use in tasks/{task.name}/README.md of the suite."
        )
    return lines


def _write(path: Path, text: str) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
