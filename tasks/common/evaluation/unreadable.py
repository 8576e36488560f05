"""Images that could not be read: each named once and counted, and the run stopped when they are too many."""

from __future__ import annotations

import warnings
from collections.abc import Iterable

from tasks.common.runtime.distributed import World


class UnreadableImages:
    """The unreadable images of one data set."""

    def __init__(self, num_images: int, max_fraction: float) -> None:
        """Args: num_images: of the data set; max_fraction: in [0, 1), stop beyond it."""
        self.num_images = num_images
        self.max_fraction = max_fraction
        self.reasons: dict[str, None] = {}  # in order

    def add(self, reasons: Iterable[str]) -> None:
        """Take in one line for each unreadable image of a batch; one that is known already counts once."""
        for reason in reasons:
            if reason not in self.reasons:
                self.reasons[reason] = None
                warnings.warn(f"{reason}; the image is passed over", stacklevel=2)

    def merge_processes(self, world: World) -> None:
        """Take in what the other processes have met, and named.

        Raises:
            ValueError: in all of them, if these are too many together.
        """
        for reasons in world.all_gather(list(self.reasons)):
            self.reasons |= dict.fromkeys(reasons)
        if self.problem is not None:
            raise ValueError(self.problem)

    @property
    def problem(self) -> str | None:
        """Why the run must stop, if there are more than the share that is allowed."""
        if len(self.reasons) <= self.max_fraction * self.num_images:
            return None
        return (
            f"{len(self.reasons)} of {self.num_images} images are unreadable, more than the share "
            f"{self.max_fraction:g} that loop.max_unreadable_fraction allows; the last: {next(reversed(self.reasons))}"
        )
