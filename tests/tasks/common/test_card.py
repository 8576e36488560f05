"""The model card of a run: what Hugging Face reads in it, and what an evaluation changes."""

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard

from tasks.common.inference_task import InferenceTask
from tasks.common.runs.card import CARD, how_to_use, replace_section, without_places, write_card
from tests.tasks.common.runs import run_detection


def scores_of(card: ModelCard, split: str) -> dict[str, float]:
    return {row.metric_name: row.metric_value for row in card.data.eval_results if row.dataset_split == split}


def test_a_run_has_a_card_with_its_scores_data_and_cost(unbroken: Path, generated_root: Path) -> None:
    card = ModelCard.load(unbroken / CARD)
    metrics = json.loads((unbroken / "metrics.json").read_text())
    defined = {name: value for name, value in metrics.items() if name not in ("epoch", "num_unreadable", "num_images")}
    assert scores_of(card, "val") == pytest.approx(
        {name: value for name, value in defined.items() if value is not None}, abs=5e-5
    )
    assert {row.dataset_args["num_images"] for row in card.data.eval_results} == {8}
    assert (card.data.library_name, card.data.pipeline_tag) == ("mobilenet-suite", "object-detection")
    assert card.data.model_name == "unbroken"
    counted = json.loads(run_detection("cost", "--json", *settings_of(unbroken)).stdout)
    for text in (
        f"| data | {generated_root.name}, 24 training images, 5 classes: ",
        "weights | trained from random ones",
        f"{counted['mult_adds'] / 1e6:,.1f} M mult-adds an image, {counted['num_params']:,} parameters",
        "`python -m tasks.detection train --config config.yaml`",
        f"model = load({json.dumps(str(unbroken))})",
        f"| AP50 | {metrics['AP50']:.4f} |",
    ):
        assert text in card.text, text
    assert str(generated_root.parent) not in card.content.replace(str(unbroken), "")  # no place on this machine


def settings_of(run: Path) -> list[str]:
    """The network of a run, for `cost`."""
    config = yaml.safe_load((run / "config.yaml").read_text())
    words = ("--backbone.name", config["backbone"]["name"], "--data.input_size", str(config["data"]["input_size"]))
    return [*words, "--num_classes", str(len(json.loads((run / "metadata.json").read_text())["class_names"]))]


def test_an_evaluation_adds_its_scores_and_keeps_what_somebody_wrote(
    unbroken: Path, generated_root: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(unbroken, run)
    before = (run / CARD).read_text()
    (run / CARD).write_text(before.replace("## Limits\n", "## Limits\n\n- Only for my garden.\n"))
    for _ in range(2):
        assert run_detection("evaluate", "--run", str(run), "--split", "train").returncode == 0
    card = ModelCard.load(run / CARD)
    metrics = json.loads((run / "evaluate-train" / "metrics.json").read_text())
    assert scores_of(card, "train")["AP50"] == pytest.approx(metrics["AP50"], abs=5e-5)
    assert scores_of(card, "val") == scores_of(ModelCard(before), "val")
    assert card.text.count("24 train images of ") == 1
    assert "- Only for my garden." in card.text
    assert run_detection("evaluate", "--run", str(run), "--out", str(tmp_path / "out")).returncode == 0
    assert (run / CARD).read_text() == str(card)
    other = shutil.copytree(generated_root, tmp_path / "other" / generated_root.name)  # images of the same name
    for changed in (("--data.root", str(other)), ("--nms_iou", "0.3"), ("--data.val_fraction", "1")):
        assert run_detection("evaluate", "--run", str(run), *changed).returncode == 0
    assert (run / CARD).read_text() == str(card)
    assert run_detection("evaluate", "--run", str(run), "--optim.batch_size", "3", "--split", "val").returncode == 0
    assert ModelCard.load(run / CARD).data.eval_results[0].dataset_split == "train"  # val was written anew, at the end
    (run / CARD).write_text("---\nlicense: [\n---\n" + card.text)
    done = run_detection("evaluate", "--run", str(run))
    assert done.returncode == 0
    assert f"{run / CARD}: gets no scores, since it cannot be read as a model card" in done.stderr
    (run / CARD).write_text("# Mine\n")
    assert run_detection("evaluate", "--run", str(run)).returncode == 0
    assert (run / CARD).read_text() == "# Mine\n"


class Faces(InferenceTask[Any]):
    """A face network's settings and people, no more."""

    name, score_name = "embedding", "auc"


Faces.__abstractmethods__ = frozenset()


@pytest.mark.parametrize("pretrained", ["/home/alice/faces/mine.pth", "../alice/mine.pth"])
def test_people_and_places_on_this_machine_are_not_named(tmp_path: Path, pretrained: str) -> None:
    from tasks.embedding.config import EmbeddingConfig

    config = EmbeddingConfig(pretrained=pretrained)
    task = Faces(config, {"identities": ["Ada Lovelace", "Alan Turing"]})  # type: ignore[abstract]
    write_card(task, tmp_path, num_images=4, mult_adds=10**6, num_params=10, scores={"auc": float("nan")}, num_scored=0)
    text = (tmp_path / CARD).read_text()
    assert ", 2 people |" in text
    assert "Responsible use" in text
    assert "mine.pth" in text
    for private in ("Ada", "Turing", "alice"):
        assert private not in text
    assert ModelCard(text).data.eval_results is None
    assert "None: no images were held out." in text


def test_a_student_is_made_by_its_distillation(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("task: embedding\nteacher: [facenet]\n")
    from tasks.embedding.config import EmbeddingConfig

    run = tmp_path / "distilled"
    run.mkdir()
    task = Faces(EmbeddingConfig(), {})  # type: ignore[abstract]
    write_card(task, run, num_images=1, mult_adds=1, num_params=1, scores={"auc": 0.51}, num_scored=2)
    text = (run / CARD).read_text()
    assert "`python -m distill --config config.yaml` of the folder above" in text
    (run / CARD).write_text(text + "A line of somebody.\n")
    write_card(task, run, num_images=1, mult_adds=1, num_params=1, scores={"auc": 0.75}, num_scored=2)  # resumed
    assert (run / CARD).read_text() == text.replace("0.51", "0.75") + "A line of somebody.\n"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("../secret/acme", "acme"),
        ("~/b", "b"),
        ("/mnt/photos/", "photos"),
        (r"C:\alice\b.csv", "b.csv"),
        ("file:///home/alice/b", "b"),
        ({"data": {"roots": ["a/b", ("c/d", 1)]}}, {"data": {"roots": ["b", ["d", 1]]}}),
        *((same, same) for same in ("hf:me/cells", "https://example.org/a/b", "2/5", "keras", None, 0.5)),
    ],
    ids=str,
)
def test_files_and_folders_are_reduced_to_their_names(value: object, expected: object) -> None:
    assert without_places(value) == expected


def test_the_command_of_a_card_can_be_pasted_into_a_shell() -> None:
    """test_hub.py runs the one of a model on the Hub."""
    words = shlex.split(how_to_use("detection", "runs/my cells; rm x").splitlines()[0])
    assert words[3:] == ["predict", "--run", "runs/my cells; rm x", "photo.jpg"]


def test_a_section_is_replaced_and_nothing_else() -> None:
    text = "a\n<!-- use -->\nold\\1\n<!-- end of use -->\nb"
    assert replace_section(text, "use", r"new\1") == "a\n<!-- use -->\nnew\\1\n<!-- end of use -->\nb"
    assert replace_section(text, "scores", "new") == text
