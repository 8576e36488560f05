"""Helpers of the generated samples: a brush for objects in a unit square, and the cache folder."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from datasets.files import cache_dir, new_folder
from datasets.types import Image

Colour = tuple[int, int, int]
Points = list[tuple[float, float]]


def cached(name: str, write: Callable[[Path], None]) -> Path:
    """The folder of that name in the cache; if missing, it is created atomically by `write`."""
    root = cache_dir() / name
    if not root.is_dir():
        unfinished = new_folder(root.with_name(f"{root.name}-unfinished"))
        write(unfinished)
        try:
            unfinished.rename(root)
        except OSError:  # another process has created it
            shutil.rmtree(unfinished)
    return root


class Brush:
    """Draws an object in a unit square placed on a canvas, and records the mask of its pixels."""

    def __init__(
        self,
        canvas: Image,
        left: float,
        top: float,
        side: float,
        rng: np.random.Generator,
        *,
        tilt: float = 0.12,
        stretch: float = 0.25,
        may_mirror: bool = True,
    ) -> None:
        """Place the square on a canvas, with a random angle and shape.

        Args:
            canvas: to draw on.
            left: of the square, in pixels.
            top: of the square, in pixels.
            side: of the square, in pixels.
            rng: for the angle and shape.
            tilt: standard deviation of the angle, radians.
            stretch: maximum relative change of the width; the height changes inversely.
            may_mirror: whether to mirror half of the objects.
        """
        self.rng = rng
        self._canvas = canvas
        self._mask = np.zeros(canvas.shape[:2], np.uint8)
        self._origin = np.array([left, top])
        self._side = side
        angle = rng.normal(0, tilt)
        width = rng.uniform(1 - stretch, 1 + stretch)
        sign = 1 if rng.random() < 0.5 or not may_mirror else -1
        rotation = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        self._matrix = rotation @ np.diag([width * sign, 1 / width])

    def paint(self, painter: Callable[[Brush], None]) -> NDArray[np.bool_]:
        """Call a painter; returns the mask of the object's pixels, (H, W)."""
        painter(self)
        return self._mask > 0

    def colour(self, *base: Colour) -> Colour:
        """A random one of the colours, with noise."""
        mean = np.array(base[int(self.rng.integers(len(base)))])
        red, green, blue = np.clip(mean + self.rng.normal(0, 22, 3), 0, 255)
        return int(red), int(green), int(blue)

    def polygon(self, points: Points, colour: Colour) -> None:
        """Fill a polygon with corners in the unit square."""
        transformed = (np.array(points) - 0.5) @ self._matrix.T + 0.5
        pixels = np.round(self._origin + transformed * self._side).astype(np.int32)
        cv2.fillPoly(self._canvas, [pixels], colour, cv2.LINE_AA)
        cv2.fillPoly(self._mask, [pixels], 1)

    def rectangle(self, x0: float, y0: float, x1: float, y1: float, colour: Colour) -> None:
        """Fill a rectangle."""
        self.polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], colour)

    def ellipse(self, x: float, y: float, radius_x: float, radius_y: float, colour: Colour) -> None:
        """Fill an ellipse."""
        angles = np.linspace(0, 2 * math.pi, 24, endpoint=False)
        self.polygon([(x + radius_x * math.cos(a), y + radius_y * math.sin(a)) for a in angles], colour)
