"""Small data sets in memory, with image files or without."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image as Pillow

from datasets.detection.annotated import AnnotatedImages, Categories, Objects
from datasets.look.finding import Finding
from datasets.stores import ImageFiles

WIDTH, HEIGHT = 100, 80


def files(root: Path, names: Sequence[str]) -> ImageFiles:
    return ImageFiles(root, np.array([name.encode() for name in names], np.bytes_))


def write_images(root: Path, names: Sequence[str], *, mode: str = "RGB", seed: int = 0) -> None:
    """Noise, so that no two are equal, of WIDTH x HEIGHT pixels."""
    rng = np.random.default_rng(seed)
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
        Pillow.fromarray(pixels).convert(mode).save(root / name)


def annotated(
    boxes: Sequence[Sequence[float]],
    *,
    root: Path = Path("data"),
    rows: Sequence[int] | None = None,
    class_ids: Sequence[int] | None = None,
    num_images: int | None = None,
    classes: Sequence[str] = ("a", "b"),
    crowd: bool = False,
    areas: Sequence[float] | None = None,
) -> AnnotatedImages:
    """Boxes x0, y0, x1, y1, one an image unless `rows` says otherwise, of both classes in turn."""
    count = len(boxes)
    rows = range(count) if rows is None else rows
    num_images = num_images or (max(rows) + 1)
    class_ids = [index % len(classes) for index in range(count)] if class_ids is None else class_ids
    objects = Objects(
        np.array(rows, np.int64),
        np.array(class_ids, np.int64),
        np.array(boxes, float).reshape(-1, 4),
        np.full(count, crowd),
        np.full(count, np.nan) if areas is None else np.array(areas, float),
    )
    names = [f"{row}.png" for row in range(num_images)]
    categories = Categories(tuple(range(1, len(classes) + 1)), tuple(classes))
    sizes_hw = np.tile(np.array([HEIGHT, WIDTH]), (num_images, 1))
    return AnnotatedImages(files(root, names), sizes_hw, categories, objects)


def random_boxes(count: int, rng: np.random.Generator) -> list[list[float]]:
    """Boxes of 5 to 40 px, anywhere in their images."""
    boxes = []
    for _ in range(count):
        width, height = rng.uniform(5, 40, 2)
        x, y = rng.uniform(0, WIDTH - width), rng.uniform(0, HEIGHT - height)
        boxes.append([x, y, x + width, y + height])
    return boxes


def texts(findings: Sequence[Finding], severity: str) -> list[str]:
    return [text for found, text in findings if found == severity]
