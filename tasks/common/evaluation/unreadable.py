"""Images that are left out: each is named once, and too many broken ones stop the run."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from datasets.types import Unreadable

if TYPE_CHECKING:
    from tasks.common.runtime.distributed import World


@dataclass
class LeftOut:
    """A count of images, each of which is read once; only the last reason is kept.

    Attributes:
        num_images: how many.
        last_reason: why the last one is left out.
    """

    num_images: int = 0
    last_reason: str = ""

    def add(self, reason: str) -> bool:
        """Count an image; returns whether it is a new one."""
        self.num_images += 1
        self.last_reason = reason
        return True

    def merge(self, others: Sequence[Self]) -> None:
        """Add other images."""
        for other in others:
            self.num_images += other.num_images
            self.last_reason = other.last_reason or self.last_reason


@dataclass
class LeftOutInTraining(LeftOut):
    """A count of images that come again, in other epochs or in place of others: each counts once, by its reason.

    Attributes:
        digests: of the reasons, 8 bytes each.
    """

    digests: set[bytes] = field(default_factory=set)

    def add(self, reason: str) -> bool:
        """Count an image, unless it is known; returns whether it is a new one."""
        digest = hashlib.blake2b(reason.encode("utf-8", "surrogateescape"), digest_size=8).digest()
        if digest in self.digests:
            return False
        self.digests.add(digest)
        return super().add(reason)

    def merge(self, others: Sequence[Self]) -> None:
        """Add other images, which may be known."""
        super().merge(others)
        self.digests.update(*(other.digests for other in others))
        self.num_images = len(self.digests)


class UnreadableImages:
    """A record of the images of a data set that are left out.

    Attributes:
        broken: the images that are missing or damaged.
        empty: the images with nothing in them, such as no face. They are not limited, unless none is left.
    """

    def __init__(self, num_images: int, max_fraction: float, kind: type[LeftOut] = LeftOut) -> None:
        """A new record.

        Args:
            num_images: of the data set.
            max_fraction: allowed fraction of unreadable images, in [0, 1].
            kind: `LeftOutInTraining` where images come again.
        """
        self.num_images = num_images
        self.max_fraction = max_fraction
        self.broken, self.empty = kind(), kind()

    def add(self, images: Iterable[Unreadable]) -> None:
        """Add a batch's; each is named."""
        for image in images:
            record = self.empty if image.is_empty else self.broken
            if record.add(image.reason):
                # `warnings.warn` would keep the text of each.
                warnings.warn_explicit(f"{image.reason}; the image is left out", UserWarning, __file__, 0)

    def merge_processes(self, world: World) -> None:
        """Add the records of all other processes.

        Raises:
            ValueError: on every process, if they are too many in total.
        """
        records = world.all_gather((self.broken, self.empty))
        others = [record for rank, record in enumerate(records) if rank != world.rank]
        self.broken.merge([broken for broken, _ in others])
        self.empty.merge([empty for _, empty in others])
        if self.problem is not None:
            raise ValueError(self.problem)

    @property
    def problem(self) -> str | None:
        """The error message if more images are unreadable than allowed, or none is left; else None."""
        num_broken, num_empty = self.broken.num_images, self.empty.num_images
        message = too_many_unreadable(num_broken, self.num_images, self.max_fraction)
        if message is not None:
            return f"{message}; the last one: {self.broken.last_reason}"
        if num_broken + num_empty < max(1, self.num_images):
            return None
        message = f"none of the {self.num_images} images is left: {num_empty} are empty"
        unreadable = f" and {num_broken} unreadable" if num_broken else ""
        return f"{message}{unreadable}; the last one: {self.empty.last_reason or self.broken.last_reason}"


def too_many_unreadable(num_unreadable: int, num_images: int, max_fraction: float) -> str | None:
    """The error message if more images are unreadable than allowed, else None."""
    if num_unreadable <= max_fraction * num_images:
        return None
    return (
        f"{num_unreadable} of {num_images} images are unreadable, more than the fraction {max_fraction:g} that "
        "loop.max_unreadable_fraction allows"
    )
