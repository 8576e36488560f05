"""What a model says of one image: typed, drawn, and in the forms that other packages take."""

from __future__ import annotations

import base64
import html
import importlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import cv2
import numpy as np
import PIL.Image
from numpy.typing import NDArray

from datasets.files import atomic_write
from datasets.images.read import write_image
from datasets.types import DetectedFace, Detections, Image
from tasks.common.inference_task import InferenceTask
from tasks.common.prediction.sources import InputImage

if TYPE_CHECKING:
    import pandas
    import supervision

T = TypeVar("T")
SAVED_AS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
MAX_NOTEBOOK_SIDE_PX = 800  # of the picture in a notebook, whose file keeps it
JPEG_QUALITY = 85  # of that picture


@dataclass(frozen=True, eq=False)
class Result(Generic[T]):
    """The predictions for one image, in the image's own pixels.

    Attributes:
        source: the image, with its name.
        predictions: one for the whole image, or one for each face where faces are detected; of the task's type in
            `datasets.types`, such as `Detections` with `boxes_xyxy`, `class_ids` and `scores`.
        faces: the detected faces, in the order of `predictions`; empty where none are detected.
        task: that was solved.
    """

    source: InputImage
    predictions: tuple[T, ...]
    faces: tuple[DetectedFace, ...]
    task: InferenceTask[T] = field(repr=False)

    def __str__(self) -> str:
        return self.task.summarize(self.predictions)

    def draw(self) -> Image:
        """A copy of the image with the predictions drawn; small images are enlarged."""
        return self.task.draw_all(self.source.image, self.predictions, self.faces)

    def show(self) -> None:
        """Show the drawn image: in a notebook below the cell, elsewhere in the system's viewer."""
        notebook = _notebook()
        if notebook is not None:
            notebook.display(self)
        else:
            PIL.Image.fromarray(self.draw()).show(str(self))

    def save(self, path: str | Path) -> None:
        """Write the drawn image; a file of that name is replaced.

        Raises:
            ValueError: if the suffix is not that of an image format.
        """
        path = Path(path)
        if path.suffix.lower() not in SAVED_AS:
            raise ValueError(f"{path}: expected the name of an image file, with one of {', '.join(SAVED_AS)}")
        with atomic_write(path) as temporary:
            write_image(temporary, self.draw())

    def crops(self) -> list[Image]:
        """The part of the image in each box, without boxes that are outside of it.

        Raises:
            ValueError: if there are no boxes, neither of objects nor of faces.
        """
        return [crop for _, crop in self.labelled_crops()]

    def labelled_crops(self) -> list[tuple[str, Image]]:
        """The same, each with the name of its class, or "face"."""
        height, width = self.source.image.shape[:2]
        corners = np.concatenate([np.floor(self._boxes()[:, :2]), np.ceil(self._boxes()[:, 2:])], 1)
        corners = np.clip(corners, 0, [width, height, width, height]).astype(int)
        if self._is_of_faces:
            labels = ["face"] * len(corners)
        else:
            class_names = self.task.metadata["class_names"]
            labels = [class_names[class_id] for class_id in self._objects("crops").class_ids]
        return [
            (label, self.source.image[y0:y1, x0:x1].copy())
            for label, (x0, y0, x1, y1) in zip(labels, corners.tolist(), strict=True)
            if x0 < x1 and y0 < y1
        ]

    def to_dict(self) -> dict[str, Any]:
        """The record that `predict` writes to predictions.jsonl: plain numbers and texts."""
        height, width = self.source.image.shape[:2]
        record = {"image": self.source.name, "frame": self.source.frame, "width": width, "height": height}
        return record | self.task.describe_all(self.predictions, self.faces, (height, width))

    def to_pandas(self) -> pandas.DataFrame:
        """A table of the predictions with the same columns and types for every image, whatever is found in it.

        Raises:
            ValueError: if pandas is not installed.
        """
        table = self.task.table(self.predictions)
        if self._is_of_faces:
            table = {f"face_{name}": values for name, values in _corners(self._boxes()).items()} | dict(table)
        num_rows = max(map(len, table.values()), default=0)
        header = {
            "image": np.array([self.source.name] * num_rows, str),
            "frame": _optional("pandas").array([self.source.frame] * num_rows, dtype="Int64"),
        }
        frame: pandas.DataFrame = _optional("pandas").DataFrame(header | dict(table))
        return frame

    def to_coco(self, image_id: int) -> list[dict[str, Any]]:
        """The objects as entries of COCO's results format, with official category ids; for pycocotools' `loadRes`.

        Raises:
            ValueError: if the task does not detect objects.
        """
        objects = self._objects("to_coco")
        assert objects.scores is not None
        category_ids = self.task.metadata["category_ids"]
        return [
            {
                "image_id": image_id,
                "category_id": category_ids[class_id],
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "score": score,
            }
            for (x0, y0, x1, y1), class_id, score in zip(
                objects.boxes_xyxy.tolist(), objects.class_ids.tolist(), objects.scores.tolist(), strict=True
            )
        ]

    def to_supervision(self) -> supervision.Detections:
        """The objects as `supervision.Detections`, with `class_name` in their data.

        Raises:
            ValueError: if the task does not detect objects, or supervision is not installed.
        """
        objects = self._objects("to_supervision")
        names = np.array([self.task.metadata["class_names"][class_id] for class_id in objects.class_ids], dtype=str)
        detections: supervision.Detections = _optional("supervision").Detections(
            xyxy=objects.boxes_xyxy, confidence=objects.scores, class_id=objects.class_ids, data={"class_name": names}
        )
        return detections

    def _repr_html_(self) -> str:
        """The drawn image and the line, for notebooks."""
        picture, caption = _as_jpeg(self.draw()), html.escape(str(self))
        data = base64.b64encode(picture).decode("ascii")
        return f'<figure><img src="data:image/jpeg;base64,{data}"><figcaption>{caption}</figcaption></figure>'

    @property
    def _is_of_faces(self) -> bool:
        """Whether there is one prediction for each face, of which there may be none."""
        return len(self.faces) == len(self.predictions)

    def _objects(self, method: str) -> Detections:
        objects = self.predictions[0] if self.predictions else None
        if not isinstance(objects, Detections):
            raise ValueError(f"{method}: tasks.{self.task.name} does not detect objects")
        return objects

    def _boxes(self) -> NDArray[np.float64]:
        """(M, 4) of the objects or faces, in pixels of the image."""
        if self._is_of_faces:
            return np.array([face.box_xyxy for face in self.faces], np.float64).reshape(-1, 4)
        return self._objects("crops").boxes_xyxy.astype(np.float64)


def _corners(boxes_xyxy: NDArray[np.float64]) -> Mapping[str, NDArray[np.float64]]:
    return dict(zip(("x0", "y0", "x1", "y1"), boxes_xyxy.T, strict=True))


def _as_jpeg(picture: Image) -> bytes:
    """The picture as a JPEG file, downscaled to a size for notebooks."""
    scale = min(1, MAX_NOTEBOOK_SIDE_PX / max(picture.shape[:2]))
    size = [max(1, round(scale * side)) for side in picture.shape[1::-1]]
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA) if scale < 1 else picture
    _, data = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return data.tobytes()


def _notebook() -> Any:
    """IPython's display module if this is a notebook, else None."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return importlib.import_module("IPython.display") if hasattr(shell, "kernel") else None


def _optional(package: str) -> Any:
    """A package that is not among the suite's dependencies.

    Raises:
        ValueError: if it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise ValueError(f"{package} is not installed; `pip install {package}` installs it") from error
