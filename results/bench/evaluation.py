"""COCO's metrics of 100 boxes in each of many images with crowds, 80 classes: compared with pycocotools."""

from __future__ import annotations

from results.bench.measure import Comparison, Timing, Workload, time_calls

NUM_BOXES, NUM_CLASSES = 100, 80


def _measure(implementation: str, workload: Workload) -> Timing:
    import numpy as np

    from results.bench.detection_reference import pycocotools_scores, random_results
    from tasks.detection.metric import DetectionMetric

    class_names = list(map(str, range(NUM_CLASSES)))
    predicted, truth = random_results(np.random.default_rng(0), workload.size, NUM_BOXES, NUM_CLASSES)

    def score() -> None:
        if implementation == "pycocotools":
            pycocotools_scores(predicted, truth, class_names)
            return
        metric = DetectionMetric(class_names)
        metric.update(predicted, truth)
        metric.compute()

    return Timing(workload.size, time_calls(score, workload), {})


COMPARISONS = [
    Comparison(
        name="COCO metrics of {size:,} images",
        unit="images",
        implementations={"ours": None, "pycocotools": "pycocotools"},
        reference="pycocotools",
        measure=_measure,
        size=5_000,
        size_flag="num_images",
        steps=1,
        warmup=0,
    )
]
