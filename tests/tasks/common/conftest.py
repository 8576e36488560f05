import functools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from tasks.common.deploy import onnx_file
from tasks.common.evaluation.network_hash import hash_network
from tasks.common.verbs import export
from tests.tasks.common.runs import run_detection, words_of


@pytest.fixture(scope="session")
def unbroken(generated_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an uninterrupted run; tests do not change it."""
    run = tmp_path_factory.mktemp("runs") / "unbroken"
    done = run_detection(*words_of(generated_root, "--run_dir", str(run))[3:])
    assert done.returncode == 0, done.stderr
    return run


@pytest.fixture(scope="session")
def write_onnx_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., None]:
    """`write_onnx`, which takes seconds, with a copy of the file of the same network from the second time on."""
    folder = tmp_path_factory.mktemp("onnx")

    @functools.wraps(onnx_file.write_onnx)
    def write(network: nn.Module, input_size: int, path: Path, task: str, metadata: Any) -> None:
        written = folder / hash_network(network, [type(network).__name__, input_size, task, metadata]).hexdigest()
        if not written.exists():
            onnx_file.write_onnx(network, input_size, written, task, metadata)
        shutil.copyfile(written, path)

    return write


@pytest.fixture(autouse=True)
def _quick_exports(write_onnx_once: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "write_onnx", write_onnx_once)
