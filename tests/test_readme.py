"""The root README keeps its word: its commands and its Python run, its recipes parse, its links lead somewhere."""

import importlib
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from datasets.files import CACHE_VARIABLE
from datasets.images.read import write_image
from tasks.common.cli.parser import parse_arguments
from tasks.common.runtime.repository import ROOT, child_environment
from tasks.registry import config_class

README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [
    *ROOT.glob("*.md"),
    *(page for place in ("tasks/*", "distill", "results") for page in ROOT.glob(f"{place}/*.md")),
]
NOT_HERE = ("git clone", "make ")  # what set up the environment that this runs in
TRAINING = ("train", "distill")
QUICK = ["--optim.epochs", "1", "--loop.num_workers", "0"]
ONE_BY_ONE = ["--num_threads", "1", "--batch_sizes", "1"]


def commands() -> Iterator[list[str]]:
    """The words of the README's commands that need neither a download nor minutes for a teacher of their own."""
    for line in re.findall(r"^    (\S.*)$", README, re.MULTILINE):
        _, _, comment = line.partition("#")
        if not (line.startswith(NOT_HERE) or comment.strip().startswith("downloads") or "--teacher facenet" in line):
            yield shlex.split(line, comments=True)


def run(words: list[str]) -> None:
    """A command as printed, but training and `benchmark` are cut short; `python -m` runs in this process, faster."""
    if TRAINING[0] in words or TRAINING[1] in words:
        words = [*words, *QUICK]
    if "benchmark" in words:
        words = [*words, *ONE_BY_ONE]
    if words[0] == "torchrun":
        subprocess.run([sys.executable, "-m", "torch.distributed.run", *words[1:]], env=child_environment(), check=True)
        return
    assert words[:2] == ["python", "-m"], words
    arguments, sys.argv = sys.argv, words[2:]
    try:
        with pytest.raises(SystemExit) as done:
            runpy.run_module(words[2], run_name="__main__")
    finally:
        sys.argv = arguments
    assert not done.value.code, f"{' '.join(words)} ends with exit status {done.value.code}"


def test_commands_and_python_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, generated_roots: Callable[[str], Path]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    for task in ("classification", "detection"):  # a few generated pictures in place of all
        sample = importlib.import_module(f"datasets.sample.{task}")
        shutil.copytree(generated_roots(task), tmp_path / "cache" / f"sample-{task}-v{sample.VERSION}")
    write_image(tmp_path / "photo.jpg", np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8))
    for words in commands():
        run(words)
    snippets = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    assert len(snippets) == README.count("```python")
    for snippet in snippets:
        exec(snippet, {})


@pytest.mark.parametrize("command", re.findall(r"\| `python -m (tasks\.\S+ train [^`]+)` \|", README))
def test_recipes_for_own_images_parse(command: str, tmp_path: Path) -> None:
    package, *words = shlex.split(command.replace("FOLDER", str(tmp_path)).replace("configs/", f"{ROOT}/configs/"))
    task = package.removeprefix("tasks.")
    assert parse_arguments(task, config_class(task), Path("unused.yaml"), words).config.data.root == str(tmp_path)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere_in_the_repository(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if not target.startswith(("http:", "https:", "#")):
            linked = (page.parent / target.partition("#")[0]).resolve()
            assert linked.exists(), target
            assert linked.is_relative_to(ROOT), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_pages_for_users_name_nothing_outside_the_repository(page: Path) -> None:
    assert page.name == "CONTRIBUTING.md" or "../shared" not in page.read_text(encoding="utf-8")
