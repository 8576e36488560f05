"""`index` by several processes, killed at any file, gives the gallery of one that is left alone."""

import contextlib
import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datasets.files import only_process
from datasets.images.read import write_image
from tasks.embedding import index as indexing
from tasks.embedding.gallery import Gallery
from tests.tasks.embedding.test_commands import PROBE, run, settings  # noqa: F401  # a fixture


class KilledError(Exception):
    pass


@pytest.fixture
def index(
    settings: list[str],  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    rng: np.random.Generator,
) -> Callable[..., int]:
    """Index ten photos in files of three, as process `rank` of `size`; without the `killed_at`-th file."""
    assert run("train", *settings, *PROBE, "--run_dir", "run") == 0
    for number in range(10):
        path = Path("photos", f"{number % 2}", f"{number}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_image(path, rng.integers(0, 256, (64, 64, 3), np.uint8))
    monkeypatch.setattr(indexing, "PHOTOS_PER_FILE", 3)
    write = indexing.write_embedded

    def run_index(out: str, rank: int = 0, size: int = 1, killed_at: int = 0, flags: Sequence[str] = ()) -> int:
        num_files = 0

        def killed(path: Path, *arguments: Any) -> None:
            nonlocal num_files
            num_files += 1
            if num_files == killed_at:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.with_name(f".{path.stem}.123456789{path.suffix}").write_bytes(b"the beginning of a file")
                raise KilledError
            write(path, *arguments)

        monkeypatch.setattr(indexing, "write_embedded", killed)
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", str(size))
        return run("index", "--run", "run", "photos", "--out", out, *flags)

    return run_index


def content(path: str) -> dict[str, Any]:
    """The embedding of each photo; the CSV file and the index list the same photos, each once."""
    gallery = Gallery.read(Path(path))
    with Path(path).with_suffix(".csv").open(newline="") as file:
        rows = {int(row["id"]): row["path"] for row in csv.DictReader(file)}
    assert sorted(rows) == sorted(gallery.ids) == sorted(gallery._index.ids)
    assert len(set(rows.values())) == len(rows)
    vectors = zip(gallery._index.ids.tolist(), gallery._index.vectors(), strict=True)
    return {rows[id_]: vector for id_, vector in vectors}


def test_parts_and_kills_change_nothing(index: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert index("one.faiss") == 0
    expected = content("one.faiss")
    assert len(expected) == 10

    capsys.readouterr()
    for killed_at in (1, 2, 2, 0):
        with contextlib.suppress(KilledError):
            index("killed.faiss", killed_at=killed_at)
    assert "going on after 6 photos in killed.parts/part-1-of-1" in capsys.readouterr().err

    for rank in (2, 0, 1):
        assert not Path("many.faiss").exists()
        with contextlib.suppress(KilledError):
            index("many.faiss", rank, 3, killed_at=1)
        assert index("many.faiss", rank, 3) == 0
    assert "10 photos new or changed; many.faiss (flat) has 10" in capsys.readouterr().err

    for name in ("killed", "many"):
        found = content(f"{name}.faiss")
        assert found.keys() == expected.keys()
        for photo, vector in found.items():
            np.testing.assert_allclose(vector, expected[photo], atol=1e-5)
        assert not Path(f"{name}.parts").exists()


def test_a_kill_while_the_parts_are_joined_loses_nothing(
    index: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before the gallery is written, and behind it; a photo that changed since is embedded anew."""

    def killed(*_: Any) -> None:
        raise KilledError

    for module, name in ((Gallery, "add"), (indexing.shutil, "rmtree")):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, killed)
            with pytest.raises(KilledError):
                index("g.faiss")
        assert Path("g.joining").is_dir()
        if Path("g.faiss").exists():
            capsys.readouterr()
            assert run("remove", "--gallery", "g.faiss", "photos") == 1
            assert "g.joining: an interrupted index has embeddings there" in capsys.readouterr().err
        changed = next(Path("photos").rglob("*.png"))
        write_image(changed, np.zeros((64, 64, 3), np.uint8))
        before = set(content("g.faiss")) if name == "rmtree" else set()
        assert len(before) in (0, 10)
    assert index("g.faiss") == 0
    assert len(content("g.faiss")) == 10
    assert not Path("g.joining").exists()
    capsys.readouterr()
    assert index("g.faiss") == 0
    assert "0 photos new or changed" in capsys.readouterr().err


def test_the_parts_are_joined_once(
    index: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whether another process comes back while they are joined, or ends when they have been."""
    monkeypatch.setattr("datasets.files.LOCK_WAIT_S", 0.1)
    join, embed = indexing._join, indexing._embed_part
    statuses = []

    def join_when_another_starts(*arguments: Any) -> Any:
        statuses.append(index("back.faiss", 0, 2))
        assert "--out: another process is working on back.faiss" in capsys.readouterr().err
        return join(*arguments)

    assert index("back.faiss", 0, 2) == 0
    with monkeypatch.context() as patch:
        patch.setattr(indexing, "_join", join_when_another_starts)
        assert index("back.faiss", 1, 2) == 0

    def embed_until_another_joins(*arguments: Any) -> None:
        embed(*arguments)
        monkeypatch.setattr(indexing, "_embed_part", embed)
        statuses.append(index("late.faiss", 0, 2))

    assert index("late.faiss", 0, 2) == 0
    monkeypatch.setattr(indexing, "_embed_part", embed_until_another_joins)
    assert index("late.faiss", 1, 2) == 0
    assert "this process has nothing to add to late.faiss" in capsys.readouterr().err
    assert statuses == [1, 0]
    for name in ("back", "late"):
        assert len(content(f"{name}.faiss")) == 10
        assert not Path(f"{name}.parts").exists()
        assert not Path(f"{name}.joining").exists()


@pytest.mark.filterwarnings("default:.*the image is left out")
def test_a_process_without_new_photos_leaves_nothing_and_is_not_waited_for(
    index: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As one that comes back after the parts have been joined; a photo that is left out makes it say what to do."""
    for rank in (0, 1):
        assert index("g.faiss", rank, 2) == 0
    capsys.readouterr()
    assert index("g.faiss", 0, 2) == 0
    assert "this process has nothing to add to g.faiss" in capsys.readouterr().err
    assert not Path("g.parts").exists()

    (*_, last) = sorted(Path("photos").rglob("*.png"))
    write_image(last, np.full((64, 64, 3), 9, np.uint8))  # in the part of the second process
    for ranks in ((0, 1), (1, 0)):
        last.touch()
        for rank in ranks:
            assert index("g.faiss", rank, 2) == 0
        assert "1 photo new or changed; g.faiss (flat) has 10" in capsys.readouterr().err
        assert not Path("g.parts").exists()

    first, embed = min(Path("photos").rglob("*.png")), indexing._embed_part

    def embed_after_another_has_joined(*arguments: Any) -> None:
        monkeypatch.setattr(indexing, "_embed_part", embed)
        last.touch()
        assert index("g.faiss", 1, 2) == 0
        first.touch()  # after the other one has seen that it is known
        embed(*arguments)

    monkeypatch.setattr(indexing, "_embed_part", embed_after_another_has_joined)
    assert index("g.faiss", 0, 2) == 0
    assert capsys.readouterr().err.count("1 photo new or changed") == 2
    assert not Path("g.parts").exists()

    for photo in (last, first):
        photo.write_bytes(b"no image")
    assert index("g.faiss", 0, 2, flags=["--loop.max_unreadable_fraction", "0.5"]) == 0
    expected = "part-2-of-2) to come; the last one writes g.faiss; if no other process is running, remove g.parts, "
    assert expected in capsys.readouterr().err
    assert index("g.faiss", 1, 2, flags=["--loop.max_unreadable_fraction", "0.5"]) == 0
    assert not Path("g.parts").exists()


def test_a_gallery_that_another_process_changes_is_joined_later(
    index: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("datasets.files.LOCK_WAIT_S", 0.1)
    assert index("g.faiss", 0, 2) == 0
    with only_process(Path("g.faiss"), "--gallery"):
        assert index("g.faiss", 1, 2) == 1
    assert "--out: another process is working on g.faiss; wait until it has ended" in capsys.readouterr().err
    assert not Path("g.faiss").exists()
    assert index("g.faiss", 1, 2) == 0
    assert len(content("g.faiss")) == 10


@pytest.mark.filterwarnings("default:.*the image is left out")
def test_photos_that_vanish_count_as_unreadable(
    index: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Millions are embedded for hours after they were listed."""
    load = indexing.load_model

    def load_after_a_photo_is_gone(*arguments: Any) -> Any:
        Path("photos/1/1.png").unlink()
        return load(*arguments)

    monkeypatch.setattr(indexing, "load_model", load_after_a_photo_is_gone)
    assert index("g.faiss", flags=["--loop.max_unreadable_fraction", "0.5"]) == 0
    assert "photos/1/1.png: No such file or directory; the image is left out" in capsys.readouterr().err
    assert len(content("g.faiss")) == 9


def test_processes_that_differ_and_damaged_files_are_one_line(
    index: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert index("g.faiss", 0, 2) == 0
    write_image(Path("photos/new.png"), np.zeros((64, 64, 3), np.uint8))
    for rank, size, message in (
        (1, 2, "--out: g.parts/part-1-of-2 has another list of inputs (10, SHA-256 "),
        (0, 1, "--out: g.parts has parts of 2 processes, and now there are 1; start as many, or remove the folder"),
    ):
        capsys.readouterr()
        assert index("g.faiss", rank, size) == 1
        assert f"error: {message}" in capsys.readouterr().err
    Path("photos/new.png").unlink()
    damaged = next(Path("g.parts").rglob("*.npz"))
    with np.load(damaged) as arrays:
        wrong = dict(arrays) | {"embeddings": arrays["embeddings"][:, :-1]}
    whole = damaged.read_bytes()
    np.savez(damaged, **wrong)
    assert index("g.faiss", 1, 2) == 1
    assert f"{damaged.name}: damaged; remove it, and run index again" in capsys.readouterr().err
    Path("g.joining").rename("g.parts")
    damaged.write_bytes(whole)
    damaged.write_bytes(damaged.read_bytes()[:100])
    assert index("g.faiss", 1, 2) == 1
    assert f"{damaged.name}: damaged; remove it, and run index again" in capsys.readouterr().err
