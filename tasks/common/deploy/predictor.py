"""Predictions by the model.onnx beside this file, without the software that trained it.

pip install onnxruntime opencv-python-headless pillow
python predictor.py photo.jpg

import predictor
model = predictor.load(".")
print(model("photo.jpg"))       # a path, an RGB array (height, width, 3) of uint8, or a PIL image
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL.Image
import PIL.ImageOps

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # before it is imported
import onnxruntime

ALIGNED_PX = 224
# Where the eyes, the nose and the corners of the mouth are in an aligned face, as fractions of its side (ArcFace's).
LANDMARKS = [(38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041)]
MAX_DETECTION_SIDE_PX = 640  # larger photos are reduced to find their faces
EARTH_RADIUS_KM = 6371.0088
MAX_POINTS = 200  # with the largest weights, of which the densest place is computed


def load(folder: str | Path = ".", num_threads: int = 0) -> "Predictor":
    """The model in a folder; `num_threads` 0 uses all cores, which are also the most."""
    return Predictor(Path(folder), num_threads)


class Predictor:
    """A model with its preprocessing; call it with a photo."""

    def __init__(self, folder: Path, num_threads: int) -> None:
        path, options = folder / "model.onnx", onnxruntime.SessionOptions()
        if not path.is_file():
            raise ValueError(f"{path}: no such file; expected the folder that `export` wrote")
        options.intra_op_num_threads = min(num_threads, os.cpu_count() or 1)
        self.session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"], enable_fallback=0
        )
        properties = self.session.get_modelmeta().custom_metadata_map
        if "predictor" not in properties:
            raise ValueError(f"{path}: its property 'predictor' is missing; expected the file as `export` wrote it")
        self.settings = json.loads(properties["predictor"])
        self.size = self.session.get_inputs()[0].shape[-1]
        self.face_detector: Any = None
        if "face_detector" in self.settings:
            cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)  # OpenCV 5 warns about its own calls
            detector, min_score = str(folder / self.settings["face_detector"]), self.settings["min_face_score"]
            self.face_detector = cv2.FaceDetectorYN.create(detector, "", (32, 32), min_score, 0.3, 5000)

    def __call__(self, photo: Any) -> dict[str, Any]:
        """What the model finds in a photo, in the photo's own pixels."""
        image = read_image(photo, self.settings["pixel_range"])
        if self.face_detector is None:
            return self._describe(self._run(self._crop_part(image)), image)
        found = []
        for face in self._find_faces(image):
            crop = crop_box(image, face[:4], self.settings["face_scale"])
            if self.settings["face_crop"] == "aligned":
                crop = align(image, face[4:14].reshape(5, 2))
            box = [float(face[0]), float(face[1]), float(face[0] + face[2]), float(face[1] + face[3])]
            found.append({"face_box_xyxy": box} | self._describe(self._run(crop), image))
        return {"faces": found}

    def _run(self, image: np.ndarray) -> list[np.ndarray]:
        """The outputs for one image of any size, without the batch axis."""
        planes = np.empty((3, self.size, self.size), np.uint8)
        cv2.split(self._resize(image), list(planes))
        return [output[0] for output in self.session.run(None, {"images": planes[None]})]

    def _resize(self, image: np.ndarray) -> np.ndarray:
        size, bilinear = self.size, PIL.Image.Resampling.BILINEAR
        if self.settings["resize"] == "stretch":
            if not self.settings["antialias"] or max(image.shape[:2]) <= size:
                return cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR)
            return np.asarray(PIL.Image.fromarray(image).resize((size, size), bilinear))
        side, (height, width) = round(size / self.settings["crop_fraction"]), image.shape[:2]
        scale = side / min(height, width)
        wide, high = max(side, round(width * scale)), max(side, round(height * scale))
        left, top = (wide - size) // 2, (high - size) // 2
        resized = PIL.Image.fromarray(image).resize((wide, high), bilinear)
        return np.asarray(resized.crop((left, top, left + size, top + size)))

    def _crop_part(self, image: np.ndarray) -> np.ndarray:
        """The part of the photo that the model was trained on; by default all of it."""
        height, width = image.shape[:2]
        x0, y0, x1, y1 = (round(f * n) for f, n in zip(self.settings["part"], (width, height) * 2, strict=True))
        x0, y0 = min(x0, width - 1), min(y0, height - 1)
        return image[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)]

    def _find_faces(self, image: np.ndarray) -> np.ndarray:
        """Rows of x, y, width, height, five landmarks and score, in pixels of the photo; the largest face first."""
        height, width = image.shape[:2]
        scale = min(1, MAX_DETECTION_SIDE_PX / max(height, width))
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA) if scale < 1 else image
        self.face_detector.setInputSize(size)
        rows = self.face_detector.detect(cv2.cvtColor(small, cv2.COLOR_RGB2BGR))[1]
        rows = np.zeros((0, 15), np.float32) if rows is None else rows
        rows = np.hstack([rows[:, :14].astype(np.float64) / scale, rows[:, 14:]])
        rows = rows[np.argsort(-rows[:, 2] * rows[:, 3], kind="stable")]
        if self.settings["faces"] == "all":
            return rows
        return rows[: int(self.settings["faces"] == "largest" or len(rows) == 1)]

    def _describe(self, outputs: list[np.ndarray], image: np.ndarray) -> dict[str, Any]:
        """The outputs in words and numbers, by the method of the task."""
        record: dict[str, Any] = getattr(self, f"_{self.settings['task']}")(outputs, image)
        return record

    def _detection(self, outputs: list[np.ndarray], image: np.ndarray) -> dict[str, Any]:
        boxes, scores, class_ids = outputs
        height, width = image.shape[:2]
        boxes = boxes * (np.array([width, height, width, height], np.float32) / self.size)
        kept = (scores > 0) & (scores >= self.settings["threshold"])
        return {
            "detections": [
                {"class_name": self.settings["names"][class_id], "score": float(score), "box_xyxy": box.tolist()}
                for box, score, class_id in zip(boxes[kept], scores[kept], class_ids[kept], strict=True)
            ]
        }

    def _classification(self, outputs: list[np.ndarray], _: np.ndarray) -> dict[str, Any]:
        (probabilities,), names = outputs, self.settings["names"]
        best = np.argsort(-probabilities, kind="stable")[:5]
        return {"classes": [{"class_name": names[i], "probability": float(probabilities[i])} for i in best]}

    def _attributes(self, outputs: list[np.ndarray], _: np.ndarray) -> dict[str, Any]:
        return {"attributes": dict(zip(self.settings["names"], outputs[0].tolist(), strict=True))}

    def _embedding(self, outputs: list[np.ndarray], _: np.ndarray) -> dict[str, Any]:
        return {"embedding": outputs[0].tolist()}

    def _geolocation(self, outputs: list[np.ndarray], _: np.ndarray) -> dict[str, Any]:
        sums, regions = np.bincount(self.settings["region_of_cell"], outputs[0]), self.settings["regions"]
        best = np.argsort(-sums, kind="stable")[:5]
        record: dict[str, Any] = {
            "regions": [regions[i] | {"probability": float(sums[i])} for i in best if sums[i] > 0]
        }
        if exact := self.settings.get("exact"):
            probabilities, *neighbours = outputs  # of retrieval: weights, latitudes, longitudes
            cells = [probabilities, np.array(exact["lat_deg"]), np.array(exact["lng_deg"])]
            weights, lats, lngs = neighbours or cells
            lat_deg, lng_deg = densest_point(weights, lats, lngs, exact["bandwidth_km"])
            cell = int(probabilities.argmax())
            record |= {"lat_deg": lat_deg, "lng_deg": lng_deg, "cell": exact["cell"][cell]}
            record["probability"] = float(probabilities[cell])
        return record

    def _segmentation(self, outputs: list[np.ndarray], image: np.ndarray) -> dict[str, Any]:
        highest, class_ids = np.full(image.shape[:2], -np.inf, np.float32), np.zeros(image.shape[:2], np.uint8)
        for class_id, logits in enumerate(outputs[1]):
            resized = cv2.resize(logits, image.shape[1::-1], interpolation=cv2.INTER_LINEAR)
            class_ids[resized > highest] = class_id
            highest = np.maximum(highest, resized)
        fractions, names = np.bincount(class_ids.ravel(), minlength=256) / class_ids.size, self.settings["names"]
        best = [i for i in np.argsort(-fractions, kind="stable") if fractions[i] > 0]
        classes = [{"class_name": names[i], "fraction": float(fractions[i])} for i in best]
        return {"classes": classes, "class_ids": class_ids}  # (height, width) of the photo


def densest_point(
    weights: np.ndarray, lat_deg: np.ndarray, lng_deg: np.ndarray, bandwidth_km: float | None
) -> tuple[float, float]:
    """The mode of a Gaussian kernel density over places, by mean shift; the heaviest place without a bandwidth."""
    rows = np.argsort(-weights, kind="stable")[:MAX_POINTS]
    if bandwidth_km is None:
        return float(lat_deg[rows[0]]), float(lng_deg[rows[0]])
    phi, lambda_, weights = np.radians(lat_deg[rows]), np.radians(lng_deg[rows]), weights[rows].astype(np.float64)
    points = np.stack([np.cos(phi) * np.cos(lambda_), np.cos(phi) * np.sin(lambda_), np.sin(phi)], -1)
    chord = 2 * np.sin(min(bandwidth_km / EARTH_RADIUS_KM, np.pi) / 2)

    def terms(x: np.ndarray) -> np.ndarray:
        densities: np.ndarray = weights * np.exp(-0.5 / chord**2 * np.square(x[..., None, :] - points).sum(-1))
        return densities

    mode = points[terms(points).sum(-1).argmax()]
    for _ in range(50):
        previous, mode = mode, terms(mode) @ points
        mode /= np.linalg.norm(mode)
        if np.abs(mode - previous).max() < 1e-7:
            break
    x, y, z = mode
    return float(np.degrees(np.arctan2(z, np.hypot(x, y)))), float(np.degrees(np.arctan2(y, x)))


def read_image(photo: Any, pixel_range: list[float] | None = None) -> np.ndarray:
    """A photo as an upright RGB array of uint8 (height, width, 3); `pixel_range`: black and white of 16 bits.

    Raises:
        ValueError: if it cannot be read.
    """
    if isinstance(photo, PIL.Image.Image):
        if photo.mode.startswith(("I", "F")):
            raise ValueError(f"a PIL image of mode {photo.mode}; expected 8 bits, or the path of its file")
        return np.asarray(PIL.ImageOps.exif_transpose(photo).convert("RGB"))
    if isinstance(photo, np.ndarray):
        if photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[2] != 3 or not photo.size:
            raise ValueError(f"expected an RGB array of uint8 (height, width, 3), got {photo.dtype} {photo.shape}")
        return photo
    if not Path(photo).is_file():
        raise ValueError(f"{photo}: no such file")
    data = Path(photo).read_bytes()
    if data[:2] == b"\xff\xd8" and is_truncated_jpeg(data):  # OpenCV would fill the missing rows with grey
        raise ValueError(f"{photo}: truncated image")
    stored = np.frombuffer(data, np.uint8)
    values = cv2.imdecode(stored, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH) if len(data) else None
    if values is None:
        raise ValueError(f"{photo}: not an image that OpenCV can read")
    if values.dtype == np.uint16:
        black, white = pixel_range or (0, 65535)
        scaled = (values.astype(np.float32) - np.float32(black)) * np.float32(255 / (white - black))
        values = np.rint(scaled.clip(0, 255)).astype(np.uint8)
    if values.dtype != np.uint8:
        raise ValueError(f"{photo}: its values are {values.dtype}; expected 8 or 16 bits")
    return np.ascontiguousarray(values[..., ::-1])  # from BGR


def is_truncated_jpeg(data: bytes) -> bool:
    """Whether the end is missing; segments before the pixels are skipped, since a thumbnail in one has its own end."""
    start = 2
    while start + 4 <= len(data) and data[start] == 0xFF and data[start + 1] != 0xDA:
        start += 2 + int.from_bytes(data[start + 2 : start + 4], "big")
    return b"\xff\xd9" not in data[start:]


def crop_box(image: np.ndarray, box_xywh: np.ndarray, scale: float) -> np.ndarray:
    """The box made square and enlarged around its centre; outside the photo its border is repeated."""
    x, y, width, height = map(float, box_xywh)
    side = max(1, round(scale * max(width, height)))
    left, top = round((2 * x + width - side) / 2), round((2 * y + height - side) / 2)
    rows = np.clip(np.arange(top, top + side), 0, image.shape[0] - 1)
    return image[rows[:, None], np.clip(np.arange(left, left + side), 0, image.shape[1] - 1)]


def align(image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """The photo turned, scaled and shifted so that the landmarks are nearest to where they belong."""
    x, y = landmarks.T
    zero, one = np.zeros(5), np.ones(5)
    equations = np.concatenate([np.stack([x, -y, one, zero], 1), np.stack([y, x, zero, one], 1)])
    target = (ALIGNED_PX / 112 * np.array(LANDMARKS)).T.ravel()
    a, b, shift_x, shift_y = np.linalg.lstsq(equations, target, rcond=None)[0]
    matrix = np.array([[a, -b, shift_x], [b, a, shift_y]])
    return cv2.warpAffine(image, matrix, (ALIGNED_PX, ALIGNED_PX), flags=cv2.INTER_LINEAR)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python predictor.py PHOTO...")
    model = load(Path(__file__).parent)
    for name in sys.argv[1:]:
        try:
            found = {key: value for key, value in model(name).items() if not isinstance(value, np.ndarray)}
            print(json.dumps({"image": name} | found))
        except ValueError as error:
            sys.exit(f"error: {error}")
