"""From words of the command line to sources: paths, folders, globs, lists, URLs, cameras, standard input."""

from __future__ import annotations

import glob
import sys
import warnings
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path

from datasets.images.headers import SIGNATURE_BYTES, format_of
from datasets.images.read import AS_STORED, IMAGE_SUFFIXES, Decoding, UnreadableImageError
from datasets.listing import ImageListing, kind_of, list_images
from datasets.web import public_name
from tasks.common.prediction.source_list import SourceList
from tasks.common.prediction.sources import InputImage, Live, Picture, Source, Video
from tasks.common.prediction.web import is_url, open_url

VIDEO_SUFFIXES = frozenset({".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v"})
LIST_SUFFIX = ".txt"
STANDARD_INPUT = "-"
_EXPECTED = "expected an image, a folder, a glob, a video, a list of them (.txt), a URL, the number of a camera, or -"


def open_source(text: str | Path | int, decoding: Decoding = AS_STORED) -> Iterator[InputImage]:
    """The images of a source, see `find_sources`; those that cannot be read are warned about.

    Raises:
        ValueError: if there is no such source, or none of its images can be read.
    """
    problems: list[str] = []
    num_images = 0
    for source in find_sources([str(text)]):
        try:
            for image in source.images(decoding):
                yield image
                num_images += 1
        except UnreadableImageError as error:
            problems.append(str(error))
    if not num_images:
        raise UnreadableImageError(problems[0])
    for problem in problems:
        warnings.warn(problem, stacklevel=2)


def find_sources(inputs: Sequence[str]) -> SourceList:
    """The images, videos and streams that words of the command line name, each once, in order.

    Args:
        inputs: an image file, a folder, a glob, a video file, a text file with a path or URL a line, an http(s) URL of
            an image or a video, an rtsp or rtmp URL, the number of a camera, or `-` for standard input: an image, or a
            list as in a text file.

    Raises:
        ValueError: if there is no such source, or nothing in it.
    """
    found = SourceList()
    passed_over: Counter[str] = Counter()
    for text in inputs:
        sources, others = _sources_of(text, is_alone=len(inputs) == 1)
        found.extend(sources)
        passed_over += others
    if not found:
        raise _nothing_wanted(" ".join(inputs), passed_over)
    live = found.live
    if live is not None and len(found) > 1:
        raise ValueError(f"{live.name}: does not end by itself; expected it as the only input")
    _warn_passed_over(passed_over)
    return found


def find_files(inputs: Sequence[str], suffixes: Collection[str] = IMAGE_SUFFIXES | VIDEO_SUFFIXES) -> list[Path]:
    """The files that `find_images` finds; by default also videos."""
    return [Path(source.name) for source in find_images(inputs, suffixes)]


def find_images(inputs: Sequence[str], suffixes: Collection[str] = IMAGE_SUFFIXES) -> SourceList:
    """The images of paths, folders and globs, each once, in order; what is passed over is warned about.

    Args:
        inputs: files, folders or globs; a file is also wanted if its content is that of an image.
        suffixes: of the files that are wanted.

    Raises:
        ValueError: if there is no such file, or no wanted one in a folder or in all inputs.
    """
    found = SourceList()
    passed_over: Counter[str] = Counter()
    for text in inputs:
        files, others = _files_of(text, suffixes, "expected an image, a folder, a glob or a video")
        found.extend(map(_of_file, files))
        passed_over += others
    if not found:  # files that are none; a shell's `photos/*` may name some beside images
        raise _nothing_wanted(" ".join(inputs), passed_over, "expected an image, a folder, a glob or a video")
    _warn_passed_over(passed_over)
    return found


def _sources_of(text: str, *, is_alone: bool) -> tuple[Iterable[Source], Counter[str]]:
    """The sources that a word names, and the number of files passed over by kind."""
    nothing: Counter[str] = Counter()
    if text == STANDARD_INPUT:
        return _read_standard_input(), nothing
    if is_url(text):
        return [_at_url(text)], nothing
    path = Path(text)
    if text.isdecimal() and not path.exists():
        return [Live.connect(f"camera {int(text)}", int(text))], nothing
    if path.suffix.lower() == LIST_SUFFIX and path.is_file():
        try:
            return _in_list(_lines_of(path), str(path), path.parent), nothing
        except ValueError:
            if is_alone:
                raise
            return [], Counter([kind_of(path)])  # one of a shell's `photos/*`
    files, others = _files_of(text, IMAGE_SUFFIXES | VIDEO_SUFFIXES)
    return map(_of_file, files), others


def _of_file(path: Path) -> Source:
    return Video(str(path), path) if path.suffix.lower() in VIDEO_SUFFIXES else Picture(str(path), path)


def _at_url(url: str) -> Source:
    """What is at a URL that is an input by itself, which is opened to see."""
    name = public_name(url)
    content = open_url(url)
    if content.kind == "image":
        return Picture(name, content.data)
    if content.kind == "video":
        return Video(name, url)
    return Live.connect(name, url)


def _read_standard_input() -> Iterable[Source]:
    data = sys.stdin.buffer.read()
    name = "standard input"
    if format_of(data[:SIGNATURE_BYTES]) is not None:
        return [Picture(name, data)]
    try:
        return _in_list(data.decode("utf-8-sig").splitlines(), name, Path())
    except UnicodeDecodeError as error:
        raise ValueError(f"{name}: not an image in a format that is read; expected an image or a list") from error


def _lines_of(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as lines:  # as names of files may be
        yield from lines


def _in_list(lines: Iterable[str], name: str, folder: Path) -> Iterator[Source]:
    """The sources of a list; a file that is missing counts as an image that cannot be read.

    Args:
        lines: of the list, which are read one after the other.
        name: of the list, for messages.
        folder: that its paths are relative to.

    Raises:
        ValueError: at once, if it is empty, or not a list.
    """
    sources = _in_lines(lines, name, folder)
    first = next(sources, None)
    if first is None:
        raise ValueError(f"{name}: an empty list; expected a path or a URL a line")
    return chain([first], sources)


def _in_lines(lines: Iterable[str], name: str, folder: Path) -> Iterator[Source]:
    is_list = False  # its first line names something that is there
    for number, line in enumerate(map(str.strip, lines), 1):
        if not line or line.startswith("#"):
            continue
        if is_url(line):
            is_video = Path(public_name(line).partition("?")[0]).suffix.lower() in VIDEO_SUFFIXES
            yield (Video if is_video else Picture)(public_name(line), line)
            is_list = True
            continue
        path = folder / line
        is_folder = is_file = False
        with suppress(OSError):  # the name is longer than names of files can be
            is_folder, is_file = path.is_dir(), path.is_file()
        if is_folder:
            try:
                files = _files_of(str(path), IMAGE_SUFFIXES | VIDEO_SUFFIXES)[0]
            except ValueError as error:
                raise ValueError(f"{name}: line {number}: {error}") from error
            yield from map(_of_file, files)
        elif is_list or is_file:
            yield _of_file(path)
        else:
            raise ValueError(f"{name}: line {number}: there is no file {line[:200]!r}; expected a path or a URL a line")
        is_list = True


def _files_of(text: str, suffixes: Collection[str], expected: str = _EXPECTED) -> tuple[Iterable[Path], Counter[str]]:
    """The wanted files of a path, folder or glob, and the number of others by kind.

    Raises:
        ValueError: if there is no such file, or no wanted one in a folder.
    """
    path = Path(text)
    if path.is_dir():
        listing = list_images(path, suffixes=suffixes)
        if not listing.names:
            raise _nothing_wanted(text, listing.passed_over, expected)
        return (path / name for name in listing.names), listing.passed_over
    matches = [path] if path.is_file() else map(Path, sorted(glob.glob(text, recursive=True)))
    files = {match: _is_wanted(match, suffixes) for match in matches if match.is_file()}
    if not files:
        raise _nothing_wanted(text, Counter(), expected)
    others = Counter(kind_of(file) for file, is_wanted in files.items() if not is_wanted)
    return [file for file, is_wanted in files.items() if is_wanted], others


def _is_wanted(path: Path, suffixes: Collection[str]) -> bool:
    if path.suffix.lower() in suffixes:
        return True
    with path.open("rb") as file:
        return format_of(file.read(SIGNATURE_BYTES)) is not None


def _nothing_wanted(text: str, passed_over: Counter[str], expected: str = _EXPECTED) -> ValueError:
    line = ImageListing([], passed_over).line()
    return ValueError(f"{text}: no image or video there{line and f' ({line})'}; {expected}")


def _warn_passed_over(passed_over: Counter[str]) -> None:
    if passed_over:
        warnings.warn(ImageListing([], passed_over).line(), stacklevel=3)
