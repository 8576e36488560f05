"""A map of a model's cells: land and sea, and each cell in the colour of its probability. Works offline.

Rasterised: each pixel has coordinates, and so a cell, which is right at the poles and the antimeridian, where polygons
need special cases. Land is where tzfpy, which ships the world's time zones (OpenStreetMap contributors, ODbL), has a
zone that is not one of the open sea.
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
SEA, LAND, CELL, PROBABLE = (170, 195, 215), (232, 228, 218), (205, 203, 190), (200, 40, 0)
INK, PREDICTED, TRUE = (60, 60, 60), (213, 94, 0), (0, 158, 115)
MARGIN = 0.08  # around the cells, as a fraction of their extent
WORLD = (-60.0, 84.0)  # latitudes of a world map, extended to include all cells
OPEN_SEA = "Etc/"


class Window(NamedTuple):
    """The bounds of a map in degrees; `east` may be beyond 180."""

    south: float
    north: float
    west: float
    east: float

    @property
    def height_px(self) -> int:
        """Height for about equal scales in both directions."""
        stretch = np.cos(np.radians((self.south + self.north) / 2)) if self.east - self.west < 180 else 1.0
        height = WIDTH_PX * (self.north - self.south) / ((self.east - self.west) * max(0.1, stretch))
        return int(np.clip(round(height), MIN_HEIGHT_PX, MAX_HEIGHT_PX))

    def coordinates(self) -> tuple[Floats, Floats]:
        """Latitude and longitude of each pixel's centre, (H, W)."""
        rows, columns = np.mgrid[: self.height_px, :WIDTH_PX] + 0.5
        lat_deg = self.north - rows * (self.north - self.south) / self.height_px
        lng_deg = self.west + columns * (self.east - self.west) / WIDTH_PX
        return lat_deg, (lng_deg + 180) % 360 - 180

    def pixel(self, lat_deg: float, lng_deg: float) -> tuple[int, int]:
        """Column and row of a point, beyond the edge if it is outside."""
        x = (lng_deg - self.west) % 360 / (self.east - self.west)
        y = (self.north - lat_deg) / (self.north - self.south)
        return round(x * WIDTH_PX), round(y * self.height_px)


class CellMap:
    """The map of a model's cells."""

    def __init__(self, partitioning: Partitioning) -> None:
        """Args: partitioning: the cells to show."""
        self.window = window_around(partitioning.lat_deg, partitioning.lng_deg)
        lat_deg, lng_deg = self.window.coordinates()
        self._cell_ids = partitioning.find(lat_deg.ravel(), lng_deg.ravel()).reshape(lat_deg.shape)
        names = [tzfpy.get_tz(lng, lat) for lat, lng in zip(lat_deg.ravel(), lng_deg.ravel(), strict=True)]
        is_land = np.array([not name.startswith(OPEN_SEA) for name in names]).reshape(lat_deg.shape)
        self._background = np.where(is_land[..., None], LAND, SEA).astype(np.uint8)

    def draw(self, probabilities: NDArray[np.float32] | None) -> Image:
        """A new picture of the map; the more probable a cell, the redder."""
        canvas = self._background.astype(np.float32)
        in_cell = self._cell_ids >= 0
        canvas[in_cell] = 0.6 * canvas[in_cell] + 0.4 * np.array(CELL)
        if probabilities is not None and probabilities.max() > 0:
            heat = np.where(in_cell, np.sqrt(probabilities / probabilities.max())[self._cell_ids], 0)[..., None]
            canvas = (1 - 0.9 * heat) * canvas + 0.9 * heat * np.array(PROBABLE)
        picture: Image = canvas.round().astype(np.uint8)
        self._put_scale_bar(picture)
        return picture

    def put_truth(self, picture: Image, lat_deg: float, lng_deg: float) -> None:
        """A green dot."""
        centre = self.window.pixel(lat_deg, lng_deg)
        cv2.circle(picture, centre, 5, (255, 255, 255), cv2.FILLED, cv2.LINE_AA)
        cv2.circle(picture, centre, 4, TRUE, cv2.FILLED, cv2.LINE_AA)

    def put_prediction(self, picture: Image, lat_deg: float, lng_deg: float) -> None:
        """A red cross."""
        centre = self.window.pixel(lat_deg, lng_deg)
        for colour, width in (((255, 255, 255), 4), (PREDICTED, 2)):
            cv2.drawMarker(picture, centre, colour, cv2.MARKER_TILTED_CROSS, 12, width, cv2.LINE_AA)

    def _put_scale_bar(self, picture: Image) -> None:
        """A scale bar of a round length, exact at the map's middle latitude."""
        south, north, west, east = self.window
        middle = (south + north) / 2
        width_km = 2 * float(distance_km(middle, west, middle, west + (east - west) / 2))
        length_km = 10.0 ** np.floor(np.log10(width_km / 3))
        length_km *= max(step for step in (1, 2, 5) if step * length_km <= width_km / 3)
        length_px, bottom = round(WIDTH_PX * length_km / width_km), len(picture) - 8
        cv2.line(picture, (8, bottom), (8 + length_px, bottom), INK, 2)
        cv2.putText(
            picture, format_length(length_km), (8, bottom - 5), cv2.FONT_HERSHEY_SIMPLEX, 0.35, INK, 1, cv2.LINE_AA
        )


def format_length(length_km: float) -> str:
    """A length for people to read: 633 m, 97.8 km, 1432 km."""
    if length_km < 1:
        return f"{1000 * length_km:.3g} m"
    return f"{length_km:.3g} km" if length_km < 1000 else f"{length_km:.0f} km"


def window_around(lat_deg: Floats, lng_deg: Floats) -> Window:
    """The smallest window around points, with a margin; the world if they span more than half of all longitudes."""
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
