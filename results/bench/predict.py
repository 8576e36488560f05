"""A folder of JPEG files to boxes, records and drawn pictures, compared with a plain loop over the same network."""

from __future__ import annotations

import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from results.bench.loading import jpeg_files
from results.bench.measure import Comparison, Step, Timing, Workload

INPUT_SIZE, BOXES_PER_IMAGE, CALIBRATION_IMAGES = 300, 8, 20
OURS, STAGES, RECORDS = "ours", "ours, one stage after the other", "ours, records alone"
EXPORTED, INT8 = "ours, exported", "ours, exported in 8 bits"
PLAIN, PLAIN_DRAWN = "PIL and PyTorch, one by one", "PIL and PyTorch, one by one, drawn by PIL"


def _measure(implementation: str, workload: Workload) -> Timing:
    from datasets.memory import keep_freed_memory

    if implementation not in (PLAIN, PLAIN_DRAWN):
        keep_freed_memory()  # as `predict` does
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        photos = _photos(root / "photos", workload)
        model = _model(photos[:BOXES_PER_IMAGE])
        implementations: dict[str, Callable[[Path], Step]] = {
            OURS: lambda out: _ours(model, photos, out, ["boxes"]),
            EXPORTED: lambda out: _ours(_exported(model, photos, root), photos, out, ["boxes"]),
            INT8: lambda out: _ours(_exported(model, photos, root, is_int8=True), photos, out, ["boxes"]),
            RECORDS: lambda out: _ours(model, photos, out, ["none"]),
            STAGES: lambda out: _stages(model, photos, out),
            PLAIN: lambda out: _plain(model, photos, out, is_drawn=False),
            PLAIN_DRAWN: lambda out: _plain(model, photos, out, is_drawn=True),
        }
        steps = []
        for step in range(workload.warmup + workload.steps):
            (out := root / str(step)).mkdir()
            steps.append(implementations[implementation](out))
        return Timing(len(photos), steps[workload.warmup :], {})


def _photos(folder: Path, workload: Workload) -> list[Path]:
    """So many files, copies of one another under other names if there are fewer."""
    from datasets.sample.detection import sample_root

    folder.mkdir()
    sources = jpeg_files(sample_root() if workload.images is None else Path(workload.images))
    copies = []
    for number in range(workload.size):
        copies.append(folder / f"{number:06}.jpg")
        copies[-1].write_bytes(sources[number % len(sources)].read_bytes())
    return copies


def _model(photos: list[Path]) -> Any:
    """A detector with random weights, and a threshold with which it finds so many boxes in a photo."""
    import numpy as np
    import torch

    from datasets.images.read import read_image
    from tasks.common.evaluation.evaluate import TorchPredictor
    from tasks.common.prediction.model import Model
    from tasks.common.prediction.sources import InputImage
    from tasks.detection.config import DetectionConfig, DetectionDataConfig
    from tasks.detection.task import DetectionTask

    def build(threshold: float) -> Any:
        torch.manual_seed(0)
        data = DetectionDataConfig(input_size=INPUT_SIZE)
        config = DetectionConfig(data=data, threshold=threshold, score_threshold=threshold)
        task = DetectionTask.with_num_classes(config, None)
        return Model(task, TorchPredictor(task, task.build_model().eval()))

    images = [InputImage(photo.name, None, read_image(photo)) for photo in photos]
    found = [np.sort(result.predictions[0].scores)[::-1] for result in build(0.001).predict(images)]
    return build(float(np.median([scores[min(BOXES_PER_IMAGE, len(scores)) - 1] for scores in found])))


def _exported(model: Any, photos: list[Path], folder: Path, *, is_int8: bool = False) -> Any:
    """The same model as a file with its postprocessing inside, run by ONNX Runtime."""
    from datasets.images.read import read_image
    from tasks.common.benchmark.throughput import exported_model
    from tasks.common.deploy.onnx_file import write_onnx
    from tasks.common.deploy.quantization import quantize

    task, network = model.task, model.predictor.network
    floats, path = folder / "floats.onnx", folder / "model.onnx"
    write_onnx(network, INPUT_SIZE, floats, task.name, task.metadata)
    if is_int8:
        preprocess = task.preprocessing()
        quantize(floats, path, [preprocess(read_image(photo)) for photo in photos[:CALIBRATION_IMAGES]])
    else:
        path = floats
    return exported_model(task, network, path)


def _ours(model: Any, photos: list[Path], out: Path, formats: Any) -> Step:
    from tasks.common.benchmark.throughput import prediction_seconds
    from tasks.common.prediction.find import find_sources

    return {"all": prediction_seconds(model, find_sources([str(photos[0].parent)]), formats, out)}


def _stages(model: Any, photos: list[Path], out: Path) -> Step:
    """What the threads of `predict` do, by one of them."""
    from tasks.common.inference_task import BATCH_SIZE
    from tasks.common.prediction.files import IMAGE_SUFFIX, PredictionFiles, Rendered
    from tasks.common.prediction.sources import Picture

    clock = _Clock()
    with PredictionFiles(out, "") as files:
        for first in range(0, len(photos), BATCH_SIZE):
            sources = [Picture(photo.name, photo) for photo in photos[first : first + BATCH_SIZE]]
            images = [clock.time("decode", source.read, model.task.decoding) for source in sources]
            inputs = [clock.time("prepare", model.prepare, image) for image in images]
            results = clock.time("network and boxes", model.predict_prepared, images, inputs)
            for source, result in zip(sources, results, strict=True):
                drawn = clock.time("draw", result.draw)
                data = clock.time("encode", _encode, drawn, IMAGE_SUFFIX)
                clock.time("write", files.write, source, result, Rendered(data, None, []))
    return clock.seconds


def _plain(model: Any, photos: list[Path], out: Path, *, is_drawn: bool) -> Step:
    import numpy as np
    import torch
    from PIL import Image, ImageDraw

    task, network = model.task, model.predictor.network
    clock = _Clock()
    with (out / "predictions.jsonl").open("w", encoding="utf-8") as file, torch.inference_mode():
        for photo in photos:
            image = clock.time("decode", Image.open(photo).convert, "RGB")
            resized = clock.time("prepare", image.resize, (INPUT_SIZE, INPUT_SIZE), Image.Resampling.BILINEAR)
            batch = torch.from_numpy(np.array(resized)).permute(2, 0, 1)[None]
            outputs = clock.time("network", network, batch)
            (predicted,) = clock.time("boxes", task.decode, outputs)
            record = {"image": photo.name} | task.describe(predicted, (image.height, image.width))
            if is_drawn:
                clock.time("draw", _draw_by_pil, ImageDraw.Draw(image), record["detections"])
                clock.time("encode and write", image.save, out / photo.name, quality=95)
            clock.time("write", file.write, json.dumps(record) + "\n")
    return clock.seconds


def _draw_by_pil(pen: Any, detections: list[dict[str, Any]]) -> None:
    for found in detections:
        pen.rectangle(found["box_xyxy"], outline=(255, 160, 0), width=2)
        pen.text(found["box_xyxy"][:2], f"{found['class_name']} {found['score']:.2f}")


def _encode(image: Any, suffix: str) -> bytes:
    from datasets.images.read import encode_image

    return encode_image(image, suffix)


class _Clock:
    """Adds up the seconds of calls by the name of their stage."""

    def __init__(self) -> None:
        self.seconds: Step = defaultdict(float)

    def time(self, stage: str, call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        started = time.perf_counter()
        result = call(*arguments, **options)
        self.seconds[stage] += time.perf_counter() - started
        return result


COMPARISONS = [
    Comparison(
        name="{size:,} JPEG files to boxes, records and drawn pictures",
        unit="images",
        implementations=dict.fromkeys([OURS, STAGES, RECORDS, EXPORTED, INT8, PLAIN_DRAWN, PLAIN]),
        reference=PLAIN_DRAWN,
        measure=_measure,
        size=500,
        size_flag="num_images",
        steps=1,
        warmup=0,
    )
]
