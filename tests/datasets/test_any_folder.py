"""Whatever is in a folder, each reader reads it or raises a ValueError that names the file or the folder."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.ExifTags import GPS, IFD

from datasets.celeba import open_attributes
from datasets.classification.class_folders import open_labelled
from datasets.faces import FaceImages, open_faces, read_lfw
from datasets.geolocation.places import open_places
from datasets.splits import Holdout, SplitData
from tests.datasets.strategies import JPEG, damaged, names, read_or_named, trees, written

holdouts = st.sampled_from([None, Holdout(0, 0.2), Holdout(0, 1), Holdout(0.2, 0.4, is_fold=True)])


def mat(names: list[str], labels: list[int]) -> bytes:
    file = io.BytesIO()
    scipy.io.savemat(file, {"file_list": np.array([[name] for name in names], object), "labels": np.array([labels]).T})
    return file.getvalue()


DOGS = {
    "train_list.mat": mat(["n1-a/1.jpg", "n1-a/2.jpg", "n2-b/1.jpg"], [1, 1, 2]),
    "test_list.mat": mat(["n1-a/3.jpg", "n2-b/2.jpg"], [1, 2]),
}
DOG_IMAGES = {f"Images/{name}": JPEG for name in ("n1-a/1.jpg", "n1-a/2.jpg", "n1-a/3.jpg", "n2-b/1.jpg")}
IMAGENET = b"n01 a fish\nn02 a cat\nn03 a dog, a good one\n"
PAIRS = b"2\t1\nAnn\t1\t2\nAnn\t1\tBob\t1\nAnn\t1\t2\nBob\t1\tAnn\t2\n"
LFW_IMAGES = {"Ann/Ann_0001.jpg": JPEG, "Ann/Ann_0002.jpg": JPEG, "Bob/Bob_0001.jpg": JPEG}
CELEBA = b"3\nSmiling Young\n1.jpg  1 -1\n2.jpg -1 -1\n3.jpg 1 1\n"
CELEBA_CSV = b"image_id,Smiling,Young,split\n1.jpg,1,-1,train\n2.jpg,-1,-1,train\n3.jpg,1,1,test\n"
PARTITIONS = b"1.jpg 0\n2.jpg 1\n3.jpg 2\n"
CELEBA_IMAGES = {f"img_align_celeba/{index}.jpg": JPEG for index in range(1, 4)}
PLACES = b"IMG_ID,LAT,LON,split,AUTHOR\n1.jpg,52.5,13.4,train,x\n2.jpg,-33.9,151.2,train,y\n3.jpg,0.5,0.25,val,z\n"
PLACE_IMAGES = {f"images/{index}.jpg": JPEG for index in range(1, 4)}


def exif_jpeg() -> bytes:
    image, file = Image.new("RGB", (8, 6)), io.BytesIO()
    exif = image.getexif()
    exif.get_ifd(IFD.GPSInfo).update(
        {
            GPS.GPSLatitudeRef: "S",
            GPS.GPSLatitude: (33.0, 51.0, 54.0),
            GPS.GPSLongitudeRef: "E",
            GPS.GPSLongitude: (151.0, 12.0, 36.0),
        }
    )
    image.save(file, "JPEG", exif=exif)
    return file.getvalue()


def shard(records: list[bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for index, record in enumerate(records):
            for name, content in ((f"{index}.jpg", JPEG), (f"{index}.json", record)):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


def open_lfw(root: Path) -> SplitData[FaceImages]:
    photos, folds = read_lfw(root)
    assert len(folds) > 1
    assert all(folds)
    return SplitData(root, "pairs", {"val": lambda: photos})


@given(trees(), holdouts)
def test_any_folder_of_classes(tree: dict[str, bytes], holdout: Holdout | None) -> None:
    with written(tree) as root:
        for format in ("auto", "folder", "imagenet", "stanford_dogs"):
            read_or_named(root, lambda root, f=format: open_labelled(root, format=f, holdout=holdout)[0])  # type: ignore[misc]


@given(damaged(IMAGENET), trees(st.one_of(st.sampled_from(["n01", "n02", "n03", "val", "1.jpg"]), names)))
def test_any_list_of_classes(content: bytes, tree: dict[str, bytes]) -> None:
    with written(tree | {"classes.txt": content}) as root:
        read_or_named(root, lambda root: open_labelled(root)[0])
        read_or_named(root, lambda root: open_labelled(root, format="imagenet")[0])


@given(damaged(DOGS["train_list.mat"]), damaged(DOGS["test_list.mat"]), holdouts)
def test_any_lists_of_stanford_dogs(train: bytes, test: bytes, holdout: Holdout | None) -> None:
    with written(DOG_IMAGES | {"train_list.mat": train, "test_list.mat": test}) as root:
        read_or_named(root, lambda root: open_labelled(root, holdout=holdout)[0])


@given(
    st.lists(st.text(max_size=8), min_size=1, max_size=4),
    st.lists(st.integers(-1, 4), min_size=1, max_size=4),
    holdouts,
)
def test_any_names_in_the_lists_of_stanford_dogs(files: list[str], labels: list[int], holdout: Holdout | None) -> None:
    with written(DOG_IMAGES | DOGS | {"train_list.mat": mat(files, labels)}) as root:
        read_or_named(root, lambda root: open_labelled(root, holdout=holdout)[0])


@given(trees(), holdouts)
def test_any_folder_of_persons(tree: dict[str, bytes], holdout: Holdout | None) -> None:
    with written(tree) as root:
        read_or_named(root, lambda root: open_faces(root, holdout))


@given(damaged(PAIRS))
def test_any_pairs(content: bytes) -> None:
    with written(LFW_IMAGES | {"pairs.txt": content}) as root:
        read_or_named(root, open_lfw)


@given(
    st.sampled_from(["list_attr_celeba.txt", "list_attr_celeba.csv", "my attributes.tsv"]),
    st.one_of(damaged(CELEBA), damaged(CELEBA_CSV), st.binary(max_size=100)),
    st.sampled_from([None, "list_eval_partition.txt", "partitions.csv"]),
    damaged(PARTITIONS),
    holdouts,
)
def test_any_lists_of_attributes(
    name: str, content: bytes, partitions: str | None, partition: bytes, holdout: Holdout | None
) -> None:
    tree = CELEBA_IMAGES | {name: content} | ({} if partitions is None else {partitions: partition})
    with written(tree) as root:
        read_or_named(root, lambda root: open_attributes(root, holdout))


@given(
    trees(st.one_of(names, st.sampled_from(["list_attr_celeba.csv", "partition.txt", "img_align_celeba"]))), holdouts
)
def test_any_folder_of_attributes(tree: dict[str, bytes], holdout: Holdout | None) -> None:
    with written(tree) as root:
        read_or_named(root, lambda root: open_attributes(root, holdout))


@given(
    st.one_of(damaged(PLACES), damaged(PLACES.replace(b",", b";")), st.binary(max_size=100)),
    st.sampled_from(["utf-8", "utf-16", "latin-1"]),
    holdouts,
    st.sampled_from(["place", "author"]),
)
def test_any_table_of_places(content: bytes, encoding: str, holdout: Holdout | None, group_by: Any) -> None:
    content = content.decode("latin-1").encode(encoding)
    with written(PLACE_IMAGES | {"places.csv": content}) as root:
        read_or_named(root, lambda root: open_places(root, holdout=holdout, group_by=group_by))


@given(trees(), holdouts)
def test_any_folder_of_places(tree: dict[str, bytes], holdout: Holdout | None) -> None:
    with written(tree) as root:
        for format in ("auto", "csv", "exif", "shards"):
            read_or_named(root, lambda root, f=format: open_places(root, format=f, holdout=holdout))  # type: ignore[misc]


@given(st.lists(damaged(exif_jpeg()), min_size=1, max_size=4), holdouts)
def test_any_exif_data(files: list[bytes], holdout: Holdout | None) -> None:
    tree = {f"{index}.jpg": content for index, content in enumerate(files)}
    with written(tree | {"good.jpg": exif_jpeg()}) as root:
        read_or_named(root, lambda root: open_places(root, holdout=holdout))


RECORDS = [json.dumps({"lat": 52.5, "lon": 13.4 + index, "split": "train"}).encode() for index in range(3)]


@given(st.one_of(damaged(shard(RECORDS)), st.lists(damaged(RECORDS[0]), max_size=3).map(shard)), holdouts)
def test_any_shard(content: bytes, holdout: Holdout | None) -> None:
    with written({"0.tar": content}) as root:
        read_or_named(root, lambda root: open_places(root, holdout=holdout))


def test_the_files_that_are_damaged_can_be_read_whole() -> None:
    """Else the tests above would test nothing but errors."""
    with written(DOG_IMAGES | DOGS) as root:
        assert read_or_named(root, lambda root: open_labelled(root)[0])
    with written(LFW_IMAGES | {"pairs.txt": PAIRS}) as root:
        assert read_or_named(root, open_lfw)
    for name, content in (("list_attr_celeba.txt", CELEBA), ("attr.csv", CELEBA_CSV)):
        with written(CELEBA_IMAGES | {name: content, "list_eval_partition.txt": PARTITIONS}) as root:
            assert read_or_named(root, open_attributes)
    with written(PLACE_IMAGES | {"places.csv": PLACES}) as root:
        assert read_or_named(root, open_places)
    with written({"0.tar": shard(RECORDS)}) as root:
        assert read_or_named(root, open_places)
    with written({"0.jpg": exif_jpeg()}) as root:
        assert read_or_named(root, open_places)
