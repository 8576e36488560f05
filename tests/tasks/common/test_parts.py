"""Several processes predict as one does: the same records in the same order, whatever is killed and started again."""

import contextlib
import random
import re
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from datasets.images.read import encode_image
from tasks.common.prediction.files import RECORDS, is_unfinished
from tasks.common.prediction.source_list import SourceList
from tasks.common.prediction.sources import Live, Picture, Source, Video
from tasks.common.prediction.written import WrittenImages
from tasks.common.verbs import predict as verb
from tests.tasks.common.test_predict import LATIN_1, Sizes, StopError, picture, pictures, write_video


class Model(Sizes):
    """With a digest, a name and settings as a task's model; `failing` is the picture that cannot be drawn, from 1."""

    name, metadata = "sizes", {}

    def __init__(self, digest: str = "a", failing: int = 0) -> None:
        super().__init__(self._fail_at)
        self._digest, self._failing = digest, failing
        self.config = SimpleNamespace(data=SimpleNamespace(align=None))
        self.predictor = SimpleNamespace(digest=lambda settings: digest)

    def _fail_at(self, count: int) -> None:
        if count == self._failing:
            raise StopError


@pytest.fixture
def predict(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """The verb, as process `rank` of `size`."""

    def run(inputs: Path, out: Path, rank: int = 0, size: int = 1, model: Model | None = None) -> int:
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", str(size))
        monkeypatch.setattr(verb, "load_model", lambda *_: model or Model())
        monkeypatch.setattr(verb, "_digest", lambda model: model.predictor.digest({}))
        options = {"inputs": [str(inputs)], "out": str(out), "run": None, "save": ["boxes"], "json": False}
        return verb.predict("sizes", SimpleNamespace(options=options, config=None, given=set()))  # type: ignore[arg-type]

    return run


def photos(folder: Path, count: int) -> Path:
    """Photos in two folders, one unreadable and one video among them."""
    pictures(folder / "a", count)
    pictures(folder / "b", 3)
    (folder / "a" / "000.png").write_text("no image")
    write_video(folder / "b" / "clip.mp4", 4)
    return folder


@pytest.mark.parametrize("size", [2, 3, 16])  # of the last, some have nothing to do
def test_the_parts_of_all_processes_are_what_one_writes(
    size: int, predict: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = photos(tmp_path / "in", 7)
    assert predict(inputs, tmp_path / "one") == 0
    order = random.Random(size).sample(range(size), size)
    for count, rank in enumerate(order, 1):
        assert not (tmp_path / "out" / RECORDS).exists()
        assert predict(inputs, tmp_path / "out", rank, size) == 0
        assert ("joined the records" in capsys.readouterr().err) == (count == size)
    expected = (tmp_path / "one" / RECORDS).read_bytes()
    assert (tmp_path / "out" / RECORDS).read_bytes() == expected
    drawn = [path.name for path in (tmp_path / "out").rglob("*.jpg")]
    assert len(drawn) == 6 + 3
    assert predict(inputs, tmp_path / "out", order[0], size) == 0, "again, with nothing to do"
    assert (tmp_path / "out" / RECORDS).read_bytes() == expected


def test_a_process_that_was_killed_goes_on_with_its_part(predict: Callable[..., int], tmp_path: Path) -> None:
    inputs = photos(tmp_path / "in", 9)
    predict(inputs, tmp_path / "one")
    num_starts = 0
    for rank in (1, 0):
        for failing in (1, 3, 2, 0):
            with contextlib.suppress(StopError):
                predict(inputs, tmp_path / "out", rank, 2, Model(failing=failing))
            num_starts += 1
            assert is_unfinished(tmp_path / "out" / f"part-{rank + 1}-of-2") == (failing > 0)
    assert num_starts == 8
    assert (tmp_path / "out" / RECORDS).read_bytes() == (tmp_path / "one" / RECORDS).read_bytes()


def test_processes_with_other_inputs_networks_or_numbers_are_one_line(
    predict: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs, out = photos(tmp_path / "in", 3), tmp_path / "out"
    predict(inputs, out, 0, 2)
    with pytest.raises(ValueError, match=r"part-1-of-2 has another network or other settings \(a\) than .* \(b\); all"):
        predict(inputs, out, 1, 2, Model("b"))
    with pytest.raises(ValueError, match=r"out has parts of 2 processes, and now there are 3; start as many"):
        predict(inputs, out, 2, 3)
    (inputs / "b" / "new.png").write_bytes(encode_image(picture(), ".png"))
    with pytest.raises(ValueError, match=r"part-1-of-2 has another list of inputs \(7, .* than this process \(8, "):
        predict(inputs, out, 1, 2)
    with pytest.raises(ValueError, match=r"part-1-of-2 has another list of inputs"):
        predict(inputs, out, 0, 2)
    assert not (out / "part-2-of-2").exists()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").touch()
    with pytest.raises(ValueError, match="exists already and is not overwritten"):
        predict(inputs, tmp_path / "other", 0, 2)
    for rank, size in ((2, 2), (0, 0), ("x", 2), (-1, 2)):
        with pytest.raises(ValueError, match=f"RANK={rank} and WORLD_SIZE={size}; expected WORLD_SIZE processes"):
            predict(inputs, out, rank, size)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.jpg").write_text("no image")
    assert predict(tmp_path / "bad", tmp_path / "none", 1, 2) == 0
    with pytest.raises(ValueError, match="no input could be read; see what each process says"):
        predict(tmp_path / "bad", tmp_path / "none", 0, 2)


def test_sources_come_back_in_order_each_once(tmp_path: Path) -> None:
    given: list[Source] = [
        *(Picture(str(tmp_path / name), tmp_path / name) for name in ("b.jpg", f"{LATIN_1}.jpg", "a.jpg", "b.jpg")),
        Video(str(tmp_path / "clip.mp4"), tmp_path / "clip.mp4"),
        *(Picture(name, name) for name in ("https://host/1.jpg", "https://host/2.jpg", "https://host/1.jpg")),
        Video("https://host/a.mp4", "https://user:word@host/a.mp4"),
        Picture("standard input", b"bytes"),
    ]
    expected = list({source.name: source for source in reversed(given)}.values())[::-1]
    found = SourceList()
    for part in (given[:2], given[2:6], given[6:]):
        found.extend(part)
    assert list(found) == [source for source in dict.fromkeys(given) if source in expected]
    assert [found[row] for row in range(len(found))] == list(found)
    assert list(found[2:5]) == list(found)[2:5]
    for size in (1, 3, 20):
        assert [source for rank in range(size) for source in found.part(rank, size)] == list(found)
    assert found.live is None
    found.extend([Live("camera 0", 0, 25.0)])
    assert found.live == found[-1] == Live("camera 0", 0, 25.0)


def test_a_long_list_of_sources_is_not_in_memory() -> None:
    """SQLite's own memory is not traced; it has a limit of its own, 2 MB for each database."""
    count = 3000
    found, written = SourceList(), WrittenImages()
    tracemalloc.start()
    try:
        found.extend(Picture(f"/photos/{row:06}.jpg", Path(f"/photos/{row:06}.jpg")) for row in range(count))
        for source in found:
            written.stem(source.name, is_video=False)
        assert sum(source.name in written for source in found) == count == len(found)
        assert tracemalloc.get_traced_memory()[0] < 20 * count, "less than the names alone"
    finally:
        tracemalloc.stop()


def test_files_of_equal_names_are_numbered_without_gaps_or_clashes() -> None:
    """Compared with trying every number; `image-2` is also a name of its own."""
    rng = random.Random(0)
    names = [f"{folder}/{rng.choice(['image', 'image-2', 'image-3', 'x'])}.png" for folder in range(60)]
    written, used = WrittenImages(), set[str]()
    for name in names:
        first = expected = Path(name).stem
        count = 1
        while expected in used:
            count += 1
            expected = f"{first}-{count}"
        used.add(expected)
        assert written.stem(name, is_video=False) == expected
        assert written.stem(name, is_video=False) == expected, "the same again"
        assert written.stem(name, is_video=True) is not None
    assert all(re.fullmatch(r"(image(-\d)?|x)(-\d+)?", stem) for stem in used)


def test_thousands_of_equal_names_take_no_longer_than_others() -> None:
    written = WrittenImages()
    stems = [written.stem(f"{folder}/image.png", is_video=False) for folder in range(5000)]  # 12 million tries
    assert stems == ["image", *(f"image-{number}" for number in range(2, 5001))]
