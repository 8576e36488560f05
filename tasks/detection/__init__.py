"""Objects and their boxes: SSD on MobileNet, trained and scored on data in COCO's format."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from tasks.detection.config import DetectionConfig
    from tasks.detection.task import DetectionTask

__all__ = ["DetectionConfig", "DetectionTask"]
__getattr__, __dir__, _ = lazy_loader.attach(
    __name__, submod_attrs={"config": ["DetectionConfig"], "task": ["DetectionTask"]}
)
