"""`check` prints what a look finds, draws pictures, and tells by its exit status whether a training would start."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image as Pillow

from datasets.tools.cli import main
from tests.datasets.look.builders import write_images


def test_the_samples_pictures_are_written_where_it_says(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    generated_roots: Callable[[str], Path],
) -> None:
    root = generated_roots("detection")
    monkeypatch.chdir(tmp_path)
    for folder in (root.name, f"{root.name}-2"):  # nothing is overwritten
        assert main(["check", str(root)]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert not any(line.startswith(("error", "warning")) for line in lines)
        assert lines[-1] == f"look at runs/check/{folder}/examples.png and runs/check/{folder}/histograms.png"
        for name in ("examples", "histograms"):
            with Pillow.open(f"runs/check/{folder}/{name}.png") as picture:
                assert picture.width > 1000


@pytest.mark.parametrize("kind", ["classification", "segmentation", "attributes", "embedding", "geolocation"])
def test_json_has_counts_and_findings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], generated_roots: Callable[[str], Path], kind: str
) -> None:
    root = tmp_path / "data"
    shutil.copytree(generated_roots(kind), root)
    first = next(path for path in sorted(root.rglob("*.jpg")))
    first.write_bytes(first.read_bytes()[:100])
    status = main(["check", str(root), "--task", kind, "--json", "--out", str(tmp_path / "out")])
    record = json.loads(capsys.readouterr().out)
    assert record["task"] == kind
    (error,) = [finding["text"] for finding in record["findings"] if finding["severity"] == "error"]
    assert str(first) in error
    assert status == 1
    assert sum(row["images"] for row in record["splits"]) > 0
    assert all(Path(path).is_file() for path in record["pictures"])


def test_folders_of_users_are_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_images(tmp_path / "data", ["a/0.png", "b/0.png"])
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    assert main(["check", str(tmp_path / "data"), "--out", str(tmp_path / "out")]) == 1
    assert "nothing is overwritten" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]
