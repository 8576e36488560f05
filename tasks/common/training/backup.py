"""A run's copy in a bucket: kept while it trains, and brought back to a machine that does not have the run's folder."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

from datasets.files import whole_folder
from datasets.urls import BUCKETS, MissingUrlError, UrlError, check_no_password, is_bucket, open_bucket, url_faults
from tasks.common.runs.checkpoint import LAST, PREVIOUS, exists, load_last
from tasks.common.runs.folder import changed_settings, check_unchanged
from tasks.common.settings import CONFIG, load_yaml
from tasks.common.training.callback import Callback, Training

SETTING = "loop.backup"


class Backup(Callback):
    """Copies the files of a run that have changed to a folder in a bucket, but for those in folders.

    Once training has begun, a copy that fails is a warning, and the next checkpoint makes up for it.
    """

    def __init__(self, run: Path, url: str) -> None:
        """Nothing is copied before `on_start`."""
        self._run, self._url = run, url
        self._copied: dict[str, tuple[int, int]] = {}

    def on_start(self, training: Training) -> None:
        """Copy the settings.

        Raises:
            UrlError: if that fails.
        """
        self.copy()

    def on_step(self, step: int, values: Mapping[str, float]) -> None:
        """Copy a checkpoint within an epoch."""
        path = self._run / LAST
        if path.is_file() and _state(path) != self._copied.get(LAST):
            self.try_to_copy()

    def on_epoch(self, row: Mapping[str, Any]) -> None:
        """Copy checkpoints and log."""
        self.try_to_copy()

    def on_end(self, scores: Mapping[str, float]) -> None:
        """Copy scores, pictures and the model card."""
        self.try_to_copy()

    def on_exception(self, error: BaseException) -> None:
        """Copy the checkpoint of an interruption."""
        if self._copied:
            self.try_to_copy()

    def try_to_copy(self) -> None:
        """As `copy`, but a failure is a warning."""
        try:
            self.copy()
        except UrlError as error:
            warnings.warn(f"{error}; {self._run} has everything, and is copied later", stacklevel=2)

    def copy(self) -> None:
        """Copy what has changed since the last time.

        Raises:
            UrlError: if that fails.
        """
        for path in _files(self._run):
            state = _state(path)
            if state != self._copied.get(path.name):
                with _faults(self._url, self._run):
                    bucket, folder = open_bucket(self._url)
                    bucket.put_file(str(path), f"{folder}/{path.name}")  # buckets replace a file as a whole
                self._copied[path.name] = state


def find_backed_up_run(url: str, run_dir: str | None, settings_with: Callable[[Path], dict[str, Any]]) -> Path | None:
    """The folder of the run that the same command has begun, here or on another machine; None if there is none.

    Args:
        url: of its copy, which is brought back if the folder is not here.
        run_dir: as given by the user.
        settings_with: the settings of the command, with what a run that it resumes brings along.

    Raises:
        ValueError: if `run_dir` is None, the run has other settings, or the bucket cannot be read.
    """
    _check_address(url)
    if run_dir is None:
        raise ValueError(f"{SETTING}: needs --run_dir, by which the same command finds the run again")
    if (run := run_here(run_dir)) is not None:
        check_unchanged(settings_with(run), run / CONFIG)
        return run
    run = Path(run_dir)
    names = [] if run.exists() else _names(url)
    if CONFIG not in names:
        return None
    with whole_folder(run) as temporary:
        _copy_back(url, names, temporary)
        _check_same_run(url, temporary / CONFIG, settings_with(temporary))
    print(f"{run}: brought back from {url}", file=sys.stderr)
    return run


def run_here(run_dir: str | None) -> Path | None:
    """The folder that the user has given, if it has a run."""
    return Path(run_dir) if run_dir is not None and (Path(run_dir) / CONFIG).is_file() else None


def check_newest(url: str, run: Path) -> None:
    """Raise a ValueError if what is in a bucket is another run, or a later state of this one.

    Args:
        url: of the copy.
        run: the folder here.
    """
    _check_address(url)
    with TemporaryDirectory() as name:
        there = Path(name)
        _copy_back(url, [name for name in _names(url) if PurePosixPath(name).name in (CONFIG, LAST)], there)
        for path in there.rglob(CONFIG):
            if (here := run / path.relative_to(there)).is_file():
                _check_same_run(url, path, load_yaml(here))
        for path in there.rglob(LAST):
            num_steps, num_here = _num_steps(path.parent), _num_steps(run / path.parent.relative_to(there))
            if num_steps > num_here:
                raise ValueError(
                    f"{SETTING}: {url} has {num_steps} steps of the run, and {run} has {num_here}, so that it went on "
                    f"elsewhere; move {run} away, and the command that began the run brings the copy back"
                )


def _check_same_run(url: str, saved: Path, settings: dict[str, Any]) -> None:
    """Raise a ValueError if the settings in a file from a bucket are of another run."""
    for key, value, value_there in changed_settings(settings, saved):
        raise ValueError(
            f"{SETTING}: {url} has another run, with {key} {value_there} instead of {value}; choose another folder of "
            "the bucket"
        )


def _num_steps(run: Path) -> int:
    """The steps of a run's newest intact checkpoint; 0 without one."""
    return int(load_last(run)["step"]) if exists(run) else 0


def _files(run: Path) -> list[Path]:
    """The files to copy: `best.pt` before `last.pt`, so that what is resumed has the best weights of its past."""
    paths = (path for path in run.iterdir() if path.is_file() and not path.name.startswith("."))
    return sorted((path for path in paths if path.name != PREVIOUS), key=lambda path: (path.name == LAST, path.name))


def _state(path: Path) -> tuple[int, int]:
    """What tells one content of a file, which is replaced as a whole, from the next."""
    status = path.stat()
    return status.st_ino, status.st_mtime_ns


def _check_address(url: str) -> None:
    if not is_bucket(url):
        raise ValueError(
            f"{SETTING}: {url}: expected a folder in a bucket, one of {', '.join(sorted(BUCKETS))} and ://"
        )
    check_no_password(url, SETTING)


def _names(url: str) -> list[str]:
    """The files in a folder of a bucket, relative to it; none if there is no such folder."""
    with _faults(url, Path()):
        bucket, folder = open_bucket(url)
        bucket.invalidate_cache()  # of listings, in which files of other machines may lack
        paths = bucket.find(folder)
    return [str(PurePosixPath(path).relative_to(folder)) for path in paths]


def _copy_back(url: str, names: Sequence[str], target: Path) -> None:
    """Copy files of a bucket, by their names relative to a folder in it, into a folder here."""
    for name in names:
        if ".." in PurePosixPath(name).parts:
            raise ValueError(f"{url}: {name!r} is no file of a run")
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with _faults(url, target):
            bucket, folder = open_bucket(url)
            bucket.get_file(f"{folder}/{name}", str(path))


@contextmanager
def _faults(url: str, folder: Path) -> Iterator[None]:
    """As `url_faults`, naming the setting."""
    try:
        with url_faults(url, folder):
            yield
    except MissingUrlError as error:
        raise UrlError(f"{SETTING}: {url}: there is no such bucket") from error
    except UrlError as error:
        raise UrlError(f"{SETTING}: {error}") from error
