"""Where on Earth a photo was taken: PlaNet's cells, or the most similar photos."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from tasks.geolocation.config import GeolocationConfig
    from tasks.geolocation.task import GeolocationTask

__all__ = ["GeolocationConfig", "GeolocationTask"]
__getattr__, __dir__, _ = lazy_loader.attach(
    __name__, submod_attrs={"config": ["GeolocationConfig"], "task": ["GeolocationTask"]}
)
