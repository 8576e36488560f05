"""Data sets in COCO's JSON format: the official one, or your own classes and folders.

Format: https://cocodataset.org/#format-data (object detection).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from datasets.files import missing_files, path_inside
from datasets.images import read_image
from datasets.types import Detections, Example


@dataclass(frozen=True)
class Categories:
    """The categories of a COCO file: contiguous class id <-> official category id and name.

    Attributes:
        ids: official ids, ascending; class id k is `ids[k]`. COCO's run from 1 to 90 with gaps.
        names: of each category.
    """

    ids: tuple[int, ...]
    names: tuple[str, ...]


class CocoDetection(Dataset[Example[Detections]]):
    """Images and boxes of one split, in the order of the JSON's `images`.

    Annotations are kept as flat arrays (not as a million Python objects), so that loader processes share them.

    Attributes:
        categories: of the annotations, by class id.
        warnings: one line for each kind of repair to the annotations, with its count.
    """

    def __init__(self, images: Path, annotations: Path) -> None:
        """Read and check the annotations; no image is opened.

        Args:
            images: folder that the file names in the JSON are relative to.
            annotations: the JSON file.

        Raises:
            ValueError: naming the file and the fault: it is missing or not JSON, a key is missing, an annotation has
                an unknown image or category, a file name points outside `images`, image files are missing.
        """
        content = _read_json(annotations)
        self._file = annotations
        self.warnings: list[str] = []
        self.categories = self._read_categories(content["categories"])
        index_of_image = self._read_images(content["images"], images)
        self._read_annotations(content["annotations"], index_of_image)

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> Example[Detections]:
        """The image as stored and its boxes in the image's own pixels.

        Raises:
            UnreadableImageError: if the file cannot be read, or its size is not that in the JSON.
        """
        path, image_hw = self._paths[index], self._sizes_hw[index]
        image = read_image(path, expected_hw=(int(image_hw[0]), int(image_hw[1])))
        return Example(image, self.truth(index), str(path))

    def id(self, index: int) -> str:
        """The path of an image's file."""
        return str(self._paths[index])

    def truth(self, index: int) -> Detections:
        """The annotations of one image, without opening it."""
        rows = self._order[self._starts[index] : self._starts[index + 1]]
        height, width = self._sizes_hw[index]
        return Detections(
            self._boxes_xyxy[rows],
            self._class_ids[rows],
            (int(height), int(width)),
            is_crowd=self._is_crowd[rows],
            areas_px=self._areas_px[rows],
        )

    def _error(self, message: str) -> ValueError:
        return ValueError(f"{self._file}: {message}")

    def _read_categories(self, categories: list[dict[str, Any]]) -> Categories:
        try:
            by_id = {int(category["id"]): str(category["name"]) for category in categories}
        except (KeyError, TypeError, ValueError) as error:
            raise self._error("'categories': expected objects with an integer 'id' and a 'name'") from error
        if not by_id or len(by_id) < len(categories):
            raise self._error(f"'categories': expected distinct ids, got {len(categories)} with {len(by_id)} ids")
        ids = tuple(sorted(by_id))
        return Categories(ids, tuple(by_id[category_id] for category_id in ids))

    def _read_images(self, images: list[dict[str, Any]], folder: Path) -> dict[int, int]:
        """Store paths and sizes; returns the position of each official image id."""
        try:
            index_of_image = {int(image["id"]): index for index, image in enumerate(images)}
            names = [str(image["file_name"]) for image in images]
            self._sizes_hw = np.array([(image["height"], image["width"]) for image in images], np.int64).reshape(-1, 2)
        except (KeyError, TypeError, ValueError) as error:
            raise self._error("'images': expected objects with 'id', 'file_name', 'height' and 'width'") from error
        if not images:
            raise self._error("'images' is empty: expected at least one image")
        if len(index_of_image) < len(images):
            raise self._error(f"'images': {len(images) - len(index_of_image)} ids occur more than once")
        if (self._sizes_hw <= 0).any():
            raise self._error(f"'images': {names[int((self._sizes_hw <= 0).any(1).argmax())]!r} has no positive size")
        try:
            self._paths = [path_inside(folder, name) for name in names]
        except ValueError as error:
            raise self._error(str(error)) from error
        missing = missing_files(self._paths)
        if missing:
            raise self._error(
                f"{len(missing)} of {len(names)} image files are missing, the first is {missing[0]}; "
                "give the folder that the file names are relative to"
            )
        return index_of_image

    def _read_annotations(self, annotations: list[dict[str, Any]], index_of_image: Mapping[int, int]) -> None:
        def to_positions(key: str, index_of: Mapping[int, int], group: str) -> NDArray[np.int64]:
            """The official ids of all annotations as positions in a group of the JSON."""
            values = np.empty(len(annotations), np.int64)
            for row, annotation in enumerate(annotations):
                try:
                    values[row] = index_of[annotation[key]]
                except (KeyError, TypeError) as error:
                    label = annotation.get("id", row) if isinstance(annotation, dict) else row
                    value = annotation.get(key) if isinstance(annotation, dict) else annotation
                    raise self._error(f"annotation {label}: {key} {value!r} is not in {group!r}") from error
            return values

        image_index = to_positions("image_id", index_of_image, "images")
        class_of_category = {category_id: class_id for class_id, category_id in enumerate(self.categories.ids)}
        class_ids = to_positions("category_id", class_of_category, "categories")
        boxes_xywh = self._boxes_xywh(annotations)
        boxes_xyxy = np.concatenate([boxes_xywh[:, :2], boxes_xywh[:, :2] + boxes_xywh[:, 2:]], 1)

        max_xyxy = np.tile(self._sizes_hw[image_index][:, ::-1], 2)  # width, height, width, height
        clipped = np.clip(boxes_xyxy, 0, max_xyxy)
        is_outside = (np.abs(clipped - boxes_xyxy) > 1).any(1)  # up to a pixel is rounding
        is_empty = (clipped[:, 2:] <= clipped[:, :2]).any(1)
        self._warn(is_outside & ~is_empty, "boxes reach outside their image: clipped", annotations)
        self._warn(is_empty, "boxes are empty or wholly outside their image: dropped", annotations)

        keep = ~is_empty
        image_index = image_index[keep]
        self._boxes_xyxy = clipped[keep].astype(np.float32)
        self._class_ids = class_ids[keep]
        self._is_crowd = np.array([bool(a.get("iscrowd", 0)) for a in annotations], np.bool_)[keep]
        box_areas = (boxes_xywh[:, 2] * boxes_xywh[:, 3]).tolist()
        areas = [a.get("area", box_area) for a, box_area in zip(annotations, box_areas, strict=True)]
        try:
            self._areas_px = np.array(areas, np.float32)[keep]
        except (TypeError, ValueError) as error:
            raise self._error("'annotations': 'area' must be a number of square pixels") from error
        self._order = np.argsort(image_index, kind="stable")
        self._starts = np.searchsorted(image_index[self._order], np.arange(len(self) + 1))

    def _boxes_xywh(self, annotations: list[dict[str, Any]]) -> NDArray[np.float64]:
        boxes = np.zeros((len(annotations), 4))
        for row, annotation in enumerate(annotations):
            try:
                x, y, width, height = annotation["bbox"]  # NumPy would broadcast a single number to all four
                boxes[row] = x, y, width, height
            except (KeyError, TypeError, ValueError) as error:
                raise self._error(
                    f"annotation {annotation.get('id', row)}: 'bbox' must be [x, y, width, height] in pixels, "
                    f"got {annotation.get('bbox')!r}"
                ) from error
        if not np.isfinite(boxes).all():
            row = int((~np.isfinite(boxes)).any(1).argmax())
            raise self._error(
                f"annotation {annotations[row].get('id', row)}: 'bbox' {boxes[row].tolist()} is not finite"
            )
        return boxes

    def _warn(self, is_affected: NDArray[np.bool_], repair: str, annotations: list[dict[str, Any]]) -> None:
        if is_affected.any():
            row = int(is_affected.argmax())
            first = annotations[row].get("id", row)
            self.warnings.append(f"{self._file}: {int(is_affected.sum())} {repair} (the first is annotation {first})")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}; expected a COCO annotation file") from error
    except ValueError as error:
        raise ValueError(f"{path}: not valid JSON: {error}") from error
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise ValueError(f"{path}: not in COCO's format: expected an object with a list {key!r}")
    return content  # type: ignore[no-any-return]
