"""The notebook runs from its first cell to its last, and is stored without outputs."""

from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from datasets.files import CACHE_VARIABLE
from datasets.sample.detection import VERSION
from tasks.common.runtime.repository import ROOT, child_environment

NOTEBOOK = ROOT / "notebook.ipynb"
TIMEOUT_S = 240


@pytest.mark.filterwarnings("ignore")  # of Jupyter's own packages
def test_notebook_runs(tmp_path: Path, generated_roots: Callable[[str], Path]) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs for cell in code)  # they would grow the repository with each run
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / f"sample-detection-v{VERSION}").symlink_to(generated_roots("detection"))  # a few pictures in place of all
    client = NotebookClient(notebook, timeout=TIMEOUT_S, resources={"metadata": {"path": str(tmp_path)}})
    client.execute(env=child_environment() | {CACHE_VARIABLE: str(cache)})  # raises the error of a cell
    shown = [output.data for cell in code for output in cell.outputs if "data" in output]
    assert any("image/jpeg;base64" in data.get("text/html", "") for data in shown)
    assert sum("<table" in data.get("text/html", "") for data in shown) == 2
    printed = "".join(output.text for output in code[-1].outputs if output.get("name") == "stdout")  # in several parts
    assert len(printed.splitlines()) == 3
