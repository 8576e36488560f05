"""Who can teach, and how a teacher is called. Imports nothing heavy: the command line reads it first."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class TeacherKind(NamedTuple):
    """One kind of teacher; `distill/teachers.py` has a function of its name.

    Attributes:
        task: whose outputs it has; None where it depends.
        spelling: how it is called.
        help: what it is.
    """

    task: str | None
    spelling: str
    help: str


TEACHERS = {
    "facenet": TeacherKind(
        "embedding",
        "facenet[:vggface2|:casia-webface|:FILE]",
        "FaceNet (Inception-ResNet-v1) with facenet-pytorch's weights, without data one trained on the sample",
    ),
    "attributes": TeacherKind("attributes", "attributes", "ResNet-50, trained on the labels at hand first and kept"),
    "torchvision": TeacherKind("classification", "torchvision:NAME[=FILE]", "an ImageNet classifier of torchvision"),
    "timm": TeacherKind("classification", "timm:NAME[=FILE]", "an ImageNet classifier of timm"),
    "run": TeacherKind(None, "RUN", "run folder of any task of this suite"),
    "onnx": TeacherKind(None, "FILE.onnx", "any network, with --task"),
}


def parse_teacher(text: str) -> tuple[str, str]:
    """The kind of a teacher, and which one of it.

    Raises:
        ValueError: if it is none of `TEACHERS`.
    """
    kind, _, which = text.partition(":")
    if kind in TEACHERS and kind not in ("run", "onnx"):
        if kind in ("torchvision", "timm") and not which:
            raise ValueError(f"--teacher: {text}: expected {TEACHERS[kind].spelling}, for example {kind}:resnet50")
        if kind == "attributes" and which:
            raise ValueError(f"--teacher: {text}: expected attributes alone, or a run folder of tasks.attributes")
        return kind, which
    if text.endswith(".onnx"):
        return "onnx", text
    if Path(text).is_dir():
        return "run", text
    known = ", ".join(teacher.spelling for teacher in TEACHERS.values())
    raise ValueError(f"--teacher: {text}: no such folder, and not one of {known}")
