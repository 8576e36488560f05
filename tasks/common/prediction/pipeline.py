"""The stages of `predict`, which overlap: read and prepare, compute in batches, draw and encode, write in order.

Images are read and drawn in threads, which OpenCV, simplejpeg and NumPy allow for most of their work; the network
computes in the calling thread, and one more thread writes. Each stage waits where the next one is behind, so that the
images in memory are few, whatever their number.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from types import TracebackType
from typing import Any, NamedTuple, Self

from datasets.images.read import UnreadableImageError
from datasets.progress import Progress
from datasets.types import PreparedImage
from datasets.words import plural
from tasks.common.inference_task import BATCH_SIZE
from tasks.common.prediction.files import PredictionFiles, Rendered
from tasks.common.prediction.model import Model
from tasks.common.prediction.result import Result
from tasks.common.prediction.sources import InputImage, Live, Picture, Source

MAX_BATCH_BYTES = 128 * 2**20  # of a batch's images, unless one alone is larger
NUM_THREADS = 2
NUM_AHEAD = 2 * NUM_THREADS  # images that are read before they are asked for
MAX_LISTED = 20  # images that are left out
SECONDS_PER_LINE = 1.0  # of a video or stream

Line = Callable[[Result[Any]], str]


@dataclass
class LeftOut:
    """Images without a prediction; of a million of them memory has the first few.

    Attributes:
        num_images: how many.
        first_reasons: a line for each of the first MAX_LISTED.
    """

    num_images: int = 0
    first_reasons: list[str] = field(default_factory=list)

    def add(self, reason: str) -> None:
        """Count an image."""
        self.num_images += 1
        if len(self.first_reasons) < MAX_LISTED:
            self.first_reasons.append(reason)


@dataclass
class PredictionReport:
    """What came of a prediction.

    Attributes:
        num_images: the number of images and frames in the folder, earlier ones included.
        unreadable: the images that could not be read.
        refused: the images that the task's preprocessing found nothing in, such as no face.
        is_interrupted: whether it was stopped before the last image. A camera or stream does not end by itself, so that
            stopping it is no interruption.
    """

    num_images: int = 0
    unreadable: LeftOut = field(default_factory=LeftOut)
    refused: LeftOut = field(default_factory=LeftOut)
    is_interrupted: bool = False


class _Opened(NamedTuple):
    """An image with the network's inputs for it."""

    source: Source
    image: InputImage
    inputs: list[PreparedImage]


class _LeftOut(NamedTuple):
    """Why there is no image, or nothing in it to predict on."""

    reason: str
    is_refused: bool


def predict_sources(
    model: Model[Any],
    sources: Sequence[Source],
    files: PredictionFiles,
    *,
    line: Line | None = None,
    stop: Sequence[int] = (),
) -> PredictionReport:
    """Predict on the images and videos that are not in the folder yet.

    Args:
        model: prepares, computes, draws.
        sources: from `find_sources`.
        files: the open folder.
        line: what standard output says of a result, of a video's once a second; None for nothing.
        stop: ends the prediction after a batch once there is something in it, such as a signal.

    Raises:
        ValueError: if none could be read.
    """
    report = PredictionReport()
    num_done = sum(files.has(source.name) for source in sources) if files.num_images else 0
    new = (source for source in sources if not files.has(source.name))
    is_live = any(isinstance(source, Live) for source in sources[:1])  # it is the only one
    with (
        Progress("predicting", len(sources), done=num_done) as progress,
        ThreadPoolExecutor(NUM_THREADS) as workers,
        closing(_Reader(model, workers, report, progress, stop).read(new)) as opened,
        _Writer(files, workers, line, progress) as writer,
    ):
        for batch in _batches(opened, 1 if is_live else BATCH_SIZE):
            results = model.predict_prepared([one.image for one in batch], [one.inputs for one in batch])
            writer.write([one.source for one in batch], results)
            if stop:
                break
    report.num_images = files.num_images
    report.is_interrupted = bool(stop) and not is_live
    if report.num_images == 0 and not stop and not files.is_part:
        raise ValueError(
            f"none of {plural(len(sources), 'input')} could be read; the first: "
            f"{(report.unreadable.first_reasons + report.refused.first_reasons)[0]}"
        )
    if not report.is_interrupted:
        files.finish()
    return report


class _Reader:
    """Opens images ahead of the network, in order."""

    def __init__(
        self,
        model: Model[Any],
        workers: ThreadPoolExecutor,
        report: PredictionReport,
        progress: Progress,
        stop: Sequence[int],
    ) -> None:
        self._model = model
        self._decoding = model.task.decoding
        self._workers = workers
        self._report = report
        self._progress = progress
        self._stop = stop

    def read(self, sources: Iterator[Source]) -> Generator[_Opened]:
        """The images that can be read; the others are reported."""
        first = next(sources, None)
        if isinstance(first, Live):
            yield from self._read_live(first)
            return
        sources = chain([] if first is None else [first], sources)
        done: Source | None = None
        with ThreadPoolExecutor(1) as frame_reader:
            for source, future in _ahead(self._jobs(sources, frame_reader)):
                opened = future.result()
                if isinstance(opened, _Opened):
                    yield opened
                elif opened is not None:
                    self._leave_out(opened)
                if isinstance(source, Picture) or (opened is None and source is not done):
                    done = source  # a video's end may be read more than once
                    self._progress.describe(source.name)
                    self._progress.advance()

    def _jobs(
        self, sources: Iterable[Source], frame_reader: ThreadPoolExecutor
    ) -> Iterator[tuple[Source, Future[_Opened | _LeftOut | None]]]:
        """What is read of each source, started when it is asked for; None at the end of a video."""
        for source in sources:
            if isinstance(source, Picture):
                read = partial(source.read, self._decoding)
                yield source, self._workers.submit(self._open, source, read)
            else:
                frames = source.images(self._decoding)
                last: Future[_Opened | _LeftOut | None] | None = None
                while last is None or not (last.done() and _is_end(last)):
                    last = frame_reader.submit(self._open, source, partial(next, frames, None))
                    yield source, last

    def _open(self, source: Source, read: Callable[[], InputImage | None]) -> _Opened | _LeftOut | None:
        try:
            image = read()
        except UnreadableImageError as error:
            return _LeftOut(str(error), is_refused=False)
        if image is None:
            return None
        try:
            return _Opened(source, image, self._model.prepare(image))
        except UnreadableImageError as error:
            frame = "" if image.frame is None else f", frame {image.frame}"
            return _LeftOut(f"{image.name}{frame}: {error}", is_refused=True)

    def _read_live(self, source: Live) -> Iterator[_Opened]:
        """In this thread, since a thread of its own reads on while the network computes."""
        num_frames = 0
        frames = source.images_until(self._stop)
        while (opened := self._open(source, partial(next, frames, None))) is not None:
            if isinstance(opened, _Opened):
                yield opened
                num_frames = 1 + (opened.image.frame or 0)
            else:
                self._leave_out(opened)
        if num_frames and not self._stop:
            self._progress.print(f"{source.name}: it ended, or the connection broke, after {num_frames:,} frames")

    def _leave_out(self, left_out: _LeftOut) -> None:
        (self._report.refused if left_out.is_refused else self._report.unreadable).add(left_out.reason)


class _Writer:
    """Draws and encodes results in threads, and writes them in order in another one."""

    def __init__(
        self, files: PredictionFiles, workers: ThreadPoolExecutor, line: Line | None, progress: Progress
    ) -> None:
        self._files = files
        self._workers = workers
        self._line = line
        self._progress = progress
        self._thread = ThreadPoolExecutor(1)
        self._has_failed = False
        self._pending: list[Future[None]] = []
        self._last_line: tuple[str, float] = ("", 0)  # name of the source, and when

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown()
        if error is None:
            self._wait()

    def write(self, sources: Sequence[Source], results: Sequence[Result[Any]]) -> None:
        """Start to write the results of a batch, after those of the last one."""
        started = [
            self._thread.submit(self._write, source, result, self._workers.submit(self._files.render, result))
            for source, result in zip(sources, results, strict=True)
        ]
        self._wait()
        self._pending = started

    def _wait(self) -> None:
        """Until what was started is written; raises the first error."""
        for future in self._pending:
            future.result()

    def _write(self, source: Source, result: Result[Any], rendered: Future[Rendered]) -> None:
        if self._has_failed:
            return  # nothing after a failure, so that the records have no gap
        try:
            self._files.write(source, result, rendered.result())
            self._say(result)
        except BaseException:
            self._has_failed = True
            raise

    def _say(self, result: Result[Any]) -> None:
        if self._line is None:
            return
        name, now = result.source.name, time.monotonic()
        last_name, last_time = self._last_line
        if result.source.frame is None or name != last_name or now - last_time >= SECONDS_PER_LINE:
            self._last_line = name, now
            self._progress.write(self._line(result))


def _is_end(future: Future[_Opened | _LeftOut | None]) -> bool:
    return future.exception() is not None or future.result() is None


def _ahead(
    jobs: Iterator[tuple[Source, Future[_Opened | _LeftOut | None]]],
) -> Iterator[tuple[Source, Future[_Opened | _LeftOut | None]]]:
    """The jobs in order, `NUM_AHEAD` of them started before they are asked for."""
    started: deque[tuple[Source, Future[_Opened | _LeftOut | None]]] = deque()
    for job in jobs:
        started.append(job)
        if len(started) > NUM_AHEAD:
            yield started.popleft()
    yield from started


def _batches(opened: Iterator[_Opened], size: int) -> Iterator[list[_Opened]]:
    """Batches of so many images, or fewer large ones."""
    batch: list[_Opened] = []
    num_bytes = 0
    for one in opened:
        batch.append(one)
        num_bytes += one.image.image.nbytes
        if len(batch) == size or num_bytes >= MAX_BATCH_BYTES:
            yield batch
            batch, num_bytes = [], 0
    if batch:
        yield batch
