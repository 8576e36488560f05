"""Masks: read and write their files, and stretch them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import cv2
import numpy as np
import PIL.Image
from numpy.typing import NDArray

from datasets.images.headers import SIGNATURE_BYTES, format_of, open_with_pillow
from datasets.images.read import UnreadableImageError, header_of, read_bytes
from datasets.images.sizes import TooLargeError, check_pixels
from datasets.types import VOID, Mask

NUM_VALUES = 256
UNKNOWN = -1  # in a table of class ids: the value is none of the classes
VOID_NAMES = frozenset({"void", "ignore", "ignored", "unlabelled", "unlabeled"})
_GREY, _COLOURED = ("1", "L", "P"), ("RGB", "RGBA")  # modes of Pillow
_LOSSY = ("JPEG", "AVIF", "HEIC")


@dataclass(frozen=True, eq=False)
class MaskCoding:
    """How the values of mask files become class ids.

    Attributes:
        class_names: by class id, without void.
        class_id_of: int16 (256,), of each value, `VOID` or `UNKNOWN`.
        has_colours: whether masks of three channels have the colours of Pascal VOC's palette; they must be grey
            otherwise.
    """

    class_names: tuple[str, ...]
    class_id_of: NDArray[np.int16]
    has_colours: bool = False

    @classmethod
    def of_names(cls, names: Sequence[str], *, has_colours: bool = False) -> Self:
        """The coding where a value is the index of a name; 255 is void, and so is a name such as `Void`."""
        table = np.full(NUM_VALUES, UNKNOWN, np.int16)
        table[VOID] = VOID
        class_names: list[str] = []
        for value, name in enumerate(names):
            is_void = name.lower() in VOID_NAMES
            table[value] = VOID if is_void else len(class_names)
            if not is_void:
                class_names.append(name)
        return cls(tuple(class_names), table, has_colours)

    @classmethod
    def of_instances(cls, class_names: tuple[str, str]) -> Self:
        """The coding where 0 is background, and each object of one class has a value of its own."""
        return cls(class_names, np.minimum(np.arange(NUM_VALUES), 1).astype(np.int16))


def read_mask(path: Path, coding: MaskCoding) -> NDArray[np.uint8]:
    """The class ids (H, W) in a mask file: a grey or palette image of 8 bits.

    Raises:
        UnreadableImageError: if it is missing or damaged, of another kind, or has values that are none of the classes.
    """
    return decode_mask(read_bytes(path), path, coding)


def decode_mask(data: bytes, path: Path | str, coding: MaskCoding) -> NDArray[np.uint8]:
    """The class ids (H, W) in the bytes of a mask file.

    Args:
        data: the file.
        path: for error messages.
        coding: of its values.

    Raises:
        UnreadableImageError: see `read_mask`.
    """
    values = _decode_values(data, path, has_colours=coding.has_colours)
    class_ids = coding.class_id_of[values]
    if (class_ids == UNKNOWN).any():
        unknown = sorted(set(np.unique(values).tolist()) - set(np.flatnonzero(coding.class_id_of != UNKNOWN).tolist()))
        raise UnreadableImageError(
            f"{path}: its value {unknown[-1]} is no class id; expected ids of {len(coding.class_names)} classes, or "
            "255 for void; add the missing classes to the list, or make such pixels 255"
        )
    return class_ids.astype(np.uint8)


def write_mask(path: Path, class_ids: NDArray[np.uint8]) -> None:
    """Write a mask as a PNG file with Pascal VOC's palette."""
    path.write_bytes(encode_mask(class_ids))


def encode_mask(class_ids: NDArray[np.uint8]) -> bytes:
    """A mask as the bytes of a PNG file with Pascal VOC's palette."""
    picture = PIL.Image.fromarray(class_ids)
    picture.putpalette(palette().tobytes())
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def resize_mask(mask: Mask, image_hw: tuple[int, int]) -> Mask:
    """The classes after the image is stretched to `image_hw` pixels.

    Logits are interpolated bilinearly before the highest is taken, class by class, since those of all classes at a
    photo's size can be gigabytes. Without logits the classes are those of the nearest pixels.
    """
    size = (image_hw[1], image_hw[0])
    if mask.logits is None:
        if mask.class_ids.shape == tuple(image_hw):
            return mask
        return Mask(cv2.resize(mask.class_ids, size, interpolation=cv2.INTER_NEAREST_EXACT))  # type: ignore[arg-type]
    class_ids = np.zeros(image_hw, np.uint8)
    highest = cv2.resize(mask.logits[0], size, interpolation=cv2.INTER_LINEAR)
    for class_id, logits in enumerate(mask.logits[1:], 1):
        resized = cv2.resize(logits, size, interpolation=cv2.INTER_LINEAR)
        class_ids[resized > highest] = class_id
        np.maximum(highest, resized, out=highest)
    return Mask(class_ids)


def palette() -> NDArray[np.uint8]:
    """Pascal VOC's colours, uint8 (256, 3): bit b of channel c is bit 3 * (7 - b) + c of the value.

    Source: `VOClabelcolormap.m` of the VOC2012 development kit, http://host.robots.ox.ac.uk/pascal/VOC/voc2012/.
    """
    values = np.arange(NUM_VALUES)
    colours = np.zeros((NUM_VALUES, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= ((values >> (3 * bit + channel) & 1) << (7 - bit)).astype(np.uint8)
    return colours


def _decode_values(data: bytes, path: Path | str, *, has_colours: bool) -> NDArray[np.uint8]:
    try:
        file_format = format_of(data[:SIGNATURE_BYTES]) or ""
        picture = open_with_pillow(io.BytesIO(data), file_format)
        check_pixels(picture.width, picture.height)
        mode = picture.mode
        values = np.asarray(picture).astype(np.uint8) if mode in (*_GREY, *_COLOURED) else None
    except (TooLargeError, PIL.Image.DecompressionBombError) as error:  # TIFF and WebP keep Pillow's limit
        raise UnreadableImageError(f"{path}: {error}") from error
    except Exception as error:  # of many types, as SyntaxError and MemoryError for damaged PNGs
        reason = getattr(error, "strerror", None) or "no image that can be read"
        raise UnreadableImageError(f"{path}: {reason}; expected a mask, a grey or palette PNG of 8 bits") from error
    if file_format in _LOSSY:
        raise UnreadableImageError(f"{path}: a mask in {file_format}, which changes the ids; expected PNG")
    is_deep = mode.startswith(("I", "F")) or (
        mode in _COLOURED and header_of(data, path).bits > 8
    )  # Pillow cuts bits off
    if values is None or is_deep:
        depth = "16 bits or more" if is_deep else f"mode {mode}"
        raise UnreadableImageError(f"{path}: a mask of {depth}; expected a grey or palette PNG of 8 bits")
    if values.ndim == 2:
        return values
    return _ids_of_colours(path, values[..., :3]) if has_colours else _ids_of_grey(path, values[..., :3])


def _ids_of_grey(path: Path | str, colours: NDArray[np.uint8]) -> NDArray[np.uint8]:
    is_coloured = (colours != colours[..., :1]).any(-1)
    if is_coloured.any():
        raise UnreadableImageError(
            f"{path}: a mask of colours, such as {_first(colours, is_coloured)}; expected class ids in a grey or "
            "palette PNG of 8 bits"
        )
    return colours[..., 0]


def _ids_of_colours(path: Path | str, colours: NDArray[np.uint8]) -> NDArray[np.uint8]:
    shifts = np.array([1 << 16, 1 << 8, 1])
    known = palette() @ shifts
    order = np.argsort(known)
    codes = colours @ shifts
    places = np.searchsorted(known[order], codes).clip(max=NUM_VALUES - 1)
    is_unknown = known[order][places] != codes
    if is_unknown.any():
        raise UnreadableImageError(
            f"{path}: its colour {_first(colours, is_unknown)} is not in Pascal VOC's palette; expected its colours, "
            "or class ids in a grey or palette PNG of 8 bits"
        )
    ids: NDArray[np.uint8] = order[places].astype(np.uint8)
    return ids


def _first(colours: NDArray[np.uint8], chosen: NDArray[np.bool_]) -> tuple[int, ...]:
    return tuple(colours[chosen][0].tolist())
