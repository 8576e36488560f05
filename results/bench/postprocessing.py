"""Raw detector outputs to boxes, 80 classes: compared with torchvision's `SSD` and `RoIHeads` on the same tensors."""

from __future__ import annotations

from functools import partial
from typing import Any

from results.bench.measure import Comparison, Timing, Workload, time_calls

NUM_CLASSES = 80


def _measure(implementation: str, workload: Workload, *, is_ssd: bool, one_by_one: bool) -> Timing:
    import torch

    from results.bench import detection_reference
    from tasks.detection.faster_rcnn import decode_regions
    from tasks.detection.postprocess import PostprocessConfig
    from tasks.detection.ssd import decode_ssd

    torch.manual_seed(0)
    config = PostprocessConfig(300, 0.01 if is_ssd else 0.05, 0.5, 100)  # torchvision's defaults
    num_images, num_batches = (1, workload.size) if one_by_one else (workload.size, 1)
    generate = detection_reference.ssd_outputs if is_ssd else detection_reference.faster_rcnn_outputs
    batches: list[Any] = [generate(num_images, NUM_CLASSES) for _ in range(num_batches)]
    ours: Any = decode_ssd if is_ssd else decode_regions
    build = detection_reference.torchvision_ssd if is_ssd else detection_reference.torchvision_roi_heads
    decode = build(config) if implementation == "torchvision" else lambda outputs: ours(outputs, config)

    def decode_all() -> None:
        for outputs in batches:
            decode(outputs)

    return Timing(workload.size, time_calls(torch.inference_mode()(decode_all), workload), {})


COMPARISONS = [
    Comparison(
        name=f"{'SSD 300' if is_ssd else 'Faster R-CNN'}, {{size}} images {'one by one' if one_by_one else 'at once'}",
        unit="images",
        implementations=dict.fromkeys(("ours", "torchvision")),
        reference="torchvision",
        measure=partial(_measure, is_ssd=is_ssd, one_by_one=one_by_one),
        size=16,
        size_flag="batch_size",
        steps=30,
    )
    for is_ssd in (True, False)
    for one_by_one in (True, False)
]
