"""Detectors from pixels to boxes, one image at a time: 90 classes, random weights."""

from __future__ import annotations

from typing import Any

from results.bench.measure import Comparison, Timing, Workload, time_calls

# Ours: model, input size and neck, as in configs/detection; torchvision's: builder.
OURS = {
    "ours, SSD 300": ("ssd", 300, "extra_layers"),
    "ours, SSD 320 FPN": ("ssd", 320, "fpn_extra_layers"),
    "ours, Faster R-CNN 300": ("faster_rcnn", 300, "extra_layers"),
    "ours, Faster R-CNN 600": ("faster_rcnn", 600, "extra_layers"),
}
TORCHVISION = {
    "torchvision, SSDlite 320": "ssdlite320_mobilenet_v3_large",
    "torchvision, Faster R-CNN 320 FPN": "fasterrcnn_mobilenet_v3_large_320_fpn",
}


def _measure(implementation: str, workload: Workload) -> Timing:
    import torch

    from datasets.memory import keep_freed_memory

    keep_freed_memory()
    torch.manual_seed(0)
    predict = _ours(*OURS[implementation]) if implementation in OURS else _torchvision(TORCHVISION[implementation])
    return Timing(1, time_calls(torch.inference_mode()(predict), workload), {})


def _ours(model_name: Any, input_size: int, neck: Any) -> Any:
    import torch

    from tasks.common.evaluation.evaluate import predict_batch
    from tasks.detection.config import DetectionConfig, DetectionDataConfig, SSDConfig
    from tasks.detection.task import DetectionTask

    ssd = SSDConfig(neck=neck, predictor="separable") if neck == "fpn_extra_layers" else SSDConfig()
    config = DetectionConfig(model=model_name, ssd=ssd, data=DetectionDataConfig(input_size=input_size))
    task = DetectionTask.with_num_classes(config, None)
    model = task.build_model()
    image = torch.randint(0, 256, (1, 3, input_size, input_size), dtype=torch.uint8)
    return lambda: predict_batch(task, model, image)


def _torchvision(builder: str) -> Any:
    import torch
    from torchvision.models import detection

    model = getattr(detection, builder)(weights=None, weights_backbone=None, num_classes=91).eval()
    image = torch.rand(3, 320, 320)
    return lambda: model([image])


COMPARISONS = [
    Comparison(
        name="pixels to boxes",
        unit="images",
        implementations=dict.fromkeys([*OURS, *TORCHVISION]),
        reference="ours, SSD 300",
        measure=_measure,
        size=1,
        size_flag=None,
        steps=10,
    )
]
