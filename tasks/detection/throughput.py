"""How fast detectors learn and predict, and how fast their boxes are chosen and scored, beside the usual tools.

    python -m tasks.detection.throughput training --data.root ../shared/data/coco128
    python -m tasks.detection.throughput prediction
    python -m tasks.detection.throughput postprocessing
    python -m tasks.detection.throughput evaluation --steps 1 --rounds 1

`training`: SSD300 and torchvision's ssdlite320_mobilenet_v3_large (0.58 G mult-adds against our 1.24 G), each with the
memory setting of `datasets.memory` and without; all load through our loader.
`prediction`: from pixels to boxes, one image at a time, 90 classes, random weights.
`postprocessing`: from raw outputs to boxes, 80 classes, beside torchvision's `SSD` and `RoIHeads` on the same tensors
(`reference.py`), one image at a time and 16 at once.
`evaluation`: COCO's metrics of 100 boxes in each of 5,000 images, beside pycocotools.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from itertools import chain, repeat
from typing import Any

from tasks.common.throughput import Step, compare, time_calls, time_training

TRAINING_BATCH, CHOSEN_BATCH, NUM_EVALUATED, NUM_CLASSES = 16, 16, 5000, 80
SINGLE_PROCESS = " one by one"
# Of each benchmark: its ways, and to which of them the rate of each is put in proportion.
TRAINING = dict.fromkeys(("ours", "ours, default malloc", "torchvision, kept memory", "torchvision"), "torchvision")
PREDICTION = dict.fromkeys(
    (
        "ssd 300",
        "ssd 320 fpn",
        "faster_rcnn 300",
        "faster_rcnn 600",
        "torchvision ssdlite320_mobilenet_v3_large",
        "torchvision fasterrcnn_mobilenet_v3_large_320_fpn",
    ),
    "ssd 300",
)
POSTPROCESSING = {
    f"{whose} {model}{alone}": f"torchvision {model}{alone}"
    for model in ("ssd", "faster_rcnn")
    for alone in (SINGLE_PROCESS, "")
    for whose in ("ours", "torchvision")
}
EVALUATION = dict.fromkeys(("ours", "pycocotools"), "pycocotools")


def main(words: list[str]) -> int:
    """Measure all ways of one of the four, or one way in this process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    benchmarks: dict[str, tuple[dict[str, str], Callable[[str, argparse.Namespace], list[Step]], int]] = {
        "training": (TRAINING, _training, TRAINING_BATCH),
        "prediction": (PREDICTION, _prediction, 1),
        "postprocessing": (POSTPROCESSING, _postprocessing, CHOSEN_BATCH),
        "evaluation": (EVALUATION, _evaluation, NUM_EVALUATED),
    }
    parser.add_argument("what", choices=benchmarks)
    parser.add_argument("--data.root", dest="root", help="training: folder in COCO's layout (default: the sample)")
    chosen = next((word for word in words if word in benchmarks), "training")
    modes, measure, images_per_step = benchmarks[chosen]
    name = "tasks.detection.throughput"
    return compare(name, parser, words, modes, measure, images_per_step=images_per_step)


def _training(mode: str, options: argparse.Namespace) -> list[Step]:
    import torch

    from datasets.loader import TrainingBatches, build_loader
    from datasets.memory import keep_freed_memory
    from tasks.common.training.optim import build_optimizer
    from tasks.detection.config import DetectionConfig, DetectionDataConfig
    from tasks.detection.task import DetectionTask

    if mode in ("ours", "torchvision, kept memory"):
        keep_freed_memory()
    torch.manual_seed(0)
    is_ours = mode.startswith("ours")
    data = DetectionDataConfig(root=options.root, input_size=300 if is_ours else 320)
    task = DetectionTask.from_data(DetectionConfig(data=data))
    dataset = task.training_set()
    batches = TrainingBatches(len(dataset), TRAINING_BATCH, seed=0)
    loader: Any = build_loader(dataset, batches, num_workers=2, collate=task.collate(), keep_workers=True)
    arriving: Iterator[Any] = chain.from_iterable(repeat(loader))
    model, loss_of = _our_learner(task) if is_ours else _torchvision_learner(len(task.class_names))
    return time_training(arriving, loss_of, build_optimizer(model.train(), task.config.optim), options.steps)


def _our_learner(task: Any) -> tuple[Any, Callable[[Any], Any]]:
    model = task.build_model()
    return model, lambda batch: task.loss(model(batch.images), batch.targets)["total"]


def _torchvision_learner(num_classes: int) -> tuple[Any, Callable[[Any], Any]]:
    from torchvision.models.detection import ssdlite320_mobilenet_v3_large

    model = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=num_classes + 1)

    def loss_of(batch: Any) -> Any:
        pairs = zip(batch.targets.boxes_xyxy * batch.images.shape[-1], batch.targets.class_ids, strict=True)
        targets = [{"boxes": boxes[ids >= 0], "labels": ids[ids >= 0] + 1} for boxes, ids in pairs]
        return sum(model(list(batch.images.float() / 255), targets).values())

    return model, loss_of


def _prediction(mode: str, options: argparse.Namespace) -> list[Step]:
    import torch

    from datasets.memory import keep_freed_memory
    from tasks.common.evaluation.evaluate import predict_batch
    from tasks.detection.config import DetectionConfig, DetectionDataConfig, SSDConfig
    from tasks.detection.task import DetectionTask

    keep_freed_memory()
    torch.manual_seed(0)
    whose, name, *has_fpn = mode.split()
    if whose == "torchvision":
        from torchvision.models import detection

        network: Any = getattr(detection, name)(weights=None, weights_backbone=None, num_classes=91).eval()
        picture = torch.rand(3, 320, 320)
        return time_calls("prediction", torch.inference_mode()(lambda: network([picture])), options.steps)
    ssd = SSDConfig(neck="fpn", predictor="separable") if has_fpn else SSDConfig()
    config = DetectionConfig(model=whose, ssd=ssd, data=DetectionDataConfig(input_size=int(name)))  # type: ignore[arg-type]
    task = DetectionTask.with_num_classes(config, None)
    model = task.build_model()
    image = torch.randint(0, 256, (1, 3, int(name), int(name)), dtype=torch.uint8)
    return time_calls("prediction", lambda: predict_batch(task, model, image), options.steps)


def _postprocessing(mode: str, options: argparse.Namespace) -> list[Step]:
    from functools import partial

    import torch

    from tasks.detection import reference
    from tasks.detection.faster_rcnn import decode_regions
    from tasks.detection.postprocess import PostprocessConfig
    from tasks.detection.ssd import decode_ssd

    torch.manual_seed(0)
    whose, model = mode.removesuffix(SINGLE_PROCESS).split()
    limits = (
        PostprocessConfig(300, 0.01, 0.5, 100) if model == "ssd" else PostprocessConfig(300, 0.05, 0.5, 100)
    )  # torchvision's defaults
    number, times = (1, CHOSEN_BATCH) if mode.endswith(SINGLE_PROCESS) else (CHOSEN_BATCH, 1)
    if model == "ssd":
        batches: list[Any] = [reference.ssd_outputs(number, NUM_CLASSES) for _ in range(times)]
        decode: Any = partial(decode_ssd, config=limits) if whose == "ours" else reference.torchvision_ssd(limits)
    else:
        batches = [reference.faster_rcnn_outputs(number, NUM_CLASSES) for _ in range(times)]
        decode = partial(decode_regions, config=limits) if whose == "ours" else reference.torchvision_roi_heads(limits)

    def decode_all() -> None:
        for outputs in batches:
            decode(outputs)

    return time_calls("postprocessing", torch.inference_mode()(decode_all), options.steps)


def _evaluation(mode: str, options: argparse.Namespace) -> list[Step]:
    import numpy as np

    from tasks.detection.metric import DetectionMetric
    from tasks.detection.reference import pycocotools_scores, random_results

    class_names = list(map(str, range(NUM_CLASSES)))
    predicted, truth = random_results(np.random.default_rng(0), NUM_EVALUATED, 100, NUM_CLASSES)

    def score() -> None:
        if mode == "pycocotools":
            pycocotools_scores(predicted, truth, class_names)
            return
        metric = DetectionMetric(class_names)
        metric.update(predicted, truth)
        metric.compute()

    return time_calls("evaluation", score, options.steps, num_warmup=0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
