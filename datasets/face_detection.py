"""The faces of a photo, by OpenCV's detector YuNet."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from datasets.images.read import UnreadableImageError
from datasets.onnx_runtime import import_onnxruntime
from datasets.types import DetectedFace, Image

WhichFaces = Literal["all", "largest", "one"]
MIN_SCORE = 0.7
NMS_IOU, MAX_CANDIDATES = 0.3, 5000
MAX_SIDE_PX = 640  # larger photos are downscaled for detection
CHECK_PX = 64  # side of the picture that a new detector is tried on


class NoFaceError(UnreadableImageError):
    """A photo without a face, or with several where exactly one is expected."""


class FaceDetector:
    """YuNet; it may be used from several threads at once, and pickled for loader processes.

    OpenCV's object is neither, so each thread opens the file once more (6 ms).

    Attributes:
        path: of its file.

    Source: Wu et al. 2023 (YuNet: A Tiny Millisecond-level Face Detector).
    """

    def __init__(self, path: Path, *, min_score: float = MIN_SCORE) -> None:
        """Open the file.

        Args:
            path: YuNet's ONNX file.
            min_score: faces with a lower score are left out.

        Raises:
            ValueError: if the file is missing or damaged, or is another network.
        """
        if not path.is_file():
            raise ValueError(f"{path}: no such file; expected YuNet's ONNX file")
        self.path, self._min_score = path, min_score
        self._threads = threading.local()
        try:
            # OpenCV crashes on damaged files. Without the fallback, which prints lines and tries the same again.
            import_onnxruntime().InferenceSession(str(path), providers=["CPUExecutionProvider"], enable_fallback=0)
            self._detect(np.zeros((CHECK_PX, CHECK_PX, 3), np.uint8))
        except Exception as error:  # ONNX Runtime raises many types
            raise ValueError(f"{path}: not a face detector that OpenCV can read; expected YuNet's ONNX file") from error

    def __getstate__(self) -> dict[str, object]:
        return {"path": self.path, "_min_score": self._min_score}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state, _threads=threading.local())

    def detect_faces(self, image: Image) -> list[DetectedFace]:
        """All faces of a photo (H, W, 3), the one with the largest box first."""
        height, width = image.shape[:2]
        scale = min(1, MAX_SIDE_PX / max(height, width))
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        rows = self._detect(cv2.resize(image, size, interpolation=cv2.INTER_AREA) if scale < 1 else image)  # type: ignore[arg-type]
        faces = [_to_face(row, scale) for row in rows]
        return sorted(faces, key=_area, reverse=True)

    def find(self, image: Image, which: WhichFaces) -> list[DetectedFace]:
        """The faces that are wanted of a photo: all, the largest, or the only one.

        Raises:
            NoFaceError: if there is none, or if several are there where exactly one is expected.
        """
        faces = self.detect_faces(image)
        if not faces:
            raise NoFaceError("no face found")
        if which == "one" and len(faces) > 1:
            raise NoFaceError(f"{len(faces)} faces found, expected exactly one")
        return faces if which == "all" else faces[:1]

    def _detect(self, image: Image) -> NDArray[np.float32]:
        """(N, 15): x, y, width, height, five landmarks, score; in pixels."""
        network: cv2.FaceDetectorYN | None = getattr(self._threads, "network", None)
        if network is None:
            cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)  # OpenCV 5 warns about its own calls
            size = (CHECK_PX, CHECK_PX)
            network = cv2.FaceDetectorYN.create(str(self.path), "", size, self._min_score, NMS_IOU, MAX_CANDIDATES)
            self._threads.network = network
        network.setInputSize((image.shape[1], image.shape[0]))
        _, faces = network.detect(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        return np.zeros((0, 15), np.float32) if faces is None else np.asarray(faces, np.float32)


def _to_face(row: NDArray[np.float32], scale: float) -> DetectedFace:
    values = row[:14].astype(np.float64) / scale
    x, y, width, height = values[:4].tolist()
    return DetectedFace((x, y, x + width, y + height), values[4:].reshape(5, 2), min(1.0, float(row[14])))


def _area(face: DetectedFace) -> float:
    x0, y0, x1, y1 = face.box_xyxy
    return (x1 - x0) * (y1 - y0)
