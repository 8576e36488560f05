"""The formats that `export --format` writes beside the ONNX file, and the packages that they need."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from datasets.types import Image
from datasets.words import reason_of
from tasks.common.deploy.formats.coreml import convert_to_coreml
from tasks.common.deploy.formats.executorch import convert_to_executorch
from tasks.common.deploy.formats.litert import convert_to_litert, int8_for_litert
from tasks.common.deploy.formats.openvino import convert_to_openvino, int8_for_openvino
from tasks.common.deploy.formats.source import ConversionSource, Open, Run, WriteInt8, silence
from tasks.common.deploy.quantization import NUM_FIRST_LAYERS

T = TypeVar("T")


@dataclass(frozen=True)
class Format:
    """A format of another runtime.

    Attributes:
        title: the runtime's name.
        convert: writes the files to an empty folder, and returns what opens them; None where they cannot be run here.
        reads_onnx: it is made from the ONNX file, with the postprocessing inside; others have the raw outputs.
        int8: (network, images for calibration) -> what writes the files from quantised ONNX files; None where they are
            in float32 alone.
        num_first_layers: so many layers stay in float32 in its quantised ONNX files.
    """

    title: str
    convert: Callable[[ConversionSource, Path], Open | None]
    reads_onnx: bool = False
    int8: Callable[[ConversionSource, Sequence[Image]], WriteInt8] | None = None
    num_first_layers: int = NUM_FIRST_LAYERS


FORMATS = {  # by the name of the extra in pyproject.toml
    # OpenVINO takes a third longer with the first layers in float32; ONNX Runtime is faster so, and LiteRT as fast.
    "openvino": Format("OpenVINO", convert_to_openvino, reads_onnx=True, int8=int8_for_openvino, num_first_layers=0),
    "litert": Format("LiteRT", convert_to_litert, int8=int8_for_litert),
    "executorch": Format("ExecuTorch", convert_to_executorch),
    "coreml": Format("Core ML", convert_to_coreml),
}


def convert_file(form: Format, source: ConversionSource, folder: Path) -> Open | None:
    """Convert a network, without what the converter prints; see `Format.convert`.

    Raises:
        ValueError: if it cannot be converted; the returned function, if it does not run.
    """
    open_file = _quietly(form, source, lambda: form.convert(source, folder))
    return None if open_file is None else _opening_quietly(form, source, open_file)


def int8_writer(form: Format, source: ConversionSource, images: Sequence[Image]) -> WriteInt8:
    """The same in 8 bits, for any number of quantised ONNX files; see `Format.int8`.

    Raises:
        ValueError: if the network cannot be converted; the returned function likewise.
    """
    assert form.int8 is not None
    to_int8 = form.int8
    write = _quietly(form, source, lambda: to_int8(source, images))

    def write_quietly(onnx: Path, folder: Path) -> Open:
        return _opening_quietly(form, source, _quietly(form, source, lambda: write(onnx, folder)))

    return write_quietly


def _opening_quietly(form: Format, source: ConversionSource, open_file: Open) -> Open:
    def open_quietly(num_threads: int | None) -> Run:
        def start() -> Run:
            run = open_file(num_threads)
            run(source.example().numpy())  # the first call prints, too
            return run

        return _quietly(form, source, start)

    return open_quietly


def _quietly(form: Format, source: ConversionSource, call: Callable[[], T]) -> T:
    try:
        with silence():
            return call()
    except Exception as error:  # converters raise many types
        name = type(source.network).__name__
        raise ValueError(f"{name} cannot be converted to {form.title}: {reason_of(error)}") from error
