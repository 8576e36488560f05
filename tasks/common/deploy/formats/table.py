"""The formats that `export --format` writes beside the ONNX file, and the packages that they need."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from packaging.requirements import Requirement

from tasks.common.deploy.formats.coreml import convert_to_coreml
from tasks.common.deploy.formats.executorch import convert_to_executorch
from tasks.common.deploy.formats.litert import convert_to_litert
from tasks.common.deploy.formats.openvino import convert_to_openvino
from tasks.common.deploy.formats.source import ConversionSource, Run
from tasks.common.runtime.repository import ROOT


@dataclass(frozen=True)
class Format:
    """A format of another runtime.

    Attributes:
        title: the runtime's name.
        convert: writes the files to an empty folder, and returns what runs them; None where it cannot be run here.
        reads_onnx: it is made from the ONNX file, with the postprocessing inside; others have the raw outputs.
    """

    title: str
    convert: Callable[[ConversionSource, Path], Run | None]
    reads_onnx: bool = False


FORMATS = {  # by the name of the extra in pyproject.toml
    "openvino": Format("OpenVINO", convert_to_openvino, reads_onnx=True),
    "litert": Format("LiteRT", convert_to_litert),
    "executorch": Format("ExecuTorch", convert_to_executorch),
    "coreml": Format("Core ML", convert_to_coreml),
}


def check_packages(name: str) -> str:
    """The version of the first package of a format's extra, if all of them are installed as it needs them.

    Raises:
        ValueError: if one is missing, too old or too new.
    """
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    requirements = [Requirement(text) for text in extras[name]]
    for requirement in requirements:
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            found = "no such package"
        if found == "no such package" or not requirement.specifier.contains(found, prereleases=True):
            raise ValueError(
                f"--format {name}: needs {requirement}, found {found}; install it with: pip install '.[{name}]'"
            )
    return version(requirements[0].name)
