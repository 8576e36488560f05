"""The kinds of teachers and their names on the command line. Imports nothing heavy, so that the CLI starts fast."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from tasks.common.published import PUBLISHED_MODELS


class TeacherKind(NamedTuple):
    """One kind of teacher; `distill/teachers.py` opens it.

    Attributes:
        task: the only task that it can teach; None if it depends on the teacher.
        spelling: on the command line.
        help: description for --help.
    """

    task: str | None
    spelling: str
    help: str


TEACHERS = {
    "facenet": TeacherKind(
        "embedding",
        "facenet[:vggface2|:casia-webface|:FILE]",
        "FaceNet (Inception-ResNet-v1) with facenet-pytorch's weights; without data, trained on the sample",
    ),
    "attributes": TeacherKind("attributes", "attributes", "ResNet-50, trained on the labelled data first and cached"),
    "torchvision": TeacherKind("classification", "torchvision:NAME[=FILE]", "an ImageNet classifier of torchvision"),
    "timm": TeacherKind("classification", "timm:NAME[=FILE]", "an ImageNet classifier of timm"),
    "run": TeacherKind(None, "RUN", "run folder of any task of this suite"),
    "published": TeacherKind(None, "NAME|FILE", "a published model, which `python -m tasks.<task> models` lists"),
    "onnx": TeacherKind(None, "FILE.onnx", "any network, with --task"),
}


def parse_teacher(text: str) -> tuple[str, str]:
    """The kind of a teacher, and the rest of its name: weights, model or path.

    Raises:
        ValueError: if it is none of `TEACHERS`.
    """
    kind, _, spec = text.partition(":")
    if kind in TEACHERS and kind not in ("run", "published", "onnx"):
        if kind in ("torchvision", "timm") and not spec:
            raise ValueError(f"--teacher: {text}: expected {TEACHERS[kind].spelling}, for example {kind}:resnet50")
        if kind == "attributes" and spec:
            raise ValueError(f"--teacher: {text}: expected attributes, or a run folder of tasks.attributes")
        return kind, spec
    if text.endswith(".onnx"):
        return "onnx", text
    if Path(text).is_dir():
        return "run", text
    if Path(text).is_file() or any(row.name == text for row in PUBLISHED_MODELS):
        return "published", text
    known = ", ".join(teacher.spelling for teacher in TEACHERS.values())
    raise ValueError(f"--teacher: {text}: no such folder or file, and not one of {known}")
