"""Tar files as data: what is converted is read again, as webdataset reads it, in any order, damaged or not."""

import hashlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import cv2
import fsspec
import numpy as np
import pytest
import webdataset
from torch._utils import ExceptionWrapper

from datasets.classification.class_folders import open_labelled
from datasets.classification.labelled import LabelledImages
from datasets.console import exit_status
from datasets.files import CACHE_VARIABLE
from datasets.loader import TrainingBatches
from datasets.look.files import look_at_files
from datasets.open import KINDS, Kind, open_folder
from datasets.shards.find import CARD, Shards, open_root
from datasets.shards.index import TarIndex, build_index, load_index, read_index, write_index
from datasets.shards.order import BUFFER_TARS, ShardOrder
from datasets.shards.tar import TruncatedTarError, read_members
from datasets.shards.tars import INDEX_SUFFIX, Tar, bucket_tars
from datasets.sources import EvaluationSet
from datasets.splits import SplitData
from datasets.stores import StoredExamples
from datasets.tools.cli import main
from datasets.types import Attributes, Detections, Face, Label, Mask, Place, Unreadable
from datasets.urls import UrlError

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # webdataset closes no files


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv(CACHE_VARIABLE, str(folder))
    return folder


def jpeg(value: int) -> bytes:
    return bytes(cv2.imencode(".jpg", np.full((16, 24, 3), value, np.uint8))[1])


def png(values: Any) -> bytes:
    return bytes(cv2.imencode(".png", np.asarray(values, np.uint8))[1])


def write_tar(path: Path, *samples: dict[str, Any]) -> Path:
    with webdataset.TarWriter(str(path)) as writer:
        for sample in samples:
            writer.write(sample)
    return path


def hash_of(array: np.ndarray) -> str:
    return f"{array.shape} {hashlib.sha256(array).hexdigest()}"


def truth_of(source: StoredExamples[Any], row: int) -> list[Any]:
    """What is true of an image, in values that can be compared."""
    truth = source.truth(row)
    match truth:
        case Label():
            return [source.class_names[truth.class_id]]  # type: ignore[attr-defined]
        case Detections():
            names = [source.categories.names[class_id] for class_id in truth.class_ids]  # type: ignore[attr-defined]
            order = np.lexsort(truth.boxes_xyxy.T)
            boxes = truth.boxes_xyxy[order].tolist()
            return [truth.image_hw, boxes, [names[k] for k in order], truth.areas_px[order].tolist()]
        case Mask():
            return [hash_of(truth.class_ids), source.class_names]  # type: ignore[attr-defined]
        case Attributes():
            return [truth.values.tolist(), source.attribute_names]  # type: ignore[attr-defined]
        case Face():
            return [truth.identity, truth.image_number]
        case Place():
            return [truth.lat_deg, truth.lng_deg]
    raise AssertionError(type(truth))


def content(data: SplitData[Any]) -> dict[str, list[str]]:
    """Images and truth of each split, in an order that does not depend on that of the data."""
    return {
        split: sorted(
            f"{hash_of(data[split][row].image)} {truth_of(data[split], row)}" for row in range(len(data[split]))
        )
        for split in data.names
    }


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_converted_to_shards_is_read_again(
    kind: Kind, generated_roots: Callable[[str], Path], tmp_path: Path
) -> None:
    """Images and truth of every split are equal; nothing but the folder is needed."""
    root = generated_roots(kind)
    assert main(["convert", str(root), "--task", kind, "--to", "webdataset", "--out", str(tmp_path / "out")]) == 0
    _, loose = open_folder(root, kind=kind)
    moved = shutil.move(tmp_path / "out", tmp_path / "moved")
    found, shards = open_folder(moved)
    assert found == kind
    assert shards.found.startswith("WebDataset") or kind == "geolocation"
    assert content(shards) == content(loose)


CARDS: dict[str, dict[str, Any]] = {
    "segmentation": {"class_names": ["sky", "road", "void"]},
    "detection": {"categories": [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}]},
}
BOX = {"bbox": [2, 3, 10, 8], "category_id": 7, "area": 55.0, "iscrowd": 0}
SAMPLES: dict[Kind, tuple[dict[str, Any], ...]] = {  # members beside the images of two records
    "classification": ({"cls": 1}, {"cls": 0}),
    "detection": (
        {"json": {"annotations": [BOX], "width": 24, "height": 16}},
        {"json": {"annotations": []}},
    ),
    "segmentation": (
        {"mask.png": png(np.eye(16, 24))},
        {"mask.png": png(np.full((16, 24), 2) - 2 * np.eye(16, 24))},
    ),
    "attributes": ({"json": {"Smiling": 1, "Bald": -1}}, {"json": {"Smiling": 0, "Bald": True}}),
    "embedding": ({"json": {"person": "Ann"}}, {"json": {"person": "Bo"}}),
    "geolocation": ({"json": {"lat": 1.5, "lon": 2}}, {"json": {"latitude": -1, "lng": 179}}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_tar_files_of_webdataset_are_read(kind: Kind, tmp_path: Path) -> None:
    """Written by webdataset; what it decodes of them is the reference."""
    for split in ("train", "val"):
        samples = [{"__key__": f"a/{k}", "jpg": jpeg(50 * k)} | record for k, record in enumerate(SAMPLES[kind])]
        if kind == "embedding":  # persons are in one split each
            samples = [sample | {"json": {"person": f"{sample['json']['person']} {split}"}} for sample in samples]
        write_tar(tmp_path / f"x-{split}-0000.tar", *samples)
    (tmp_path / CARD).write_text(json.dumps(CARDS.get(kind, {})))
    found, data = open_folder(tmp_path)
    assert found == kind
    assert data.names == ("train", "val")
    source = data["train"]
    reference = list(webdataset.WebDataset(str(tmp_path / "x-train-0000.tar"), shardshuffle=False).decode("rgb8"))
    assert len(source) == len(reference) == 2
    for row in (1, 0):
        image, expected = source[row].image, reference[row]
        np.testing.assert_allclose(image.astype(int), expected["jpg"], atol=2)
        truth = source.truth(row)
        match truth:
            case Label():
                assert source.class_names[truth.class_id] == str(expected["cls"])
            case Detections():
                record = expected["json"]["annotations"]
                assert [source.categories.names[k] for k in truth.class_ids] == ["dog"] * len(record)
                sizes = truth.boxes_xyxy[:, 2:] - truth.boxes_xyxy[:, :2]
                assert np.hstack([truth.boxes_xyxy[:, :2], sizes]).tolist() == [box["bbox"] for box in record]
                assert truth.image_hw == expected["jpg"].shape[:2]
            case Mask():
                ids = expected["mask.png"][..., 0]
                np.testing.assert_array_equal(truth.class_ids, np.where(ids == 2, 255, ids))
            case Attributes():
                assert source.attribute_names == tuple(expected["json"])
                assert truth.values.tolist() == [max(0, int(value)) for value in expected["json"].values()]
            case Face():
                assert (truth.identity, truth.image_number) == (expected["json"]["person"], 1)
            case Place():
                assert [truth.lat_deg, truth.lng_deg] == list(expected["json"].values())


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    """Eight records in two tar files, and no card."""
    for number in range(2):
        rows = range(4 * number, 4 * number + 4)
        write_tar(tmp_path / f"{number}.tar", *({"__key__": str(k), "jpg": jpeg(k), "cls": k % 2} for k in rows))
    return tmp_path


def labels(root: Path | Shards) -> LabelledImages:
    return open_labelled(root)[0]["train"]


def test_lists_in_braces_and_single_files(classes: Path) -> None:
    assert len(labels(open_root(f"{classes}/{{0..1}}.tar"))) == 8
    assert len(labels(open_root(f"{classes}/1.tar"))) == 4
    with pytest.raises(ValueError, match=r"data.root: .*means 4 tar files, but there is no .*/2.tar, nor 1 more"):
        open_root(f"{classes}/{{0..3}}.tar")
    with pytest.raises(ValueError, match=r"expected a list such as train-\{0000..0009\}.tar"):
        open_root(f"{classes}/{{0..1.tar")
    with pytest.raises(ValueError, match=r"more than 100,000 names"):
        open_root(f"{classes}/{{0..9}}{{0..99999}}.tar")
    with pytest.raises(ValueError, match=r"tar files, but data.format is imagenet"):
        open_labelled(open_root(f"{classes}/1.tar"), format="imagenet")


def test_folders_name_the_split_also_in_the_working_folder(classes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (classes / "val").mkdir()
    for number in range(2):
        (classes / f"{number}.tar").rename(classes / "val" / f"{number}.tar")
    monkeypatch.chdir(classes)
    for root in (classes, Path()):
        assert open_labelled(root)[0].names == ("val",)


def test_tar_files_beside_images_are_archives_of_these(classes: Path) -> None:
    for name in ("a", "b"):
        (classes / name).mkdir()
        (classes / name / "1.jpg").write_bytes(jpeg(1))
    assert open_labelled(classes)[1] == "folder"
    assert open_labelled(classes, format="shards")[1] == "shards"
    (classes / CARD).write_text('{"kind": "classification", "tars": ["0.tar", "1.tar"]}')
    assert open_folder(classes)[1].found.startswith("WebDataset shards")
    (classes / "1.tar").unlink()
    with pytest.raises(ValueError, match=rf"{CARD}: 2 tar files, but there is no 1.tar"):
        open_folder(classes)


def test_a_damaged_image_is_unreadable_and_no_other(classes: Path) -> None:
    tar = classes / "0.tar"
    member = next(member for member in read_members(tar, str(tar)) if member.name == b"2.jpg")
    data = bytearray(tar.read_bytes())
    data[member.offset : member.offset + 4] = b"none"
    tar.write_bytes(data)
    source = labels(classes)
    findings = look_at_files({"train": source}, max_unreadable_fraction=0.1)
    assert [finding.severity for finding in findings if f"{tar}/2.jpg" in finding.text] == ["error"]
    faults = [item for row in range(8) if isinstance(item := EvaluationSet(source, np.asarray)[row], Unreadable)]
    assert [fault.reason.partition(":")[0] for fault in faults] == [f"{tar}/2.jpg"]


@pytest.mark.parametrize("where", ["image", "header"])
def test_of_a_truncated_tar_file_the_whole_members_are_used(where: str, classes: Path) -> None:
    tar = classes / "0.tar"
    image = next(member for member in read_members(tar, str(tar)) if member.name == b"2.jpg")
    tar.write_bytes(tar.read_bytes()[: image.offset + (100 if where == "image" else -612)])
    source = labels(classes)
    assert [Path(source.id(row)).name for row in range(len(source))] == [f"{k}.jpg" for k in (0, 1, 4, 5, 6, 7)]
    ends = "in '2.jpg', " if where == "image" else "too early, "
    assert source.warnings[0].startswith(f"{tar}: it ends {ends}")
    assert source.warnings[0].endswith("its first 2 records are used")


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"cls": "cow"}, r"0.tar/9.cls: 'cow' is no class; expected one of the 2 names"),
        ({"cls": "7"}, r"0.tar/9.cls: '7' is no class"),
    ],
)
def test_a_label_that_is_none_is_named(record: dict[str, Any], message: str, classes: Path) -> None:
    (classes / CARD).write_text('{"class_names": ["no", "yes"]}')
    write_tar(classes / "0.tar", {"__key__": "9", "jpg": jpeg(1)} | record)
    with pytest.raises(ValueError, match=message):
        labels(classes)


def test_members_are_those_of_tarfile(tmp_path: Path) -> None:
    """In all of its formats, with long and other names, sizes in base 256, links and folders."""
    for number, format in enumerate((tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)):
        path = tmp_path / f"{number}.tar"
        with tarfile.open(path, "w", format=format, pax_headers={"comment": "of all"}) as archive:
            for name, size in (("a.jpg", 3), ("b/" * 60 + "c.jpg", 512), ("ü.png", 0), ("d.txt", 513)):
                member = tarfile.TarInfo(name)
                member.size, member.mtime = size, 5.25 if format == tarfile.PAX_FORMAT else 5  # type: ignore[assignment]
                archive.addfile(member, io.BytesIO(bytes(size)))
            for kind in (tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CONTTYPE, b"V"):
                member = tarfile.TarInfo(f"link{kind.decode()}")
                member.type, member.size = kind, 700 if kind in (tarfile.CONTTYPE, b"V") else 0
                member.linkname = "x" * (100 if format == tarfile.USTAR_FORMAT else 120)
                archive.addfile(member, io.BytesIO(bytes(member.size)))
            old = bytearray(tarfile.TarInfo("\xfc.jpg").tobuf(tarfile.GNU_FORMAT, "latin-1"))
            old[124:136] = b"\x80" + (5).to_bytes(11, "big")
            signed = sum(byte - 256 * (byte > 127) for byte in old[:148] + old[156:]) + 8 * ord(" ")
            old[148:156] = b"%06o\0 " % signed
            archive.fileobj.write(old + b"12345" + bytes(507))  # type: ignore[union-attr]
        with tarfile.open(path) as archive:
            expected = [(os.fsencode(m.name), m.offset_data, m.size) for m in archive if m.isreg()]
        assert len(expected) == 6
        assert list(map(tuple, read_members(path, str(path)))) == expected
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(TruncatedTarError, match=r"2.tar: it ends too early"):
        list(read_members(path, str(path)))


def sparse_member() -> bytes:
    """A file of GNU's old sparse format, with a block between its header and its data."""
    header = bytearray(tarfile.TarInfo("hole.jpg").tobuf(tarfile.GNU_FORMAT))
    header[156:157], header[124:136], header[482] = tarfile.GNUTYPE_SPARSE, b"%011o\0" % 512, 1
    header[386:410], header[483:495] = b"%011o\0" % 0 + b"%011o\0" % 512, b"%011o\0" % 4096
    header[148:156] = b"%06o\0 " % (sum(header[:148] + header[156:]) + 8 * ord(" "))
    return bytes(header) + bytes(512) + b"\7" * 512


def test_members_after_sparse_files_are_found(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        archive.fileobj.write(sparse_member())  # type: ignore[union-attr]
        for name, headers in (
            ("hole.png", {"GNU.sparse.size": "9"}),
            ("a.jpg", {}),
            ("b.jpg", {"path": ""}),
            ("c.jpg", {"size": ""}),
        ):
            member = tarfile.TarInfo(name)
            member.size, member.pax_headers = 3, headers
            archive.addfile(member, io.BytesIO(b"abc"))
    with tarfile.open(path) as archive:
        # By POSIX an empty value takes an earlier one back; tarfile takes it for no name, and no bytes.
        offsets = [member.offset_data for member in archive if member.isreg() and not member.issparse()]
    expected = [(name, offset, 3) for name, offset in zip((b"a.jpg", b"b.jpg", b"c.jpg"), offsets, strict=True)]
    assert list(map(tuple, read_members(path, str(path)))) == expected


def test_the_index_is_that_of_the_tar_file_or_none(classes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new one is built once; a damaged one, or one of another file, is passed over."""
    tar = Tar(classes / "0.tar")
    built: list[Path] = []

    def count(path: Path, name: str) -> TarIndex:
        built.append(path)
        return build_index(path, name)

    monkeypatch.setattr("datasets.shards.index.build_index", count)
    monkeypatch.setattr("datasets.shards.index.MIN_CACHED", 4)
    first, again = load_index(tar), load_index(tar)
    assert built == [tar.path]
    assert first.names.tolist() == again.names.tolist() == [b"0.jpg", b"1.jpg", b"2.jpg", b"3.jpg"]
    assert first.texts["cls"][3] == again.texts["cls"][3] == b"1"
    beside = tar.path.with_suffix(INDEX_SUFFIX)
    write_index(beside, replace(first, names=np.array([b"w", b"x", b"y", b"z"])))
    assert load_index(tar).names.tolist() == [b"w", b"x", b"y", b"z"]
    for data in (beside.read_bytes()[:-1], b"", beside.read_bytes().replace(b"num_bytes", b"num_bytez")):
        beside.write_bytes(data)
        assert load_index(tar).names.tolist() == first.names.tolist()
    spans = first.image_spans.copy()
    spans[2, 1] = 1 << 40
    write_index(beside, replace(first, image_spans=spans))
    assert read_index(beside) is None
    write_index(beside, first)
    write_tar(tar.path, {"__key__": "new", "jpg": jpeg(1), "cls": 0})
    assert load_index(tar).names.tolist() == [b"new.jpg"]


@pytest.fixture
def bucket(classes: Path) -> Iterator[str]:
    files = fsspec.filesystem("memory")
    for path in classes.iterdir():
        files.pipe(f"/b/{path.name}", path.read_bytes())
    yield "memory://b"
    files.store.clear()


def test_tar_files_in_a_bucket(bucket: str, classes: Path) -> None:
    here = labels(classes)
    for root in (bucket, f"{bucket}/{{0..1}}.tar"):
        there = labels(open_root(root))
        assert [there.id(row) for row in range(8)] == [f"memory://b/{k // 4}.tar/{k}.jpg" for k in range(8)]
        for row in (5, 0):
            np.testing.assert_array_equal(there[row].image, here[row].image)
            assert there.truth(row).class_id == here.truth(row).class_id
    with pytest.raises(ValueError, match=r"^memory://b/2.tar: there is no such file$"):
        open_root(f"{bucket}/{{0..2}}.tar")
    fsspec.filesystem("memory").pipe(f"/b/{CARD}", b'{"tars": ["0.tar", "1.tar", "2.tar"]}')
    with pytest.raises(ValueError, match=rf"^memory://b/{CARD}: 3 tar files, but there is no 2.tar$"):
        open_root(bucket)
    with pytest.raises(ValueError, match=r"^data.root: memory://c: there are no tar files$"):
        open_root("memory://c")


def test_the_host_of_a_folder_stays_in_its_urls(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of hdfs, whose paths do not have it."""
    files = SimpleNamespace(glob=lambda pattern: [pattern.replace("*", name) for name in ("1", "0")])
    monkeypatch.setattr("fsspec.core.url_to_fs", lambda url: (files, "/b/c"))
    assert bucket_tars("hdfs://host:9000/b/c/") == ["hdfs://host:9000/b/c/0.tar", "hdfs://host:9000/b/c/1.tar"]


def test_with_an_index_beside_it_a_remote_tar_file_is_copied_when_it_is_used(
    bucket: str, classes: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = fsspec.filesystem("memory")
    for number in range(2):
        write_index(classes / "i.safetensors", build_index(classes / f"{number}.tar"))
        files.pipe(f"/b/{number}{INDEX_SUFFIX}", (classes / "i.safetensors").read_bytes())
    source = labels(open_root(bucket))
    assert not list(cache.rglob("*.tar"))
    assert source[6].image.mean() == pytest.approx(6, abs=2)
    (copy,) = cache.rglob("*.tar")
    assert copy.read_bytes() == (classes / "1.tar").read_bytes()
    changed = copy.read_bytes()[:-1] + b"x"
    files.pipe("/b/1.tar", changed)  # another one of the same size
    assert labels(open_root(bucket))[6].image.mean() == pytest.approx(6, abs=2)
    assert {path.read_bytes() for path in cache.rglob("*.tar")} == {copy.read_bytes(), changed}
    files.pipe("/b/0.tar", b"shorter")
    monkeypatch.setattr("datasets.shards.tars.PAUSE_S", 0)
    with pytest.raises(ValueError, match=r"^memory://b/0.tar: 7 of its"):
        source[0]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("s3://b/{0..1}.tar", r"^s3://b/0.tar: a package for it is missing: Install s3fs"),
        ("file:///etc/{0..1}.tar", r"^file:///etc/0.tar: expected a folder, a tar file, http"),
        ("abfs://b@account.dfs.core.windows.net/{0..1}.tar", r"0.tar: a package for it is missing: .*adlfs"),
        ("abfs://b:s3cret@account/{0..1}.tar", r"^data.root: abfs://account/.*: expected a URL without a password"),
        ("simplecache::memory://b/0.tar", r"expected a folder, a tar file, http"),
        ("https://127.0.0.1:1/0.tar", r"^https://127.0.0.1:1/0.tar: cannot be read \(.*refused\)$"),
        ("https://me:s3cret@127.0.0.1:1/0.tar", r"127.0.0.1:1/0.tar: expected a URL without a password"),
        ("https://127.0.0.1:1/folder", r"expected a list such as .*\.tar"),
    ],
)
def test_an_address_that_cannot_be_read_is_a_line(url: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        open_root(url)
    assert "s3cret" not in str(caught.value)


def test_expired_credentials_are_a_line(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError("The provided token has expired.\nRequest 5")

    monkeypatch.setattr("fsspec.implementations.memory.MemoryFileSystem.info", refuse)
    with pytest.raises(ValueError, match=r"^memory://b/0.tar: The provided token has expired") as caught:
        open_root(f"{bucket}/0.tar")
    assert "\n" not in str(caught.value)


def test_tar_files_at_urls(classes: Path, cache: Path) -> None:
    """And a list with a gap; a redirect leads to no file. Where nobody may list a bucket, what is missing is a 403."""
    with serve(classes, missing=403) as url:
        assert len(labels(open_root(f"{url}/{{0..1}}.tar"))) == 8
    with serve(classes) as url:
        source = labels(open_root(f"{url}/{{0..1}}.tar"))
        assert source.id(5) == f"{url}/1.tar/5.jpg"
        np.testing.assert_array_equal(source[5].image, labels(classes)[5].image)
        copies = set(cache.rglob("*.tar"))
        os.utime(classes / "1.tar", (0, 0))  # another one of the same size
        assert len(labels(open_root(f"{url}/{{0..1}}.tar"))) == 8
        assert len(set(cache.rglob("*.tar")) - copies) == 1
        with pytest.raises(ValueError, match=rf"^{url}/2.tar: the server answered 404 \(File not found\)$"):
            open_root(f"{url}/{{0..2}}.tar")
        (classes / CARD).write_text(f'{{"kind": {"1" * 5000}}}')
        with pytest.raises(ValueError, match=rf"^{url}/{CARD}: not valid JSON: "):
            open_root(f"{url}/0.tar")
        with pytest.raises(ValueError, match=rf"^{url}/to_file.tar: .*file://.*not allowed"):
            open_root(f"{url}/to_file.tar")


def test_an_address_that_fails_in_a_loader_process_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """torch makes a traceback the message of the error."""

    def run() -> int:
        try:
            raise UrlError("https://host/0.tar: 7 of its 99 bytes came")
        except UrlError:
            ExceptionWrapper(where="in DataLoader worker process 0").reraise()
        return 0

    assert exit_status(run) == 1
    assert capsys.readouterr().err == "error: https://host/0.tar: 7 of its 99 bytes came\n"


def test_images_of_tar_files_elsewhere_come_a_few_files_at_a_time() -> None:
    """Each image once an epoch, by one process; a later start goes on with the same images."""
    shard_ids = np.repeat(np.arange(20, dtype=np.int32), 6)
    order = ShardOrder(shard_ids)

    def batches(rank: int = 0, world_size: int = 1, first: int = 0, seed: int = 1) -> list[list[int]]:
        sampler = TrainingBatches(120, 10, seed, order=order, rank=rank, world_size=world_size)
        sampler.start_at(3, first)
        return [[key.row for key in batch] for batch in sampler]

    rows = np.concatenate(batches())
    assert sorted(rows) == list(range(120))
    assert len({*shard_ids[rows[:48]]}) == BUFFER_TARS
    assert len({*shard_ids[rows[:10]]}) > 3
    assert batches(first=7) == batches()[7:]
    assert batches(seed=2) != batches()
    of_ranks = [np.concatenate(batches(rank, 3)) for rank in range(3)]
    assert sorted(np.concatenate(of_ranks)) == list(range(120))


@contextmanager
def serve(folder: Path, missing: int = 404) -> Iterator[str]:
    """A server of the files in a folder: its URL."""

    class Handler(SimpleHTTPRequestHandler):
        def send_head(self) -> Any:
            if self.path == "/to_file.tar":
                self.send_response(302)
                self.send_header("Location", f"file://{folder}/0.tar")
                self.end_headers()
            elif self.path == "/1.tar" and self.command == "HEAD":
                self.send_error(405)
            elif not (folder / self.path[1:]).exists():
                self.send_error(missing, "File not found")
            else:
                return super().send_head()
            return None

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_tar_files_are_written_as_tar_files_alone(
    classes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path.parent / f"{tmp_path.name} out"
    command = ["convert", str(classes), "--out", str(out)]
    assert main([*command, "--to", "webdataset"]) == 0
    assert content(open_folder(out)[1]) == content(open_folder(classes)[1])
    shutil.rmtree(out)
    assert main(["split", str(classes), "--val_fraction", "0.5", "--out", str(out)]) == 1
    assert "images in tar files are written by `convert --to webdataset` alone" in capsys.readouterr().err


def test_members_of_no_record_are_counted(classes: Path) -> None:
    """Hidden ones, as macOS adds, texts without an image, a member that is there twice, an image without a label, and
    a name that would break a message's line."""
    with tarfile.open(classes / "0.tar", "a") as archive:
        for name in ("._0.jpg", "8.cls", "1.CLS", "9.jpg", "10\n.jpg", "10\n.cls"):
            member = tarfile.TarInfo(name)
            member.size = 1
            archive.addfile(member, io.BytesIO(b"1"))
    source = labels(classes)
    assert len(source) == 8
    assert source.class_ids.tolist() == [0, 1] * 4
    assert source.warnings == [
        f"{classes}: 1 image without key.cls or key.txt left out",
        f"{classes}: 5 members of no image, or there twice, left out",
    ]
