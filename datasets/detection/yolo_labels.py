"""The lines of YOLO's label files: boxes, polygons, rotated boxes and poses, all read as boxes.

Format: https://docs.ultralytics.com/datasets/detect (and segment, obb, pose).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

MAX_FRACTION = 2.0  # coordinates that reach further outside the image are not fractions of it
_EXPECTED = "expected class x_centre y_centre width height, as fractions of the image"


@dataclass
class Labels:
    """The objects of a label file.

    Attributes:
        class_ids: as in the file.
        boxes_xyxy: of each object, as fractions of the image.
        lines: number of each object's line, from 1.
        num_duplicates: lines that occurred before, which are left out as ultralytics does.
        num_shapes: objects given by a polygon, a rotated box or a pose.
    """

    class_ids: list[int] = field(default_factory=list)
    boxes_xyxy: list[tuple[float, float, float, float]] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    num_duplicates: int = 0
    num_shapes: int = 0


def read_labels(file: Path, num_keypoint_values: int = 0, names: Mapping[int, str] | None = None) -> Labels:
    """Read a label file; an empty one is that of an image without objects.

    Each line has a class and a box (5 numbers), or a class and the corners of a polygon, which may also be a rotated
    box (7, 9, 11, ... numbers); in data with poses a class, a box and keypoints. Both kinds may be in one file.

    Args:
        file: the file.
        num_keypoint_values: numbers of each pose after its box; 0 for data without poses.
        names: the classes; None to take any.

    Raises:
        ValueError: naming the file and line: not numbers, another count of them, a class id that is not among the
            classes, coordinates that are no fractions.
    """
    try:
        text = file.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise ValueError(f"{file}: {error.strerror}; expected a label file") from error
    labels = Labels()
    seen: set[tuple[float, ...]] = set()
    for number, line in enumerate(text.split("\n"), 1):
        fields = line.split()
        if not fields:
            continue
        where = f"{file}, line {number}"
        try:
            values = tuple(map(float, fields))
        except ValueError as error:
            raise ValueError(f"{where}: {line.strip()[:60]!r} is not numbers; {_EXPECTED}") from error
        class_id = _class_id(where, values[0], names)
        box_xyxy = _box(where, values[1:], num_keypoint_values)
        if values in seen:
            labels.num_duplicates += 1
            continue
        seen.add(values)
        labels.class_ids.append(class_id)
        labels.boxes_xyxy.append(box_xyxy)
        labels.lines.append(number)
        labels.num_shapes += len(values) != 5
    return labels


def has_label_line(file: Path) -> bool | None:
    """Whether the first line of a text file could be one of YOLO's; None if it is empty or cannot be read."""
    try:
        with file.open(encoding="utf-8-sig", errors="replace") as stream:
            fields = next((line.split() for line in stream if line.strip()), None)
    except OSError:
        return None
    if fields is None:
        return None
    try:
        return len([float(value) for value in fields]) >= 5
    except ValueError:
        return False


def _class_id(where: str, value: float, names: Mapping[int, str] | None) -> int:
    if not (value >= 0 and value.is_integer() and value < 1 << 31):
        raise ValueError(f"{where}: the class is {value}; expected a whole number from 0")
    class_id = int(value)
    if names is not None and class_id not in names:
        raise ValueError(
            f"{where}: class {class_id} has no name, those from {min(names)} to {max(names)} have; add its name to "
            "data.yaml or classes.txt, or correct the line"
        )
    return class_id


def _box(where: str, values: tuple[float, ...], num_keypoint_values: int) -> tuple[float, float, float, float]:
    """The box of what is behind the class."""
    count = len(values)
    is_pose = num_keypoint_values > 0 and count == 4 + num_keypoint_values
    is_polygon = num_keypoint_values == 0 and count >= 6 and count % 2 == 0
    if count == 5:
        raise ValueError(f"{where}: 6 numbers; {_EXPECTED}; a sixth is the score of a prediction, not ground truth")
    if count != 4 and not is_pose and not is_polygon:
        others = f"{4 + num_keypoint_values} with keypoints" if num_keypoint_values else "3 or more corners x y"
        raise ValueError(f"{where}: {count + 1} numbers; {_EXPECTED}, or a class and {others}")
    if is_pose:
        values = values[:4]
    if not all(-MAX_FRACTION < value < MAX_FRACTION for value in values):  # also for NaN
        if not all(map(math.isfinite, values)):
            raise ValueError(f"{where}: {list(values)[:8]} is not finite; {_EXPECTED}")
        raise ValueError(f"{where}: {list(values)[:8]} looks like pixels; {_EXPECTED}")
    if is_polygon:
        xs, ys = values[::2], values[1::2]
        return min(xs), min(ys), max(xs), max(ys)
    x, y, width, height = values
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2
