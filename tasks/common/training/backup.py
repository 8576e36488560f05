"""A run's copy in a bucket: kept while it trains, and brought back to a machine that does not have the run's folder."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

from datasets.files import whole_folder
from datasets.urls import MissingUrlError, UrlError, check_no_password, is_bucket, open_bucket, url_faults
from tasks.common.runs.checkpoint import LAST, PREVIOUS, DamagedCheckpointError, load_checkpoint
from tasks.common.runs.folder import METRICS, changed_settings, check_unchanged
from tasks.common.settings import CONFIG, load_yaml
from tasks.common.training.callback import Callback, Training

SETTING = "loop.backup"
# The checkpoint to resume from after what belongs to it, and then what says that the run is complete.
_ORDER = {CONFIG: 0, LAST: 2, METRICS: 3}  # others: 1
_OF_DATA = ("metadata", "num_images", "steps_per_epoch")  # in a checkpoint


class Backup(Callback):
    """Copies the files of a run that have changed to a folder in a bucket, without the folders in it.

    While it trains, a copy that fails is a warning, and the next checkpoint makes up for it.
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
        self._copy(self._run / CONFIG)

    def on_checkpoint(self, step: int) -> None:
        """Copy it, and what else is new."""
        self._try_to_copy(f"the checkpoint of step {step} is in {self._run} alone, until a later one is copied")

    def on_end(self, scores: Mapping[str, float]) -> None:
        """Copy scores, pictures and the model card."""
        self._try_to_copy(f"the scores are in {self._run} alone")

    def finish(self) -> None:
        """Copy what is left of a complete run.

        Raises:
            UrlError: if that fails; it says how to make up for it.
        """
        try:
            self.copy()
        except UrlError as error:
            raise UrlError(f"{error}; {self._run} is complete, and the same command copies the rest") from error

    def copy(self) -> None:
        """Copy what has changed since the last time.

        Raises:
            UrlError: if that fails.
        """
        for path in _files(self._run):
            with suppress(FileNotFoundError):  # a temporary file of some logger, which is gone by now
                self._copy(path)

    def _try_to_copy(self, what_follows: str) -> None:
        try:
            self.copy()
        except UrlError as error:
            warnings.warn(f"{error}; {what_follows}", stacklevel=3)

    def _copy(self, path: Path) -> None:
        state = _state(path)
        if state != self._copied.get(path.name):
            _copy_there(path, self._url)
            self._copied[path.name] = state


def check_place(url: str, options: Mapping[str, Any]) -> None:
    """Raise a ValueError unless this is a folder in a bucket that is there, and a flag names the run's folder here."""
    in_bucket = url.partition("://")[2].strip("/").partition("/")[2]
    is_atomic = not url.lower().startswith("hdfs:")  # buckets replace a file as a whole
    if not (is_bucket(url) and in_bucket and is_atomic):
        raise ValueError(f"{SETTING}: {url}: expected a folder in a bucket, such as s3://BUCKET/RUN, not of HDFS")
    check_no_password(url, SETTING)
    if not (options["run_dir"] or options["resume"]):
        raise ValueError(f"{SETTING}: needs --run_dir, by which the same command finds the run again")
    _names(url)


def find_run(
    url: str,
    resumed: Path | None,
    run_dir: str | None,
    settings_with: Callable[[Path], dict[str, Any]],
    inner_runs: Sequence[str] = (),
) -> Path | None:
    """The folder of the run that the same command has begun, here or on another machine; None if there is none.

    Args:
        url: of its copy, which is brought back if the folder is not here.
        resumed: the folder, if it is known that it is resumed.
        run_dir: the folder otherwise.
        settings_with: the settings of the command, with what a run that it resumes brings along.
        inner_runs: names of runs within it.

    Raises:
        ValueError: if what is here or in the bucket is another run, if the bucket has a later checkpoint than what is
            here, or if it cannot be read.
    """
    if resumed is None:
        assert run_dir is not None, "check_place has been called"
        run = Path(run_dir)
        if not run.exists():
            return run if _bring_back(url, run, settings_with, inner_runs) else None
        if not (run / CONFIG).is_file():
            return None
        check_unchanged(settings_with(run), run / CONFIG)
        resumed = run
    for inner in ("", *inner_runs):
        _check_newest(url, resumed, inner)
    return resumed


def _bring_back(
    url: str, run: Path, settings_with: Callable[[Path], dict[str, Any]], inner_runs: Sequence[str]
) -> bool:
    """Copy a run from a bucket to its folder; returns whether there is one."""
    names = _names(url, inner_runs)
    if not names:
        return False
    checkpoints = {name for name in names if PurePosixPath(name).name == LAST}
    with whole_folder(run) as temporary, _of_this_run(url, temporary):
        # These first: should another machine write later ones meanwhile, the rest, such as `best.pt`, is not too old.
        for name in sorted(checkpoints):
            _copy_back(url, name, temporary)
        for name in _names(url, inner_runs):
            if name not in checkpoints:
                _copy_back(url, name, temporary)
        _check_same_run(url, temporary / CONFIG, settings_with(temporary))
    print(f"{run}: brought back from {url}", file=sys.stderr)
    return True


def _check_newest(url: str, run: Path, inner: str) -> None:
    """Raise a ValueError if what is in a bucket is another run, or has a later checkpoint of this one.

    Args:
        url: of the copy.
        run: the folder here.
        inner: the name of a run in both; empty for the run itself.
    """
    below, here = f"{url.rstrip('/')}/{inner}".rstrip("/"), run / inner
    own = _checkpoint(here)
    with TemporaryDirectory() as folder, _of_this_run(below, Path(folder)):
        there = Path(folder)
        for name in sorted({CONFIG, LAST}.intersection(_names(below))):
            _copy_back(below, name, there)
        if (there / CONFIG).is_file() and (here / CONFIG).is_file():
            _check_same_run(below, there / CONFIG, load_yaml(here / CONFIG))
        copied = _checkpoint(there)
        if copied is None and (there / LAST).is_file():
            text = f"{SETTING}: {below}: the checkpoint is damaged, and is replaced by the next one"
            warnings.warn(text, stacklevel=2)
        if copied is not None and own is not None and any(copied.get(key) != own.get(key) for key in _OF_DATA):
            raise UrlError(f"{SETTING}: {below} has a run on other data; choose another folder of the bucket")
        num_steps, num_here = (0 if content is None else content["step"] for content in (copied, own))
        if num_steps > num_here:
            raise UrlError(
                f"{SETTING}: {below} has a later checkpoint, of step {num_steps}, than {here}, of step {num_here}; "
                f"move {run} away, and the same command with --run_dir {run} brings the copy back"
            )


def _checkpoint(run: Path) -> dict[str, Any] | None:
    """The newest intact checkpoint of a run; None without one."""
    for name in (LAST, PREVIOUS):
        with suppress(DamagedCheckpointError):
            return load_checkpoint(run / name)
    return None


@contextmanager
def _of_this_run(url: str, folder: Path) -> Iterator[None]:
    """Faults of files that are copied from a bucket to a folder are a UrlError that names the bucket."""
    try:
        yield
    except UrlError:
        raise
    except (ValueError, KeyError) as error:
        reason = str(error).replace(str(folder), url)
        raise UrlError(
            f"{SETTING}: {url} is not of this run ({reason}); choose another folder of the bucket"
        ) from error


def _check_same_run(url: str, saved: Path, settings: dict[str, Any]) -> None:
    """Raise a UrlError if the settings in a file from a bucket are of another run."""
    for key, value, value_there in changed_settings(settings, saved):
        raise UrlError(
            f"{SETTING}: {url} has another run, with {key} {value_there} instead of {value}; choose another folder of "
            "the bucket"
        )


def _files(run: Path) -> list[Path]:
    paths = (path for path in run.iterdir() if path.is_file() and not path.name.startswith("."))
    return sorted((path for path in paths if path.name != PREVIOUS), key=lambda path: _ORDER.get(path.name, 1))


def _state(path: Path) -> tuple[int, int]:
    """What tells one content of a file, which is replaced as a whole, from the next."""
    status = path.stat()
    return status.st_ino, status.st_mtime_ns


def _copy_there(path: Path, url: str) -> None:
    try:
        with url_faults(url, path.parent):
            bucket, folder = open_bucket(url)
            bucket.put_file(str(path), f"{folder}/{path.name}")
    except UrlError as error:
        raise _with_setting(error, url) from error


def _copy_back(url: str, name: str, target: Path) -> None:
    """Copy a file of a bucket, by its name relative to a folder in it, into a folder here."""
    path = target / name
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with url_faults(f"{url}/{name}", target):
            bucket, folder = open_bucket(url)
            bucket.get_file(f"{folder}/{name}", str(path))
    except UrlError as error:
        raise UrlError(f"{SETTING}: {error}") from error


def _names(url: str, inner_runs: Sequence[str] = ()) -> list[str]:
    """The files of the run in a folder of a bucket, and of runs in it by their names; none if there are no files.

    Raises:
        ValueError: if there are files and no run, or the bucket cannot be read.
    """
    try:
        with url_faults(url):
            bucket, folder = open_bucket(url)
            bucket.invalidate_cache()  # of listings, in which files of other machines may be missing
            found = [PurePosixPath(path).relative_to(folder) for path in bucket.find(folder)]
    except UrlError as error:
        raise _with_setting(error, url) from error
    folders = {(), *((name,) for name in inner_runs)}
    names = [str(path) for path in found if path.parts[:-1] in folders and path.name.strip(".")]
    if names and CONFIG not in names:
        raise ValueError(
            f"{SETTING}: {url} has files that are not of a run, such as {names[0]}; choose another folder of the bucket"
        )
    return names


def _with_setting(error: UrlError, url: str) -> UrlError:
    return UrlError(
        f"{SETTING}: {url}: there is no such bucket" if isinstance(error, MissingUrlError) else f"{SETTING}: {error}"
    )
