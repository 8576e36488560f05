"""Pascal VOC: an XML file for each image, in `Annotations/` or beside the images; splits by lists or folders.

Entities, by which a small file can expand to gigabytes, are refused; nothing else of the standard library's parser
(expat) is open to XML attacks in files without entities.

Format: section 4 of the VOC2012 development kit, http://host.robots.ox.ac.uk/pascal/VOC/voc2012/devkit_doc.pdf.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from datasets.detection.annotated import AnnotatedImages
from datasets.detection.annotation_files import Annotation, AnnotationFiles
from datasets.detection.pairing import by_split, count_splits, parent, stem
from datasets.detection.sizes import as_size
from datasets.detection.sniff import has_pattern
from datasets.listing import list_files
from datasets.splits import SPLITS, SplitData, split_named
from datasets.types import Split
from datasets.words import some

EXPECTED = "Pascal VOC's XML files, in Annotations/ or beside the images"
_ROOT = re.compile(rb"<annotation[\s>]")
_SNIFFED_BYTES = 1 << 12
_TRAINVAL = "trainval"  # the list of train and val
_FLAGS = {"": False, "0": False, "false": False, "unspecified": False, "1": True, "true": True}


def find_voc(root: Path) -> SplitData[AnnotatedImages] | None:
    """The splits of a folder with Pascal VOC annotations; None if it has none.

    The lists of `ImageSets/Main` go before folders that name splits; `trainval` stands in for the one of train and val
    that has no list. Lists of single categories (`aeroplane_train.txt`) are not used.

    Raises:
        ValueError: if the folder cannot be listed.
    """
    listed = list_files(root)
    files = listed.get(".xml", [])
    if not files or not has_pattern(root, files, _ROOT, _SNIFFED_BYTES):
        return None
    lists = _split_lists(listed.get(".txt", []))
    parts, lines = _read_lists(root, lists, files)
    if parts:
        where = f"lists in {parent(lists[0][1]) or '.'}/"
    else:
        parts, rest = by_split(files)
        where = "by folders" if len(parts) > 1 else "XML"
        texts = [text for _, text in lists]
        lines = [f"{root}: {some(texts, 'list')} with none of the annotation files, not used"] if texts else []
        lines += [f"{root}: {some(rest, 'annotation file')} of no split, left out"] if rest else []
    data = AnnotationFiles(root, parts, listed.get(None, []), read_annotation, stem_first=True, warnings=lines)
    return data.splits(f"Pascal VOC annotations ({where}): {count_splits(parts, 'files')}")


def read_annotation(file: Path) -> Annotation:
    """Read an annotation file.

    Coordinates are indices of pixels from 1 to the width or height, and a box includes both ends: in the suite's
    coordinates it begins at xmin - 1 and ends at xmax. Corners in the other order are exchanged and counted, and boxes
    whose ends are equal, which tools write where somebody clicked, stay without an area. Difficult objects are crowds:
    neither trained on nor scored, as in VOC's protocol.

    Raises:
        ValueError: naming the file: it is not XML or not of this format; or an object has no name or no box.
    """
    root = _parse(file)
    if root.tag != "annotation":
        raise ValueError(f"{file}: the root is <{root.tag:.40}>; expected <annotation>")
    size_hw = (as_size(root.findtext("size/height")), as_size(root.findtext("size/width")))
    annotation = Annotation(_text(root, "filename"), size_hw)
    for number, element in enumerate(root.iterfind("object"), 1):
        where = f"{file}: object {number}"
        name = _text(element, "name")
        box = element.find("bndbox")
        if not name or box is None:
            raise ValueError(
                f"{where}: expected a <name> and a <bndbox>, there is no {'name' if not name else 'bndbox'}"
            )
        x0, y0, x1, y1 = (_coordinate(where, box, tag) for tag in ("xmin", "ymin", "xmax", "ymax"))
        if x0 > x1 or y0 > y1:
            annotation.remarks["boxes have xmin above xmax or ymin above ymax: exchanged"] += 1
            x0, y0, x1, y1 = min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)
        flag = _text(element, "difficult").lower()
        if flag not in _FLAGS:
            raise ValueError(f"{where}: <difficult> must be 0 or 1, got {flag!r:.40}")
        if _FLAGS[flag]:
            annotation.remarks["objects are difficult: neither trained on nor scored, as in VOC's protocol"] += 1
        box_xyxy = (x0 - (x0 < x1), y0 - (y0 < y1), x1, y1)
        annotation.add(name, box_xyxy, is_crowd=_FLAGS[flag])
    return annotation


def _parse(file: Path) -> ElementTree.Element:
    try:
        data = file.read_bytes()
        if b"<!ENTITY" in data.replace(b"\0", b""):  # UTF-16 has NULs; other encodings of XML are ASCII here
            raise ValueError("it declares entities, which are refused")
        return ElementTree.fromstring(data)
    except OSError as error:
        raise ValueError(f"{file}: {error.strerror}; expected an annotation file") from error
    except (ValueError, LookupError, ElementTree.ParseError) as error:
        raise ValueError(f"{file}: not valid XML: {error}") from error


def _text(element: ElementTree.Element, path: str) -> str:
    return (element.findtext(path) or "").strip()


def _coordinate(where: str, box: ElementTree.Element, tag: str) -> float:
    text = _text(box, tag)
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{where}: <{tag}> must be a number of pixels, got {text!r:.40}")
    return number


def _split_lists(texts: Sequence[str]) -> list[tuple[str, str]]:
    """The name (a split, or trainval) and file of each list; several development kits have their own."""
    named = [(_TRAINVAL if stem(text).lower() == _TRAINVAL else split_named(stem(text)), text) for text in texts]
    lists = [(str(name), text) for name, text in named if name is not None]
    for folder in ("/ImageSets/Main", "/ImageSets"):
        if found := [(name, text) for name, text in lists if f"/{parent(text)}".endswith(folder)]:
            return found
    return [(name, text) for name, text in lists if not parent(text)]


def _read_lists(
    root: Path, lists: Sequence[tuple[str, str]], files: Sequence[str]
) -> tuple[dict[Split, list[str]], list[str]]:
    """The annotation files of each split by lists, and warnings for images and files that are left out."""
    listed: defaultdict[str, dict[str, None]] = defaultdict(dict)  # ordered sets
    lines = []
    for name, text in lists:
        found, missing = _read_list(root, text, files)
        listed[name].update(dict.fromkeys(found))
        if missing:
            lines.append(f"{root / text}: {some(missing, 'image')} without an annotation file, left out")
    used = set().union(*listed.values())
    if trainval := listed.pop(_TRAINVAL, None):
        splits: tuple[Split, Split] = ("train", "val")
        if not any(listed.get(split) for split in splits):
            listed["train"] = trainval
        for split, other in (splits, splits[::-1]):
            if not listed.get(split):
                listed[split] = {file: None for file in trainval if file not in listed[other]}
    if rest := [file for file in files if file not in used]:
        lines.append(f"{root}: {some(rest, 'annotation file')} in no list, left out")
    return {split: list(listed[split]) for split in SPLITS if listed.get(split)}, lines


def _read_list(root: Path, text: str, files: Sequence[str]) -> tuple[list[str], list[str]]:
    """The annotation files of a list, and its lines that have none.

    A line is the stem or the file of an image, perhaps with a second column.
    """
    kit = text.partition("ImageSets/")[0] if "ImageSets/" in text else ""
    by_stem = {stem(file): file for file in reversed(files) if file.startswith(kit)}
    found, missing = [], []
    for line in (root / text).read_text(encoding="utf-8-sig", errors="surrogateescape").split("\n"):
        columns = [line.strip(), *line.rsplit(maxsplit=1)[:1]]
        names = [name.replace("\\", "/").rpartition("/")[2] for name in columns if name]
        file = next((by_stem[name] for name in (*names, *map(stem, names)) if name in by_stem), None)
        if file is not None:
            found.append(file)
        elif names:
            missing.append(line.strip())
    return found, missing
