"""COCO's AP: perfect and shifted predictions by hand, and real annotations against pycocotools."""

import contextlib
import csv
import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from datasets.detection.coco import read_coco
from datasets.images.read import read_image
from datasets.types import Detections
from results.bench.detection_reference import pycocotools_scores, random_results
from tasks.detection.metric import SCORE_NAMES, DetectionMetric, worst_false_positive
from tests.tasks.laws import assert_merge_is_exact


def objects(rng: np.random.Generator, num_images: int = 6) -> list[Detections]:
    truth = []
    for _ in range(num_images):
        corner = np.arange(4)[:, None] * 100.0 + rng.uniform(0, 20, (4, 2))
        boxes = np.concatenate([corner, corner + 60], 1).astype(np.float32)
        truth.append(Detections(boxes, rng.integers(0, 3, 4), (500, 500)))
    return truth


def pycocotools(annotations: dict[str, Any], results: list[dict[str, Any]]) -> COCOeval:
    """The evaluation of a results file's content against an annotation file's."""
    with contextlib.redirect_stdout(io.StringIO()):
        reference = COCO()
        reference.dataset = annotations
        reference.createIndex()
        evaluation = COCOeval(reference, reference.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def score(predicted: list[Detections], truth: list[Detections]) -> dict[str, float]:
    metric = DetectionMetric(["a", "b", "c"])
    metric.update(predicted, truth)
    return metric.compute()


def test_the_truth_as_prediction_is_perfect(rng: np.random.Generator) -> None:
    truth = objects(rng)
    scores = score(truth, truth)
    assert scores["AP"] == scores["AP50"] == scores["AP75"] == scores["AP_medium"] == pytest.approx(1)
    assert math.isnan(scores["AP_large"])
    assert math.isnan(scores["AP_small"])


@pytest.mark.parametrize(("shift_px", "num_thresholds"), [(0, 10), (6, 7), (14, 3), (25, 0)])
def test_shifted_boxes_pass_the_thresholds_below_their_iou(
    rng: np.random.Generator, shift_px: int, num_thresholds: int
) -> None:
    """Shifted by s, boxes 60 px wide have an IoU of (60 - s) / (60 + s): 1, 0.818, 0.622, 0.412."""
    truth = objects(rng)
    shift = np.array([shift_px, 0, shift_px, 0], np.float32)
    moved = [Detections(t.boxes_xyxy + shift, t.class_ids, t.image_hw) for t in truth]
    scores = score(moved, truth)
    assert scores["AP"] == pytest.approx(num_thresholds / 10, abs=1e-6)
    assert scores["AP50"] == pytest.approx(float(num_thresholds > 0))


def test_predictions_may_be_in_another_frame(rng: np.random.Generator) -> None:
    truth = objects(rng)
    assert score([t.resized((300, 300)) for t in truth], truth)["AP"] == pytest.approx(1)


def test_no_predictions_score_zero_and_no_objects_score_nan(rng: np.random.Generator) -> None:
    truth = objects(rng)
    empty = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), (500, 500))
    assert score([empty] * len(truth), truth)["AP"] == 0
    assert math.isnan(score(truth, [empty] * len(truth))["AP"])
    assert math.isnan(score([empty], [empty])["AP"])


@pytest.mark.data
def test_equals_pycocotools_on_real_annotations(rng: np.random.Generator, shared: Path) -> None:
    """Official file, official category ids, random crowds and areas; the reference uses none of our code."""
    root = shared / "data" / "coco128"
    file = root / "annotations" / "instances_val2017.json"
    source = read_coco(root, file)
    truth = [source.truth(index) for index in range(len(source))]
    official: dict[str, Any] = COCO(str(file)).dataset
    position = dict.fromkeys(range(len(source)), 0)
    index_of = {image["id"]: index for index, image in enumerate(official["images"])}
    for annotation in official["annotations"]:
        index = index_of[annotation["image_id"]]
        row = position[index]
        position[index] += 1
        annotation["iscrowd"] = int(rng.random() < 0.1)
        annotation["area"] = float(np.float32(annotation["area"] * rng.uniform(0.3, 1)))
        crowd, areas = truth[index].is_crowd, truth[index].areas_px
        assert crowd is not None
        assert areas is not None
        crowd[row], areas[row] = bool(annotation["iscrowd"]), annotation["area"]

    predicted, results = [], []
    for index, image in enumerate(official["images"]):
        true = truth[index]
        boxes = np.concatenate([true.boxes_xyxy, true.boxes_xyxy[::-1]])
        boxes = (boxes + rng.normal(0, 4, boxes.shape)).astype(np.float32)
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 2)
        class_ids = np.concatenate([true.class_ids, rng.integers(0, 80, len(true))])
        scores = rng.random(len(boxes)).astype(np.float32)
        predicted.append(Detections(boxes, class_ids, true.image_hw, scores=scores))
        for box, class_id, value in zip(boxes.astype(float), class_ids, scores, strict=True):
            x0, y0, x1, y1 = box
            results.append(
                {
                    "image_id": image["id"],
                    "category_id": source.categories.ids[class_id],
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "score": float(value),
                }
            )
    evaluation = pycocotools(official, results)

    metric = DetectionMetric(source.categories.names)
    for start in range(0, len(truth), 32):
        metric.update(predicted[start : start + 32], truth[start : start + 32])
    assert evaluation.stats[0] > 0.05
    for name, expected in zip(SCORE_NAMES, evaluation.stats, strict=False):
        assert metric.compute()[name] == pytest.approx(expected, abs=1e-6), name


def test_per_class_table_averages_to_the_score(rng: np.random.Generator, tmp_path: Path) -> None:
    """COCO's AP is the mean over classes; a class without objects has no AP."""
    truth = objects(rng)
    shifted = [
        Detections(t.boxes_xyxy + rng.uniform(0, 8, t.boxes_xyxy.shape).astype(np.float32), t.class_ids, t.image_hw)
        for t in truth
    ]
    metric = DetectionMetric(["a", "b", "c", "never"])
    metric.update(shifted, truth)
    metric.write_details(tmp_path)
    with (tmp_path / "per_class.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == ["a", "b", "c", "never"]
    assert sum(int(row["objects"]) for row in rows) == 24
    assert (rows[3]["objects"], rows[3]["AP"]) == ("0", "")
    scores = metric.compute()
    for name in ("AP", "AP50"):
        assert np.mean([float(row[name]) for row in rows[:3]]) == pytest.approx(scores[name], abs=1e-4)
    assert 0.05 < scores["AP"] < 0.95


def test_worst_false_positive_by_hand() -> None:
    """Each kind of error, in another frame than the truth's; true positives are none, at any score."""
    truth = Detections(np.array([[0, 0, 50, 50]], np.float32), np.array([1]), (100, 100))

    def worst(boxes: list[list[float]], class_ids: list[int], scores: list[float]) -> tuple[float, str] | None:
        predicted = Detections(
            np.array(boxes, np.float32), np.array(class_ids), (200, 200), scores=np.array(scores, np.float32)
        )
        failure = worst_false_positive(predicted, truth, ["cat", "dog", "hen"])
        if failure is None:
            return None
        assert len(failure.predicted) == 1
        assert failure.predicted.scores is not None
        assert failure.predicted.scores[0] == np.float32(failure.confidence)
        return round(failure.confidence, 4), failure.what

    correct, background, shifted = [0.0, 0, 100, 104], [120.0, 120, 190, 190], [50.0, 0, 150, 100]
    assert worst([correct], [1], [0.9]) is None
    assert worst([correct, correct], [1, 2], [0.9, 0.4]) == (0.4, "hen: wrong class (dog)")
    assert worst([correct, correct], [1, 1], [0.4, 0.9]) == (0.4, "dog: duplicate")  # the higher score is matched
    assert worst([correct, background, background], [1, 1, 1], [0.9, 0.3, 0.7]) == (0.7, "dog: background")
    assert worst([shifted], [1], [0.8]) == (0.8, "dog: poor localisation, IoU 0.33")
    assert worst([shifted], [0], [0.8]) == (0.8, "cat: background")
    crowd = Detections(truth.boxes_xyxy, truth.class_ids, (100, 100), is_crowd=np.array([True]))
    no_objects = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), (100, 100))
    inside = Detections(
        np.array([[0, 0, 10, 10], [20, 20, 30, 30]], np.float32),
        np.array([1, 1]),
        (100, 100),
        scores=np.ones(2, np.float32),
    )
    assert worst_false_positive(inside, crowd, ["cat", "dog"]) is None  # any number of boxes match a crowd
    assert worst_false_positive(inside, no_objects, ["cat", "dog"]) is not None
    assert worst_false_positive(truth.resized((200, 200)), truth, ["cat", "dog"]) is None  # it has no scores


@pytest.mark.parametrize("seed", range(3))
def test_equals_pycocotools_on_random_results(seed: int) -> None:
    """All twelve scores and every precision, with crowds, annotated areas, and equal scores.

    The files' content is built here, object by object; the benchmark's comparison, built by our code, gives the same.
    """
    class_names = [f"class {class_id}" for class_id in range(12)]  # the twelfth never occurs
    predicted, truth = random_results(np.random.default_rng(seed), 60, 40, 11)
    metric = DetectionMetric(class_names)
    metric.update(predicted, truth)
    scores = metric.compute()
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for image_id, (image_predicted, image_truth) in enumerate(zip(predicted, truth, strict=True)):
        assert image_truth.is_crowd is not None
        assert image_truth.areas_px is not None
        assert image_predicted.scores is not None
        for row in range(len(image_truth)):
            x0, y0, x1, y1 = (float(value) for value in image_truth.boxes_xyxy[row])
            annotations.append(
                {
                    "id": 1000 + len(annotations),
                    "image_id": image_id,
                    "category_id": int(image_truth.class_ids[row]),
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": float(image_truth.areas_px[row]),
                    "iscrowd": 1 if image_truth.is_crowd[row] else 0,
                }
            )
        for row in range(len(image_predicted)):
            x0, y0, x1, y1 = (float(value) for value in image_predicted.boxes_xyxy[row])
            box, class_id = [x0, y0, x1 - x0, y1 - y0], int(image_predicted.class_ids[row])
            results.append(
                {
                    "image_id": image_id,
                    "category_id": class_id,
                    "bbox": box,
                    "score": float(image_predicted.scores[row]),
                }
            )
    content = {
        "info": {},
        "images": [{"id": image_id, "height": 480, "width": 640} for image_id in range(60)],
        "annotations": annotations,
        "categories": [{"id": class_id, "name": name} for class_id, name in enumerate(class_names)],
    }
    evaluation = pycocotools(content, results)
    stats, precision = evaluation.stats, evaluation.eval["precision"]
    benchmark_stats, benchmark_precision = pycocotools_scores(predicted, truth, class_names)
    np.testing.assert_array_equal(benchmark_stats, stats)
    np.testing.assert_array_equal(benchmark_precision, precision)
    assert 0.05 < stats[0] < 0.9
    assert sum(objects.is_crowd.sum() for objects in truth if objects.is_crowd is not None) > 3
    assert list(scores.values()) == pytest.approx(stats[:6], abs=1e-6)
    np.testing.assert_allclose(metric._evaluation().eval["precision"], precision, atol=1e-6)
    np.testing.assert_allclose(metric._evaluation().stats[:12], stats, atol=1e-6)


def test_areas_and_crowds_by_hand() -> None:
    """40 by 50 px is medium, unless the annotated area is small; boxes in a crowd are no false positives."""
    box = np.array([[100, 100, 140, 150]], np.float32)
    found = Detections(box, np.array([0]), (500, 500), scores=np.array([0.9], np.float32))
    scores = score([found], [Detections(box, np.array([0]), (500, 500))])
    assert scores["AP_medium"] == pytest.approx(1)
    assert math.isnan(scores["AP_small"])
    small = Detections(box, np.array([0]), (500, 500), areas_px=np.array([1000], np.float32))  # under 32 * 32
    scores = score([found], [small])
    assert scores["AP_small"] == pytest.approx(1)
    assert math.isnan(scores["AP_medium"])
    # Areas are in the frame of the truth, also if the prediction is in another.
    assert score([found.resized((50, 50))], [small]) == pytest.approx(scores, nan_ok=True)

    boxes = np.array([[0, 0, 40, 50], [300, 300, 450, 450]], np.float32)
    inside = np.array([[0, 0, 40, 50], [310, 310, 350, 350]], np.float32)  # the second has the higher score
    both = Detections(inside, np.array([0, 0]), (500, 500), scores=np.array([0.8, 0.9], np.float32))
    for is_crowd, expected in ((np.array([False, True]), 1), (np.array([False, False]), 0.5 * 51 / 101)):
        truth = Detections(boxes, np.array([0, 0]), (500, 500), is_crowd=is_crowd)
        # Without a crowd the box with the higher score is false: recall 0.5 at precision 0.5.
        assert score([both], [truth])["AP50"] == pytest.approx(expected)


def test_merging_is_exact() -> None:
    """With equal scores, which are ordered by image."""
    predicted, truth = random_results(np.random.default_rng(0), 41, 20, 5)
    assert_merge_is_exact(lambda: DetectionMetric(list("abcdef")), predicted, truth)


def test_details_are_a_table_and_a_plot(tmp_path: Path) -> None:
    """Also without predictions, and with too many classes to label their curves."""
    for num_classes, num_boxes in ((3, 10), (40, 10), (3, 0)):
        folder = tmp_path / f"{num_classes}-{num_boxes}"
        folder.mkdir()
        names = [f"class {class_id}" for class_id in range(num_classes)]
        metric = DetectionMetric(names)
        metric.update(*random_results(np.random.default_rng(0), 8, num_boxes, num_classes))
        metric.write_details(folder)
        with (folder / "per_class.csv").open() as file:
            assert [row["class"] for row in csv.DictReader(file)] == names
        assert read_image(folder / "precision_recall.png").std() > 5
