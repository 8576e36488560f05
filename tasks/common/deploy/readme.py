"""The README.md of an exported folder: for whoever gets the folder and nothing else."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from typing import Any

from backbone.published import PUBLISHED
from tasks.common.published import PUBLISHED_MODELS

_TEXT = """# {task}, as an ONNX file

    pip install onnxruntime opencv-python-headless pillow
    python predictor.py photo.jpg

```python
import predictor

model = predictor.load(".")       # this folder
print(model("photo.jpg"))         # a path, an RGB array or a PIL image; positions are in the photo's own pixels
```

`model.onnx` takes uint8 RGB pixels, (N, 3, {side}, {side}), normalises them itself, and has these outputs:
{outputs}. `predictor.py` reads the photo, resizes it and names what is found; its settings are the file's property
`predictor`. Nothing else is needed: no PyTorch, and nothing of the software that trained it.
{other_files}
| | {score_name} | MB | ms an image |
| --- | --- | --- | --- |
{rows}

On the validation images; times with one image at once on {machine}. The exported file is the last row.

Weights: {weights}
"""


def format_readme(
    task: str,
    *,
    side: int,
    outputs: Sequence[str],
    score_name: str,
    rows: Sequence[Mapping[str, Any]],
    pretrained: str,
    other_files: Sequence[str] = (),
) -> str:
    """The text.

    Args:
        task: its name.
        side: of the input in pixels.
        outputs: name and shape of each.
        score_name: of the task.
        rows: of `export.json`, one for each network.
        pretrained: what the weights are from, or started from.
        other_files: a line for each of the rest.
    """
    lines = []
    for row in rows:
        score = row["metrics"].get(score_name)
        number = "-" if score is None else f"{score:.4f}"
        lines.append(f"| {row['network']} | {number} | {row['bytes'] / 1e6:.1f} | {row['latency_ms']:.1f} |")
    return _TEXT.format(
        task=task.capitalize(),
        side=side,
        outputs=", ".join(outputs),
        score_name=score_name,
        rows="\n".join(lines),
        other_files="".join(f"\n- {line}" for line in other_files),
        machine=f"{platform.machine()}, {platform.system()}",
        weights=describe_licence(pretrained),
    )


def describe_licence(pretrained: str) -> str:
    """Where the weights are from, with their licence as far as it is known."""
    if pretrained == "none":
        return "trained from random ones; their licence is the trainer's to choose."
    # By name or by file: the folder of a run may be called after a model that has nothing to do with it.
    path = f"/{pretrained}"
    models = {row.licence for row in PUBLISHED_MODELS if row.name == pretrained or path.endswith(f"/{row.file}")}
    backbones = {row.licence for row in PUBLISHED if row.publisher == pretrained or path.endswith(f"/{row.name}")}
    licences = sorted(models | backbones)
    known = f"published under {' or '.join(licences)}" if licences else "whose licence is that of their publisher"
    return f"from, or trained from, {pretrained}, {known}."
