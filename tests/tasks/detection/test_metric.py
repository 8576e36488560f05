"""COCO's AP: perfect and shifted predictions by hand, and real annotations against pycocotools."""

import contextlib
import csv
import io
import math
from dataclasses import replace
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
from tasks.common.thresholds import pool
from tasks.detection.metric import SCORE_NAMES, DetectionMetric, match_objects, worst_false_positive
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


def as_files(
    predicted: list[Detections], truth: list[Detections], class_names: list[str]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The content of COCO's files, built object by object without our code: of annotations, and of results."""
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
        "images": [{"id": image_id, "height": 480, "width": 640} for image_id in range(len(truth))],
        "annotations": annotations,
        "categories": [{"id": class_id, "name": name} for class_id, name in enumerate(class_names)],
    }
    return content, results


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
    content, results = as_files(predicted, truth, class_names)
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


def test_matches_are_pycocotools(rng: np.random.Generator) -> None:
    """Box by box, with crowds and equal scores; pycocotools' matches of each image and class at an IoU of 0.5."""
    class_names = list("abcde")
    predicted, truth = random_results(rng, 60, 40, 5)
    content, results = as_files(predicted, truth, class_names)
    evaluation = pycocotools(content, results)
    first_ids = np.cumsum([0, *map(len, truth)]) + 1000  # of each image's annotations
    first_rows = np.cumsum([0, *map(len, predicted)]) + 1  # of each image's results, which are counted from 1
    expected = [np.full(len(boxes), -1) for boxes in predicted]
    for entry in evaluation.evalImgs:
        if entry is not None and entry["aRng"] == [0, 1e10]:
            image_id = entry["image_id"]
            for dt_id, gt_id in zip(entry["dtIds"], entry["dtMatches"][0].astype(int), strict=True):
                expected[image_id][dt_id - first_rows[image_id]] = gt_id - first_ids[image_id] if gt_id else -1
    num_in_crowds = 0
    for image_predicted, image_truth, image_expected in zip(predicted, truth, expected, strict=True):
        assert image_truth.is_crowd is not None
        np.testing.assert_array_equal(match_objects(image_predicted, image_truth), image_expected)
        num_in_crowds += int(image_truth.is_crowd[image_expected[image_expected >= 0]].sum())
    assert num_in_crowds > 5


def count_by_hand(predicted: Detections, truth: Detections, class_id: int, threshold: float) -> tuple[int, int]:
    """True and false positives of an image without crowds, where only the boxes from the threshold on exist."""
    assert predicted.scores is not None
    rows = [
        row
        for row in np.argsort(-predicted.scores, kind="stable").tolist()
        if predicted.scores[row] >= np.float32(threshold) and predicted.class_ids[row] == class_id
    ]
    free = [row for row in range(len(truth)) if truth.class_ids[row] == class_id]
    num_found = 0
    for row in rows:
        x0, y0, x1, y1 = predicted.boxes_xyxy[row].astype(float)
        best, best_iou = -1, 0.5
        for other in free:
            u0, v0, u1, v1 = truth.boxes_xyxy[other].astype(float)
            common = max(min(x1, u1) - max(x0, u0), 0) * max(min(y1, v1) - max(y0, v0), 0)
            iou = common / ((x1 - x0) * (y1 - y0) + (u1 - u0) * (v1 - v0) - common)
            if iou >= best_iou:
                best, best_iou = other, iou
        if best >= 0:
            free.remove(best)
            num_found += 1
    return num_found, len(rows) - num_found


def test_counts_at_thresholds_by_hand(rng: np.random.Generator) -> None:
    """At each threshold alone, with scores that lie on thresholds, and with a class that never occurs."""
    names = list("abcd")
    predicted, truth = random_results(rng, 12, 20, 3)
    predicted = [replace(boxes, scores=boxes.scores.round(2)) for boxes in predicted if boxes.scores is not None]
    truth = [replace(objects, is_crowd=None) for objects in truth]
    metric = DetectionMetric(names, score_threshold=0.05)
    metric.update(predicted, truth)
    classes = metric.count_at_thresholds()
    assert [counts.name for counts in classes] == names
    assert [counts.num_objects for counts in classes] == [
        sum(int((objects.class_ids == class_id).sum()) for objects in truth) for class_id in range(4)
    ]
    assert classes[0].thresholds[0] == 0.05
    for row, threshold in enumerate(classes[0].thresholds.tolist()):
        for class_id, counts in enumerate(classes):
            pairs = zip(predicted, truth, strict=True)
            by_image = [count_by_hand(boxes, objects, class_id, threshold) for boxes, objects in pairs]
            expected = (sum(right for right, _ in by_image), sum(wrong for _, wrong in by_image))
            assert (counts.true_positives[row], counts.false_positives[row]) == expected
    assert 0 < pool(classes).true_positives[-5] < pool(classes).true_positives[0] < pool(classes).num_objects


def test_points_at_thresholds_lie_on_pycocotools_curve(rng: np.random.Generator) -> None:
    """Of a single class with a box at each threshold: COCO's curve is the highest precision from each recall on."""
    predicted, truth = random_results(rng, 9, 11, 1)
    scores = iter(rng.permutation(np.arange(1, 100)) / 100)
    predicted = [
        replace(boxes, scores=np.array([next(scores) for _ in range(len(boxes))], np.float32)) for boxes in predicted
    ]
    precision = pycocotools(*as_files(predicted, truth, ["a"])).eval["precision"][0, :, 0, 0, -1]
    metric = DetectionMetric(["a"])
    metric.update(predicted, truth)
    counts = pool(metric.count_at_thresholds())
    for recall, expected in zip(np.linspace(0, 1, 101), precision, strict=True):
        reached = counts.precision[counts.recall >= recall - 1e-9]
        assert np.nanmax(reached, initial=0) == pytest.approx(expected, abs=1e-9)
    assert 0.1 < precision.mean() < 0.95


def test_thresholds_of_a_perfect_detector_of_none_and_without_images(rng: np.random.Generator) -> None:
    truth = objects(rng)
    metric = DetectionMetric(["a", "b", "c"])
    assert metric.count_at_thresholds() == []
    metric.update(truth, truth)  # without scores, which counts as 1
    counts = pool(metric.count_at_thresholds())
    assert (counts.precision == 1).all()
    assert (counts.recall == 1).all()
    best = counts.choose("f1")
    assert best is not None
    assert best == (0.5, 1, 1, 1)
    metric = DetectionMetric(["a", "b", "c"])
    metric.update([objects.select(np.zeros(0, np.int64)) for objects in truth], truth)
    counts = pool(metric.count_at_thresholds())
    assert np.isnan(counts.precision).all()
    assert (counts.recall == 0).all()


def test_a_box_matches_an_object_before_a_crowd() -> None:
    """Although it lies wholly in the crowd; so a second box at the object is in the crowd, and not false."""
    boxes = np.array([[0, 0, 100, 100], [0, 0, 10, 10]], np.float32)
    truth = Detections(boxes, np.array([0, 0]), (100, 100), is_crowd=np.array([True, False]))
    found = Detections(boxes[[1, 1]], np.array([0, 0]), (100, 100), scores=np.array([0.4, 0.9], np.float32))
    assert match_objects(found, truth).tolist() == [0, 1]
    metric = DetectionMetric(["a"])
    metric.update([found], [truth])
    (counts,) = metric.count_at_thresholds()
    assert (counts.num_objects, counts.true_positives[0], counts.false_positives[0]) == (1, 1, 0)
