"""Images that are left out: each is named once, and too many broken ones stop the run."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING

from datasets.types import Unreadable

if TYPE_CHECKING:
    from tasks.common.runtime.distributed import World


class UnreadableImages:
    """A record of the images of a data set that are left out.

    Attributes:
        reasons: why each image that is missing or broken cannot be read, in order.
        empty: likewise for the images with nothing in them, such as no face. They are not limited, unless none is left.
    """

    def __init__(self, num_images: int, max_fraction: float) -> None:
        """Args: num_images: of the data set; max_fraction: allowed fraction of unreadable images, in [0, 1]."""
        self.num_images = num_images
        self.max_fraction = max_fraction
        self.reasons: dict[str, None] = {}
        self.empty: dict[str, None] = {}

    def add(self, images: Iterable[Unreadable]) -> None:
        """Add a batch's; each counts once."""
        for image in images:
            record = self.empty if image.is_empty else self.reasons
            if image.reason not in record:
                record[image.reason] = None
                warnings.warn(f"{image.reason}; the image is left out", stacklevel=2)

    def merge_processes(self, world: World) -> None:
        """Add the records of all other processes.

        Raises:
            ValueError: on every process, if they are too many in total.
        """
        for reasons, empty in world.all_gather((list(self.reasons), list(self.empty))):
            self.reasons |= dict.fromkeys(reasons)
            self.empty |= dict.fromkeys(empty)
        if self.problem is not None:
            raise ValueError(self.problem)

    @property
    def problem(self) -> str | None:
        """The error message if more images are unreadable than allowed, or none is left; else None."""
        message = too_many_unreadable(len(self.reasons), self.num_images, self.max_fraction)
        if message is not None:
            return f"{message}; the last one: {next(reversed(self.reasons))}"
        num_left_out = len(self.reasons) + len(self.empty)
        if num_left_out == 0 or num_left_out < self.num_images:
            return None
        last = next(reversed(self.empty or self.reasons))
        message = f"none of the {self.num_images} images is left: {len(self.empty)} are empty"
        unreadable = f" and {len(self.reasons)} unreadable" if self.reasons else ""
        return f"{message}{unreadable}; the last one: {last}"


def too_many_unreadable(num_unreadable: int, num_images: int, max_fraction: float) -> str | None:
    """The error message if more images are unreadable than allowed, else None."""
    if num_unreadable <= max_fraction * num_images:
        return None
    return (
        f"{num_unreadable} of {num_images} images are unreadable, more than the fraction {max_fraction:g} that "
        "loop.max_unreadable_fraction allows"
    )
