"""Unreadable images: each is warned about once, and too many of them stop the run."""

from __future__ import annotations

import warnings
from collections.abc import Iterable

from tasks.common.runtime.distributed import World


class UnreadableImages:
    """A record of the unreadable images of a data set."""

    def __init__(self, num_images: int, max_fraction: float) -> None:
        """Args: num_images: of the data set; max_fraction: allowed fraction of unreadable images, in [0, 1]."""
        self.num_images = num_images
        self.max_fraction = max_fraction
        self.reasons: dict[str, None] = {}  # in order

    def add(self, reasons: Iterable[str]) -> None:
        """Add the error messages of a batch's unreadable images; each message counts once."""
        for reason in reasons:
            if reason not in self.reasons:
                self.reasons[reason] = None
                warnings.warn(f"{reason}; the image is skipped", stacklevel=2)

    def merge_processes(self, world: World) -> None:
        """Add the records of all other processes.

        Raises:
            ValueError: on every process, if they are too many in total.
        """
        for reasons in world.all_gather(list(self.reasons)):
            self.reasons |= dict.fromkeys(reasons)
        if self.problem is not None:
            raise ValueError(self.problem)

    @property
    def problem(self) -> str | None:
        """The error message if more images are unreadable than allowed, else None."""
        message = too_many_unreadable(len(self.reasons), self.num_images, self.max_fraction)
        return message and f"{message}; the last one: {next(reversed(self.reasons))}"


def too_many_unreadable(num_unreadable: int, num_images: int, max_fraction: float) -> str | None:
    """The error message if more images are unreadable than allowed, else None."""
    if num_unreadable <= max_fraction * num_images:
        return None
    return (
        f"{num_unreadable} of {num_images} images are unreadable, more than the fraction {max_fraction:g} that "
        "loop.max_unreadable_fraction allows"
    )
