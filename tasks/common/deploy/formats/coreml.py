"""Core ML, from PyTorch. Its files run on Apple's systems alone, so here only their structure is checked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from tasks.common.deploy.formats.source import FILE, ConversionSource


def convert_to_coreml(source: ConversionSource, folder: Path) -> None:
    """Write `model.mlpackage`: an RGB image of S x S -> the raw outputs by name, in float16 as is usual there.

    Raises:
        ValueError: if its input, its outputs or the number of its convolutions are not the network's.
    """
    import coremltools

    side, network = source.input_size, source.portable()
    example = source.example().float()  # it has no uint8
    program = torch.export.export(network, (example,)).run_decompositions({})
    model = coremltools.convert(
        program,
        inputs=[coremltools.ImageType(name="image", shape=tuple(example.shape))],
        outputs=[coremltools.TensorType(name=name) for name in source.names],
        minimum_deployment_target=coremltools.target.iOS16,
    )
    path = folder / f"{FILE}.mlpackage"
    model.save(str(path))
    spec = coremltools.utils.load_spec(str(path))
    (image,) = spec.description.input
    _expect("input", (side, side), (image.type.imageType.height, image.type.imageType.width))
    _expect("outputs", list(source.names), [output.name for output in spec.description.output])
    calls = Counter(str(node.target) for node in program.graph.nodes)
    operations = Counter(_operations(spec.mlProgram))
    _expect("convolutions", calls["aten.convolution.default"] + calls["aten.conv2d.default"], operations["conv"])


def _operations(program: Any) -> Iterator[str]:
    for function in program.functions.values():
        for block in function.block_specializations.values():
            yield from (operation.type for operation in block.operations)


def _expect(what: str, expected: Any, found: Any) -> None:
    if found != expected:
        raise ValueError(f"its {what} should be {expected}, and are {found}")
