"""A map of where a model's cells are: land and sea, and each cell in the colour of its probability. Needs no network.

Drawn pixel by pixel: every pixel knows its place, and so its cell. That is right at the poles and the antimeridian,
where polygons need care. Land is where tzfpy, which ships the world's time zones (OpenStreetMap contributors, ODbL),
knows a zone that is not of the open sea.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
import tzfpy
from numpy.typing import NDArray

from datasets.sphere import Floats, distance_km
from datasets.types import Image
from tasks.geolocation.cells import Partitioning

WIDTH_PX, MIN_HEIGHT_PX, MAX_HEIGHT_PX = 480, 180, 480
SEA, LAND, KNOWN, HOT = (170, 195, 215), (232, 228, 218), (205, 203, 190), (200, 40, 0)
INK, GUESS, TRUE = (60, 60, 60), (213, 94, 0), (0, 158, 115)
MARGIN = 0.08  # of the shown area, around the cells
WORLD = (-60.0, 84.0)  # latitudes of a map of the world, more where the model knows more
OPEN_SEA = "Etc/"


class Window(NamedTuple):
    """The part of the Earth that a map shows, in degrees; `east` may be beyond 180."""

    south: float
    north: float
    west: float
    east: float

    @property
    def height_px(self) -> int:
        """So that kilometres are about as long in both directions."""
        stretch = np.cos(np.radians((self.south + self.north) / 2)) if self.east - self.west < 180 else 1.0
        height = WIDTH_PX * (self.north - self.south) / ((self.east - self.west) * max(0.1, stretch))
        return int(np.clip(round(height), MIN_HEIGHT_PX, MAX_HEIGHT_PX))

    def places(self) -> tuple[Floats, Floats]:
        """Latitude and longitude of each pixel's middle, (H, W)."""
        rows, columns = np.mgrid[: self.height_px, :WIDTH_PX] + 0.5
        lat_deg = self.north - rows * (self.north - self.south) / self.height_px
        lng_deg = self.west + columns * (self.east - self.west) / WIDTH_PX
        return lat_deg, (lng_deg + 180) % 360 - 180

    def pixel(self, lat_deg: float, lng_deg: float) -> tuple[int, int]:
        """Column and row of a place; beyond the edge where it is outside."""
        right = (lng_deg - self.west) % 360 / (self.east - self.west)
        down = (self.north - lat_deg) / (self.north - self.south)
        return round(right * WIDTH_PX), round(down * self.height_px)


class CellMap:
    """The map of one model's cells."""

    def __init__(self, partitioning: Partitioning) -> None:
        """Args: partitioning: whose cells it shows."""
        self.window = window_around(partitioning.lat_deg, partitioning.lng_deg)
        lat_deg, lng_deg = self.window.places()
        self._cell_ids = partitioning.find(lat_deg.ravel(), lng_deg.ravel()).reshape(lat_deg.shape)
        names = [tzfpy.get_tz(lng, lat) for lat, lng in zip(lat_deg.ravel(), lng_deg.ravel(), strict=True)]
        is_land = np.array([not name.startswith(OPEN_SEA) for name in names]).reshape(lat_deg.shape)
        self._background = np.where(is_land[..., None], LAND, SEA).astype(np.uint8)

    def draw(self, probabilities: NDArray[np.float32] | None) -> Image:
        """A new picture of the map; the most probable cell is the reddest."""
        canvas = self._background.astype(np.float32)
        known = self._cell_ids >= 0
        canvas[known] = 0.6 * canvas[known] + 0.4 * np.array(KNOWN)
        if probabilities is not None and probabilities.max() > 0:
            heat = np.where(known, np.sqrt(probabilities / probabilities.max())[self._cell_ids], 0)[..., None]
            canvas = (1 - 0.9 * heat) * canvas + 0.9 * heat * np.array(HOT)
        picture: Image = canvas.round().astype(np.uint8)
        self._put_scale(picture)
        return picture

    def put_truth(self, picture: Image, lat_deg: float, lng_deg: float) -> None:
        """A green dot."""
        at = self.window.pixel(lat_deg, lng_deg)
        cv2.circle(picture, at, 5, (255, 255, 255), cv2.FILLED, cv2.LINE_AA)
        cv2.circle(picture, at, 4, TRUE, cv2.FILLED, cv2.LINE_AA)

    def put_guess(self, picture: Image, lat_deg: float, lng_deg: float) -> None:
        """A red cross."""
        at = self.window.pixel(lat_deg, lng_deg)
        for colour, width in (((255, 255, 255), 4), (GUESS, 2)):
            cv2.drawMarker(picture, at, colour, cv2.MARKER_TILTED_CROSS, 12, width, cv2.LINE_AA)

    def _put_scale(self, picture: Image) -> None:
        """A bar of a round length, true at the map's middle latitude."""
        south, north, west, east = self.window
        middle = (south + north) / 2
        width_km = 2 * float(distance_km(middle, west, middle, west + (east - west) / 2))
        length_km = 10.0 ** np.floor(np.log10(width_km / 3))
        length_km *= max(step for step in (1, 2, 5) if step * length_km <= width_km / 3)
        length_px, bottom = round(WIDTH_PX * length_km / width_km), len(picture) - 8
        cv2.line(picture, (8, bottom), (8 + length_px, bottom), INK, 2)
        cv2.putText(
            picture, length_text(length_km), (8, bottom - 5), cv2.FONT_HERSHEY_SIMPLEX, 0.35, INK, 1, cv2.LINE_AA
        )


def length_text(length_km: float) -> str:
    """A length as people say it: 633 m, 97.8 km, 1432 km."""
    if length_km < 1:
        return f"{1000 * length_km:.3g} m"
    return f"{length_km:.3g} km" if length_km < 1000 else f"{length_km:.0f} km"


def window_around(lat_deg: Floats, lng_deg: Floats) -> Window:
    """The smallest window around places, with a margin; the world where they are on more than half of the globe."""
    east_of_gap = np.sort(lng_deg)
    gaps = np.diff(np.r_[east_of_gap, east_of_gap[0] + 360])
    widest = int(gaps.argmax())
    west = float(east_of_gap[(widest + 1) % len(east_of_gap)])
    span = 360 - float(gaps[widest])
    south, north = float(lat_deg.min()), float(lat_deg.max())
    if span > 180:
        return Window(min(WORLD[0], south), max(WORLD[1], north), -180.0, 180.0)
    margin = max(MARGIN * max(span, north - south), 1e-3)
    return Window(max(-90.0, south - margin), min(90.0, north + margin), west - margin, west + span + margin)
