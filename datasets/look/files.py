"""Look at image files: whether they can be read, what is unusual about them, and which are copies of others."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from datasets.detection.annotated import AnnotatedImages
from datasets.images.headers import ImageHeader
from datasets.images.read import UnreadableImageError, image_headers
from datasets.look.copies import FileStatus, file_statuses, find_copies
from datasets.look.depth import look_at_depth
from datasets.look.finding import Finding, ratio, too_many
from datasets.progress import track
from datasets.shards.store import ShardedImages
from datasets.stores import ImageFiles, ImageStore, StoredExamples
from datasets.subsample import evenly_spread
from datasets.types import Attributes, Detections, Face, Label, Mask, Place, Split

MAX_FILES, MAX_HEADERS = 200_000, 20_000
MIN_SIDE_PX = 16
PLACE_DECIMALS = 3  # of a degree: copies within 100 m have one place
GREY, TRANSPARENT = {"1", "L", "LA", "La", "I", "I;16", "I;16B", "F"}, {"LA", "La", "RGBA", "RGBa", "PA"}
TRUTHS = {
    Label: "classes",
    Detections: "boxes",
    Place: "places",
    Attributes: "attributes",
    Face: "persons",
    Mask: "masks",
}


@dataclass(frozen=True)
class Files:
    """The image files that are looked at.

    Attributes:
        sources: by split.
        splits: of each file.
        rows: of each file, in its source.
        paths: of each file.
        statuses: of each file; all alike for members of tar files.
    """

    sources: Mapping[Split, StoredExamples[Any]]
    splits: list[Split]
    rows: list[int]
    paths: list[str]
    statuses: list[FileStatus | OSError]

    @classmethod
    def of(cls, sources: Mapping[Split, StoredExamples[Any]]) -> Files:
        """The files of all splits; evenly spread ones if there are too many."""
        starts = np.cumsum([0, *map(len, sources.values())])
        names, splits, rows, paths = list(sources), [], [], []
        for number in evenly_spread(int(starts[-1]), MAX_FILES).tolist():
            part = int(np.searchsorted(starts, number, "right")) - 1
            splits.append(names[part])
            rows.append(number - int(starts[part]))
            paths.append(sources[names[part]].id(rows[-1]))
        is_in_files = all(isinstance(source.images, ImageFiles) for source in sources.values())
        of_members: list[FileStatus | OSError] = [FileStatus(0, (0, 0))] * len(paths)
        statuses = file_statuses(paths) if is_in_files else of_members
        return cls(sources, splits, rows, paths, statuses)

    def truth(self, index: int) -> Any:
        """The truth of the image in a file."""
        return self.sources[self.splits[index]].truth(self.rows[index])

    def has_range(self, index: int) -> bool:
        """Whether a setting says which values of more than 8 bits are black and white."""
        return self.sources[self.splits[index]].decoding.pixel_range is not None

    def place(self, index: int) -> tuple[ImageStore, int]:
        """The store of an image, and its row there."""
        return self.sources[self.splits[index]].images, self.rows[index]

    def header(self, index: int) -> ImageHeader:
        """The header of an image.

        Raises:
            UnreadableImageError: if it cannot be read.
        """
        store, row = self.place(index)
        return store.header(row)

    @property
    def num_images(self) -> int:
        """Of all splits, also those whose files are not looked at."""
        return sum(map(len, self.sources.values()))


def look_at_files(sources: Mapping[Split, StoredExamples[Any]], *, max_unreadable_fraction: float) -> Iterator[Finding]:
    """What is to be said about the image files of a data set.

    Args:
        sources: by split; images in tar files elsewhere, which would have to be copied, are not looked at.
        max_unreadable_fraction: of a split's images, above which a training would stop.
    """
    if any(isinstance(s.images, ShardedImages) and s.images.is_elsewhere for s in sources.values()):
        yield Finding("note", "the images are in tar files elsewhere, which are not opened here")
        return
    files = Files.of(sources)
    exists = np.flatnonzero([isinstance(status, FileStatus) for status in files.statuses])
    opened = exists[evenly_spread(len(exists), MAX_HEADERS)].tolist()
    headers: dict[int, ImageHeader] = {}
    problems = {
        index: f"{files.paths[index]}: {status.strerror or status}"
        for index, status in enumerate(files.statuses)
        if isinstance(status, OSError)
    }
    num_missing = len(problems)
    found = image_headers(opened, files.header)
    for index, header in zip(opened, track(found, "reading headers of images", len(opened)), strict=True):
        if not isinstance(header, ImageHeader):
            problems[index] = str(header)
        elif mismatch := _mismatch(files, index, header):
            problems[index] = mismatch
        else:
            headers[index] = header
    yield from _unreadable(files, problems, opened, max_unreadable_fraction)
    yield from _unusual(files, headers)
    deep = [files.place(index) for index, header in headers.items() if header.bits > 8 and not files.has_range(index)]
    if deep:
        fraction = len(deep) / len(headers)
        yield from look_at_depth(deep, fraction=fraction, max_unreadable_fraction=max_unreadable_fraction)
    if all(isinstance(source.images, ImageFiles) for source in sources.values()):
        yield from _copies(files)
    else:
        yield Finding("note", "images in tar files are not compared with each other")
    if len(opened) < files.num_images - num_missing:
        yield Finding("note", f"{ratio(len(opened), files.num_images, 'images')} were opened, evenly spread")


def _mismatch(files: Files, index: int, header: ImageHeader) -> str | None:
    """Why an image does not fit its annotations, as `read_image` decides it; None if it does."""
    source = files.sources[files.splits[index]]
    if not isinstance(source, AnnotatedImages):
        return None
    height, width = source.sizes_hw[files.rows[index]].tolist()
    sizes = [(header.width, header.height)]
    if header.orientation > 4:  # annotations may be for the pixels as they are stored
        sizes.append((header.height, header.width))
    if (width, height) in sizes:
        return None
    return (
        f"{files.paths[index]}: {header.width} x {header.height} pixels, but its annotations are for {width} x {height}"
    )


def _unreadable(
    files: Files, problems: Mapping[int, str], opened: Sequence[int], max_fraction: float
) -> Iterator[Finding]:
    """The images of each split that cannot be read; too many are an error, as they are in training."""
    problems_of = defaultdict(list)
    for index, problem in sorted(problems.items()):
        problems_of[files.splits[index]].append(problem)
    num_seen = Counter(files.splits[index] for index in opened)
    num_seen.update(files.splits[index] for index, status in enumerate(files.statuses) if isinstance(status, OSError))
    for split, found in problems_of.items():
        count = ratio(len(found), num_seen[split], f"images of {split}")
        line = f"{count} cannot be read; the first: {found[0]}"
        yield too_many(line, len(found), num_seen[split], max_fraction)


def _unusual(files: Files, headers: Mapping[int, ImageHeader]) -> Iterator[Finding]:
    tests: dict[str, Callable[[ImageHeader], bool]] = {
        "have more than 8 bits a channel: they are scaled to 8": lambda header: header.bits > 8,
        "are greyscale: they get three equal channels": lambda header: header.mode in GREY,
        "have transparency, which is ignored": lambda header: header.mode in TRANSPARENT,
        "are CMYK, for print: they are converted to RGB": lambda header: header.mode == "CMYK",
        f"have a side of less than {MIN_SIDE_PX} px": lambda header: min(header.width, header.height) < MIN_SIDE_PX,
    }
    for text, is_unusual in tests.items():
        found = [index for index, header in headers.items() if is_unusual(header)]
        if found:
            yield Finding(
                "note", f"{ratio(len(found), len(headers), 'images')} {text} (the first is {files.paths[found[0]]})"
            )


def _copies(files: Files) -> Iterator[Finding]:
    copies = find_copies(files.paths, files.statuses)
    yield from _shared_between_splits(files, copies.groups)
    yield from _contradicting(files, copies.groups)
    if copies.num_unchecked:
        yield Finding(
            "note", f"{copies.num_unchecked:,} files have the size of another but were not compared: they are too many"
        )


def _shared_between_splits(files: Files, groups: Sequence[Sequence[int]]) -> Iterator[Finding]:
    for one, other in combinations(files.sources, 2):
        if _are_same(files.sources[one].images, files.sources[other].images):
            continue  # a list that the reader takes for both, as it says
        pairs = []
        for group in groups:
            of_one = [index for index in group if files.splits[index] == one]
            pairs += [(of_one[0], index) for index in group if of_one and files.splits[index] == other]
        if pairs:
            first, second = pairs[0]
            count = ratio(len(pairs), len(files.sources[other]), f"images of {other}")
            yield Finding(
                "warning",
                f"{count} are also in {one}, byte for byte, which makes scores too high (the first: "
                f"{files.paths[second]} is {files.paths[first]})",
            )


def _contradicting(files: Files, groups: Sequence[Sequence[int]]) -> Iterator[Finding]:
    """Copies with different truth are warned about, those with the same are counted."""
    contradicting: list[Sequence[int]] = []
    same: list[Sequence[int]] = []
    for group in groups:
        keys = {index: key for index in group if (key := _truth_key(files, index)) is not None}
        if len(keys) > 1:
            (same if len(set(keys.values())) == 1 else contradicting).append(list(keys))
    if contradicting:
        largest = max(contradicting, key=len)
        what = TRUTHS[type(files.truth(largest[0]))]
        count = ratio(sum(map(len, contradicting)), len(files.paths), "images")
        paths = [files.paths[index] for index in largest]
        yield Finding("warning", f"{count} are copies of others, byte for byte, with other {what}: {_such_as(paths)}")
    within = [group for group in same if len({files.splits[index] for index in group}) < len(group)]
    if within:
        num_copies = sum(len(group) - len({files.splits[index] for index in group}) for group in within)
        one, other = next(pair for pair in combinations(within[0], 2) if files.splits[pair[0]] == files.splits[pair[1]])
        yield Finding(
            "note",
            f"{ratio(num_copies, len(files.paths), 'images')} are copies of others in their split, byte for byte (the "
            f"first: {files.paths[other]} is {files.paths[one]})",
        )


def _are_same(one: ImageStore, other: ImageStore) -> bool:
    assert isinstance(one, ImageFiles)
    assert isinstance(other, ImageFiles)
    return one.root == other.root and np.array_equal(one.names, other.names)


def _such_as(paths: Sequence[str]) -> str:
    rest = f" and {len(paths) - 2} more" if len(paths) > 2 else ""
    return f"such as {paths[0]} and {Path(paths[1]).name}{rest}"


def _truth_key(files: Files, index: int) -> Hashable:
    """Equal for two images with the same truth; None for a mask that cannot be read."""
    try:
        truth = files.truth(index)
    except UnreadableImageError:
        return None
    if isinstance(truth, Label):
        return truth.class_id
    if isinstance(truth, Face):
        return truth.identity
    if isinstance(truth, Place):
        return round(truth.lat_deg, PLACE_DECIMALS), round(truth.lng_deg, PLACE_DECIMALS)
    if isinstance(truth, Attributes):
        return truth.values.tobytes()
    if isinstance(truth, Mask):
        return truth.class_ids.tobytes()
    assert isinstance(truth, Detections)
    objects = np.column_stack([truth.class_ids, truth.boxes_xyxy.round()])
    return tuple(sorted(map(tuple, objects.tolist())))
