"""What faces (or other images) have: CelebA's layout, any attributes."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from tasks.attributes.config import AttributesConfig
    from tasks.attributes.loss import AttributeTargets
    from tasks.attributes.task import AttributesTask

__all__ = ["AttributeTargets", "AttributesConfig", "AttributesTask"]
__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={"config": ["AttributesConfig"], "loss": ["AttributeTargets"], "task": ["AttributesTask"]},
)
