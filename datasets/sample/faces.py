"""Generated faces for both face tasks.

Identities differ slightly in the proportions of head, eyes, brows, nose and mouth, and in the colours of skin, eyes and
hair. Photos of one identity differ in attributes, pose, light, sharpness and background.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import NamedTuple

import cv2
import numpy as np

from datasets.sample.brush import Brush, Colour
from datasets.types import Image

SIDE_PX = 112
ATTRIBUTES = {  # fraction of photos with it
    "Bangs": 0.25,
    "Beard": 0.2,
    "Bushy_Eyebrows": 0.15,
    "Earrings": 0.2,
    "Eyeglasses": 0.15,
    "Freckles": 0.1,
    "Long_Hair": 0.4,
    "Mouth_Open": 0.3,
    "Smiling": 0.5,
    "Wearing_Hat": 0.08,
}
SKINS: tuple[Colour, ...] = ((92, 60, 42), (141, 92, 62), (188, 132, 96), (222, 170, 134), (240, 200, 172))
HAIRS: tuple[Colour, ...] = ((30, 24, 22), (72, 46, 30), (120, 76, 42), (196, 156, 88), (150, 150, 150), (140, 60, 30))
IRISES: tuple[Colour, ...] = ((60, 40, 24), (96, 66, 34), (70, 110, 150), (74, 116, 74), (110, 120, 126))
INK: Colour = (28, 22, 22)
LIPS: Colour = (150, 70, 70)
TEETH: Colour = (240, 238, 230)


class Identity(NamedTuple):
    """Lengths as fractions of the image side, and colours."""

    head_width: float
    head_height: float
    jaw: float
    eye_distance: float
    eye_height: float
    eye_size: float
    brow_height: float
    brow_slope: float
    nose_length: float
    nose_width: float
    mouth_height: float
    mouth_width: float
    lips: float
    skin: Colour
    hair: Colour
    iris: Colour


def sample_identity(rng: np.random.Generator) -> Identity:
    """A random identity."""

    def near(base: tuple[Colour, ...]) -> Colour:
        chosen = np.array(base[int(rng.integers(len(base)))]) + rng.normal(0, 8, 3)
        red, green, blue = np.clip(chosen, 0, 255)
        return int(red), int(green), int(blue)

    return Identity(
        head_width=rng.uniform(0.23, 0.31),
        head_height=rng.uniform(0.31, 0.39),
        jaw=rng.uniform(0.55, 0.95),
        eye_distance=rng.uniform(0.095, 0.14),
        eye_height=rng.uniform(0.42, 0.48),
        eye_size=rng.uniform(0.03, 0.05),
        brow_height=rng.uniform(0.055, 0.085),
        brow_slope=rng.uniform(-0.025, 0.03),
        nose_length=rng.uniform(0.1, 0.17),
        nose_width=rng.uniform(0.03, 0.065),
        mouth_height=rng.uniform(0.69, 0.75),
        mouth_width=rng.uniform(0.075, 0.13),
        lips=rng.uniform(0.012, 0.03),
        skin=near(SKINS),
        hair=near(HAIRS),
        iris=near(IRISES),
    )


def sample_attributes(rng: np.random.Generator) -> set[str]:
    """A random set of attributes, with the frequencies of `ATTRIBUTES`."""
    return {name for name, frequency in ATTRIBUTES.items() if rng.random() < frequency}


def draw_face(identity: Identity, attributes: Collection[str], rng: np.random.Generator) -> Image:
    """A photo of an identity, (SIDE_PX, SIDE_PX, 3)."""
    canvas = _background(rng)
    side = rng.uniform(0.94, 1.06) * SIDE_PX
    left, top = (SIDE_PX - side) / 2 + rng.normal(0, 0.02 * SIDE_PX, 2)
    brush = Brush(canvas, left, top, side, rng, tilt=0.07, stretch=0.03, may_mirror=False)
    _draw_head(_Pen(brush, yaw=rng.normal(0, 0.25), pitch=rng.normal(0, 0.2)), identity, attributes, rng)
    return _photograph(canvas, rng)


class _Pen:
    """Draws on a slightly turned head: points nearer to the viewer are displaced further."""

    def __init__(self, brush: Brush, *, yaw: float, pitch: float) -> None:
        self.brush = brush
        self._shift = (0.09 * math.sin(yaw), 0.06 * math.sin(pitch))
        self._narrow = math.cos(yaw)

    def at(self, x: float, y: float, depth: float = 1) -> tuple[float, float]:
        """Image coordinates of a point at a depth in front of the ears; x is relative to the middle of the face."""
        return 0.5 + x * self._narrow + depth * self._shift[0], y + depth * self._shift[1]

    def ellipse(self, x: float, y: float, radius_x: float, radius_y: float, colour: Colour, depth: float = 1) -> None:
        self.brush.ellipse(*self.at(x, y, depth), radius_x * self._narrow, radius_y, colour)

    def polygon(self, points: list[tuple[float, float]], colour: Colour, depth: float = 1) -> None:
        self.brush.polygon([self.at(x, y, depth) for x, y in points], colour)

    def stroke(self, points: list[tuple[float, float]], width: float, colour: Colour, depth: float = 1) -> None:
        """A line of the given width through points, from left to right."""
        upper = [(x, y - width / 2) for x, y in points]
        lower = [(x, y + width / 2) for x, y in reversed(points)]
        self.polygon(upper + lower, colour, depth)


def _draw_head(pen: _Pen, face: Identity, attributes: Collection[str], rng: np.random.Generator) -> None:
    """From the back to the front."""
    width, height = face.head_width, face.head_height
    dark = _shade(face.skin, 0.8)
    pen.ellipse(0, 1.02, 0.42, 0.2, _clothes(rng), depth=-0.5)  # clothes
    pen.polygon([(-0.1, 0.7), (0.1, 0.7), (0.12, 0.95), (-0.12, 0.95)], dark, depth=0)
    if "Long_Hair" in attributes:
        pen.ellipse(0, 0.5, width + 0.09, height + 0.02, face.hair, depth=-0.5)
        pen.polygon(
            [(-width - 0.08, 0.5), (width + 0.08, 0.5), (width + 0.1, 0.9), (-width - 0.1, 0.9)], face.hair, -0.5
        )
        pen.polygon([(-0.1, 0.7), (0.1, 0.7), (0.12, 0.95), (-0.12, 0.95)], dark, depth=0)
    else:
        pen.ellipse(0, 0.42, width + 0.03, height - 0.04, face.hair, depth=-0.3)
    for side in (-1, 1):
        pen.ellipse(side * (width + 0.005), face.eye_height + 0.05, 0.03, 0.055, dark, depth=0)
        if "Earrings" in attributes:
            pen.ellipse(side * (width + 0.012), face.eye_height + 0.13, 0.026, 0.034, (235, 205, 90), depth=0)
    pen.ellipse(0, 0.5, width, height, face.skin, depth=0.3)
    pen.polygon(_jaw(face), face.skin, depth=0.3)
    if "Beard" in attributes:
        _draw_beard(pen, face)
    _draw_hair(pen, face, attributes)
    if "Freckles" in attributes:
        for x, y in rng.uniform((-0.16, face.eye_height + 0.06), (0.16, face.eye_height + 0.16), (34, 2)):
            pen.ellipse(float(x), float(y), 0.011, 0.011, _shade(face.skin, 0.62))
    for side in (-1, 1):
        _draw_eye(pen, face, side, attributes)
    _draw_nose(pen, face)
    _draw_mouth(pen, face, attributes)
    if "Eyeglasses" in attributes:
        _draw_glasses(pen, face)


def _jaw(face: Identity) -> list[tuple[float, float]]:
    width, bottom = face.head_width, 0.5 + face.head_height
    return [
        (-width, 0.5),
        (width, 0.5),
        (face.jaw * width, bottom - 0.13),
        (0.4 * face.jaw * width, bottom),
        (-0.4 * face.jaw * width, bottom),
        (-face.jaw * width, bottom - 0.13),
    ]


def _draw_beard(pen: _Pen, face: Identity) -> None:
    width, bottom = face.head_width, 0.5 + face.head_height
    colour, top = _shade(face.hair, 0.9), face.mouth_height - 0.045
    pen.polygon(
        [
            (-width + 0.01, 0.58),
            (-0.12, top),
            (0.12, top),
            (width - 0.01, 0.58),
            (face.jaw * width, bottom - 0.1),
            (0.4 * face.jaw * width, bottom + 0.03),
            (-0.4 * face.jaw * width, bottom + 0.03),
            (-face.jaw * width, bottom - 0.1),
        ],
        colour,
        depth=0.4,
    )


def _draw_hair(pen: _Pen, face: Identity, attributes: Collection[str]) -> None:
    width, top = face.head_width, 0.5 - face.head_height
    line = top + (0.17 if "Bangs" in attributes else 0.09)
    pen.polygon(
        [
            (-width - 0.02, 0.42),
            (-width, top + 0.1),
            (-0.6 * width, top - 0.01),
            (0, top - 0.03),
            (0.6 * width, top - 0.01),
            (width, top + 0.1),
            (width + 0.02, 0.42),
            (0.8 * width, line),
            (-0.8 * width, line),
        ],
        face.hair,
        depth=0.4,
    )
    if "Wearing_Hat" in attributes:
        pen.polygon(
            [(-0.9 * width, line), (-0.8 * width, top - 0.09), (0.8 * width, top - 0.09), (0.9 * width, line)], INK, 0.5
        )
        pen.stroke([(-width - 0.1, line), (0, line + 0.02), (width + 0.1, line)], 0.04, INK, 0.8)


def _draw_eye(pen: _Pen, face: Identity, side: int, attributes: Collection[str]) -> None:
    x, y, size = side * face.eye_distance, face.eye_height, face.eye_size
    pen.ellipse(x, y, 1.35 * size, 0.75 * size, (245, 244, 240))
    pen.ellipse(x, y, 0.68 * size, 0.68 * size, face.iris)
    pen.ellipse(x, y, 0.3 * size, 0.3 * size, INK)
    brow, slope = y - face.brow_height, side * face.brow_slope
    thick = 0.042 if "Bushy_Eyebrows" in attributes else 0.014
    pen.stroke(
        [(x - 1.5 * size, brow + slope), (x, brow - 0.008), (x + 1.5 * size, brow - slope)],
        thick,
        _shade(face.hair, 0.8),
    )


def _draw_nose(pen: _Pen, face: Identity) -> None:
    tip, shade = face.eye_height + face.nose_length, _shade(face.skin, 0.84)
    pen.polygon(
        [(-0.012, face.eye_height), (0.012, face.eye_height), (face.nose_width, tip), (-face.nose_width, tip)],
        shade,
        1.4,
    )
    for side in (-1, 1):
        pen.ellipse(side * 0.55 * face.nose_width, tip, 0.4 * face.nose_width, 0.013, _shade(face.skin, 0.55), 1.4)


def _draw_mouth(pen: _Pen, face: Identity, attributes: Collection[str]) -> None:
    smiles = "Smiling" in attributes
    width, y, lift = (1.25 if smiles else 1) * face.mouth_width, face.mouth_height, 0.05 if smiles else -0.012
    if "Mouth_Open" in attributes:
        pen.ellipse(0, y + 0.012, 0.72 * width, 0.034, INK)
        pen.stroke([(-0.5 * width, y - 0.008), (0.5 * width, y - 0.008)], 0.012, TEETH)
    if smiles:
        pen.polygon([(-width, y - lift), (width, y - lift), (0.5 * width, y), (-0.5 * width, y)], TEETH)
    corners = [(-width, y - lift), (-0.5 * width, y), (0, y + 0.3 * lift), (0.5 * width, y), (width, y - lift)]
    pen.stroke(corners, face.lips, LIPS)


def _draw_glasses(pen: _Pen, face: Identity) -> None:
    for side in (-1, 1):
        for start in np.linspace(0, 2 * math.pi, 16, endpoint=False):
            ends = [
                (side * face.eye_distance + 0.075 * math.cos(a), face.eye_height + 0.06 * math.sin(a))
                for a in (start, start + 0.4)
            ]
            pen.stroke(sorted(ends), 0.016, INK, 1.2)
        pen.stroke(
            sorted(
                [(side * (face.eye_distance + 0.07), face.eye_height), (side * face.head_width, face.eye_height - 0.01)]
            ),
            0.014,
            INK,
            1,
        )
    pen.stroke(
        [(-face.eye_distance + 0.07, face.eye_height), (face.eye_distance - 0.07, face.eye_height)], 0.014, INK, 1.2
    )


def _clothes(rng: np.random.Generator) -> Colour:
    red, green, blue = rng.integers(20, 220, 3).tolist()
    return red, green, blue


def _shade(colour: Colour, factor: float) -> Colour:
    red, green, blue = (int(channel * factor) for channel in colour)
    return red, green, blue


def _background(rng: np.random.Generator) -> Image:
    """Large blurred spots."""
    spots = rng.uniform(60, 200, (4, 4, 3)).astype(np.float32)
    return cv2.resize(spots, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)


def _photograph(canvas: Image, rng: np.random.Generator) -> Image:
    """Directional light, a colour cast, blur and noise."""
    across, down = np.meshgrid(np.linspace(-1, 1, SIDE_PX), np.linspace(-1, 1, SIDE_PX))
    angle, strength = rng.uniform(0, 2 * math.pi), rng.uniform(0, 0.35)
    light = 1 + strength * (math.cos(angle) * across + math.sin(angle) * down)
    tint = rng.uniform(0.65, 1.15) + rng.normal(0, 0.06, 3)
    blurred = cv2.GaussianBlur(canvas, (0, 0), rng.uniform(0.4, 1.5))
    noisy = blurred * light[..., None] * tint + rng.normal(0, rng.uniform(2, 9), canvas.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)
