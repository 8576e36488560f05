"""What the tasks on faces share: crops of a fixed region, or of detected faces."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from backbone.published import download_once
from datasets.alignment import FaceCrop, face_input, prepare_faces
from datasets.face_detection import MIN_SCORE, FaceDetector
from datasets.sources import Preprocess
from datasets.types import Image, PreparedImage
from tasks.common.inference_task import InferenceTask
from tasks.common.published import FACE_DETECTORS

T = TypeVar("T")
DETECTOR = "face_detection.onnx"  # in the folder of an export


class FaceInference(InferenceTask[T]):
    """A task whose settings have `data: FaceDataConfig` and `faces`."""

    def __init__(self, config: Any, metadata: Mapping[str, Any]) -> None:
        """Args: config: the settings; metadata: of the model."""
        super().__init__(config, metadata)
        data = config.data
        self.face_crop = FaceCrop(data.face_part, open_detector(data.align), data.face_crop, data.face_scale)

    def predictor_settings(self) -> dict[str, Any]:
        """The crop of faces, see `InferenceTask`."""
        data, own = self.config.data, super().predictor_settings()
        own |= {"resize": "center_crop", "crop_fraction": 1, "part": list(data.face_part)}
        if data.align is None:
            return own
        crop = {"face_crop": data.face_crop, "face_scale": data.face_scale, "faces": self.config.faces}
        return own | crop | {"face_detector": DETECTOR, "min_face_score": MIN_SCORE}

    def write_extra_files(self, folder: Path) -> None:
        """The face detector's file, if there is one."""
        if self.face_crop.detector is not None:
            shutil.copyfile(self.face_crop.detector.path, folder / DETECTOR)

    def preprocessing(self) -> Preprocess:
        """Crop of the largest face, and resize."""
        return partial(face_input, face_crop=self.face_crop, input_size=self.config.data.input_size)

    def prepare(self, image: Image) -> list[PreparedImage]:
        """The same for each face that the setting `faces` asks for, with the face."""
        return prepare_faces(
            image, face_crop=self.face_crop, input_size=self.config.data.input_size, which=self.config.faces
        )


def open_detector(align: str | None) -> FaceDetector | None:
    """The face detector that the setting `data.align` names; None for none.

    Raises:
        ValueError: if it is no such file, cannot be downloaded, or is another network.
    """
    if align is None:
        return None
    row = next((row for row in FACE_DETECTORS if row.name == align), None)
    if row is not None:
        path = download_once(row.url, row.file, row.sha256, advice="pass its path as --data.align")
    else:
        path = Path(align)
    try:
        return FaceDetector(path)
    except ValueError as error:
        names = " or ".join(row.name for row in FACE_DETECTORS)
        raise ValueError(f"data.align: {error}, or the name {names}, which downloads it") from error
