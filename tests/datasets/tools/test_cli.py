"""`python -m datasets`: the list of verbs, help without a heavy import, near misses, exit statuses."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from datasets.images.read import write_image
from datasets.tools import cli
from datasets.tools.cli import VERBS, main

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("words", [[], *([verb] for verb in VERBS)], ids=str)
def test_help_waits_for_no_heavy_import(words: list[str]) -> None:
    code = (
        "import sys, atexit;"
        "atexit.register(lambda: print('heavy:', sorted({'torch', 'cv2', 'numpy', 'rich'} & set(sys.modules))));"
        "import runpy; runpy.run_module('datasets', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words, "--help"], capture_output=True, check=False, text=True, cwd=REPOSITORY
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith("heavy: []")
    for example in [example for word in words for example in VERBS[word].examples]:
        assert f"\n  python -m datasets {example}\n" in done.stdout
    assert words or all(f"\n  {verb} " in done.stdout for verb in VERBS)


def test_verbs_are_modules_of_their_name() -> None:
    for verb in VERBS:
        module = importlib.import_module(f"datasets.tools.{verb}")
        assert callable(getattr(module, verb))
        assert callable(module.add_flags)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["chek"], "got chek; did you mean check?"),
        ([], "expected a verb, got nothing"),
        (["convert", ".", "--too", "coco"], "did you mean --to?"),
        (["check", "--jsom"], "did you mean --json?"),
    ],
)
def test_errors_in_the_arguments(words: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main(words)
    assert done.value.code == 2
    assert expected in capsys.readouterr().err


def test_no_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "nowhere"]) == 1
    assert capsys.readouterr().err == "error: FOLDER: there is no folder nowhere\n"
    (tmp_path / "labels.json").touch()
    assert main(["check", str(tmp_path / "labels.json")]) == 1
    assert "labels.json is a file; expected the folder of a data set\n" in capsys.readouterr().err


def test_an_interrupt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(_: str) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_data_folder", interrupt)
    assert main(["check", str(tmp_path)]) == 130
    assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", [["--help"], ["stats", "data"], ["stats", "data", "--json"]], ids=" ".join)
def test_a_reader_that_is_gone_ends_the_output_quietly(words: list[str], unbuffered: str, tmp_path: Path) -> None:
    """As `| head` does, once it has its lines."""
    for name in ("a", "b"):
        (tmp_path / "data" / name).mkdir(parents=True)
        write_image(tmp_path / "data" / name / "1.png", np.zeros((8, 8, 3), np.uint8))
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "datasets", *words],
            stdout=writer,
            stderr=subprocess.PIPE,
            check=False,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": unbuffered},
        )
    finally:
        os.close(writer)
    assert done.stderr == ""
    assert done.returncode == 1
