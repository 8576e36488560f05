from pathlib import Path

import pytest

from tests.tasks.common.runs import run_detection, words_of


@pytest.fixture(scope="session")
def unbroken(generated_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an uninterrupted run; tests do not change it."""
    run = tmp_path_factory.mktemp("runs") / "unbroken"
    done = run_detection(*words_of(generated_root, "--run_dir", str(run))[3:])
    assert done.returncode == 0, done.stderr
    return run
