"""What an image shows: ImageNet, Stanford Dogs, or folders of one's own."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from tasks.classification.config import ClassificationConfig
    from tasks.classification.task import ClassificationTask

__all__ = ["ClassificationConfig", "ClassificationTask"]
__getattr__, __dir__, _ = lazy_loader.attach(
    __name__, submod_attrs={"config": ["ClassificationConfig"], "task": ["ClassificationTask"]}
)
