"""A map of a model's cells: land and sea, and each cell in the colour of its probability. Works offline.

Rasterised: each pixel has coordinates, and so a cell, which is right at the poles and the antimeridian, where polygons
need special cases. Land is where tzfpy, which ships the world's time zones (OpenStreetMap contributors, ODbL), has a
zone that is not one of the open sea. A prediction is drawn on the part of the map where its probability is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache, partial
from typing import NamedTuple

import cv2
import numpy as np
import tzfpy
from numpy.typing import NDArray

from datasets.drawing.draw import BLACK, RIGHT, WHITE, put_label
from datasets.geolocation.sphere import Floats, distance_km
from datasets.types import Image
from tasks.geolocation.cells import Partitioning

WIDTH_PX, MIN_HEIGHT_PX, MAX_HEIGHT_PX = 480, 180, 480
SEA, LAND, BORDER, PROBABLE, TRUE = (205, 224, 238), (247, 244, 236), (160, 160, 160), (200, 40, 0), RIGHT
OPACITY = 0.9  # of the colour of the most probable cell
MARGIN = 0.08  # around the cells, as a fraction of their extent
WORLD = (-60.0, 84.0)  # latitudes of a world map, extended to include all cells
OPEN_SEA = "Etc/"
LAND_STEP_PX = 3  # between the pixels at which land or sea is looked up, which takes 16 microseconds
SHOWN_PROBABILITY = 0.9  # a part of the map contains the most probable cells up to this total
MAX_HALVINGS = 4  # of the map's width, when zooming in
PART_HEIGHT_PX = 288  # at most
NUM_CACHED = 32  # parts, of 1 MB


class Window(NamedTuple):
    """The bounds of a map in degrees; `east` may be beyond 180."""

    south: float
    north: float
    west: float
    east: float

    @property
    def width_deg(self) -> float:
        """From west to east."""
        return self.east - self.west

    @property
    def height_px(self) -> int:
        """Height for about equal scales in both directions."""
        stretch = np.cos(np.radians((self.south + self.north) / 2)) if self.width_deg <= 180 else 1.0
        height = WIDTH_PX * (self.north - self.south) / (self.width_deg * max(0.1, stretch))
        return int(np.clip(round(height), MIN_HEIGHT_PX, MAX_HEIGHT_PX))

    def coordinates(self) -> tuple[Floats, Floats]:
        """Latitude and longitude of each pixel's centre, (H, W)."""
        rows, columns = np.mgrid[: self.height_px, :WIDTH_PX] + 0.5
        lat_deg = self.north - rows * (self.north - self.south) / self.height_px
        lng_deg = self.west + columns * self.width_deg / WIDTH_PX
        return lat_deg, (lng_deg + 180) % 360 - 180

    def pixel(self, lat_deg: float, lng_deg: float) -> tuple[int, int]:
        """Column and row of a point, beyond the edge if it is outside."""
        x = (lng_deg - self.west) % 360 / self.width_deg
        y = (self.north - lat_deg) / (self.north - self.south)
        return round(x * WIDTH_PX), round(y * self.height_px)

    def contains(self, other: Window) -> bool:
        """Whether another window is inside this one."""
        has_latitudes = self.south <= other.south and other.north <= self.north
        has_longitudes = self.width_deg >= 360 or (other.west - self.west) % 360 + other.width_deg <= self.width_deg
        return has_latitudes and has_longitudes

    def part_around(self, other: Window, width_deg: float) -> Window:
        """A part of that width, whose centre is near another window's; on a grid, so that parts can be cached."""
        grid_deg = width_deg / 16
        lat_deg = round((other.south + other.north) / 2 / grid_deg) * grid_deg
        lng_deg = round((other.west + other.width_deg / 2) / grid_deg) * grid_deg
        height_deg = width_deg * PART_HEIGHT_PX / WIDTH_PX * max(0.1, math.cos(math.radians(lat_deg)))
        lat_deg = float(np.clip(lat_deg, -90 + height_deg / 2, 90 - height_deg / 2))
        west = (lng_deg - width_deg / 2 + 180) % 360 - 180
        return Window(lat_deg - height_deg / 2, lat_deg + height_deg / 2, west, west + width_deg)


class CellMap:
    """A map of a model's cells."""

    def __init__(self, partitioning: Partitioning, window: Window | None = None) -> None:
        """Args: partitioning: the cells; window: bounds of the map; None for all cells."""
        self.window = window or window_around(partitioning.lat_deg, partitioning.lng_deg)
        self._partitioning = partitioning
        lat_deg, lng_deg = self.window.coordinates()
        self._cell_ids = partitioning.find(lat_deg.ravel(), lng_deg.ravel()).reshape(lat_deg.shape).astype(np.int32)
        self._background = np.where(_is_land(lat_deg, lng_deg)[..., None], LAND, SEA).astype(np.uint8)
        self._part = lru_cache(NUM_CACHED)(partial(CellMap, partitioning))

    def draw(self, probabilities: NDArray[np.float32] | None, *, has_scale_bar: bool = True) -> Image:
        """A new picture of the map; the more probable a cell, the redder."""
        picture = self._background
        if probabilities is not None and probabilities.max() > 0:
            heat = np.sqrt(probabilities / probabilities.max())
            picture = shade(picture, np.where(self._cell_ids >= 0, heat[self._cell_ids], 0))
        picture = np.where(self._is_border()[..., None], BORDER, picture).astype(np.uint8)
        if has_scale_bar:
            self._put_scale_bar(picture)
        return picture

    def part(self, probabilities: NDArray[np.float32], coordinates: Sequence[tuple[float, float]] = ()) -> CellMap:
        """The part of the map with most of the probability and with some coordinates; this map if there is none."""
        order = np.argsort(-probabilities, kind="stable")
        is_rest = np.cumsum(probabilities[order]) > SHOWN_PROBABILITY * probabilities.sum()
        cell_ids = order[: 1 + int(is_rest.argmax())]
        pixels = np.isin(self._cell_ids, cell_ids)
        lat_deg, lng_deg = (
            np.r_[of_pixels[pixels], of_cells[cell_ids], given]
            for of_pixels, of_cells, given in zip(
                self.window.coordinates(),
                (self._partitioning.lat_deg, self._partitioning.lng_deg),
                np.array(coordinates).reshape(-1, 2).T,
                strict=True,
            )
        )
        needed = window_around(lat_deg, lng_deg)
        for halvings in range(MAX_HALVINGS, 0, -1):
            window = self.window.part_around(needed, self.window.width_deg / 2**halvings)
            if window.contains(needed):
                return self._part(window)
        return self

    def put_truth(self, picture: Image, lat_deg: float, lng_deg: float) -> None:
        """A green dot."""
        put_dot(picture, self.window.pixel(lat_deg, lng_deg))

    def put_prediction(self, picture: Image, lat_deg: float, lng_deg: float) -> None:
        """A cross."""
        put_cross(picture, self.window.pixel(lat_deg, lng_deg))

    def put_frame(self, picture: Image, window: Window) -> None:
        """A rectangle around a part of the map, on both sides of a map of the whole world where it is cut in two."""
        left, top = self.window.pixel(window.north, window.west)
        right = left + round(WIDTH_PX * window.width_deg / self.window.width_deg)
        bottom = self.window.pixel(window.south, window.west)[1]
        for shift in (0, round(WIDTH_PX * 360 / self.window.width_deg)):
            cv2.rectangle(picture, (left - shift, top), (right - shift, bottom), BLACK, 4)

    def _is_border(self) -> NDArray[np.bool_]:
        """(H, W), whether the next pixel is in another cell."""
        last_row, last_column = self._cell_ids[-1:], self._cell_ids[:, -1:]
        across = np.diff(self._cell_ids, axis=1, append=last_column) != 0
        down = np.diff(self._cell_ids, axis=0, append=last_row) != 0
        is_border: NDArray[np.bool_] = across | down
        return is_border

    def _put_scale_bar(self, picture: Image) -> None:
        """A scale bar of a round length, exact at the map's middle latitude."""
        south, north, west, east = self.window
        middle = (south + north) / 2
        width_km = 2 * float(distance_km(middle, west, middle, west + (east - west) / 2))
        length_km = 10.0 ** np.floor(np.log10(width_km / 3))
        length_km *= max(step for step in (1, 2, 5) if step * length_km <= width_km / 3)
        length_px, bottom = round(WIDTH_PX * length_km / width_km), len(picture) - 8
        cv2.line(picture, (8, bottom), (8 + length_px, bottom), BLACK, 2)
        put_label(picture, format_length(length_km), 8, bottom - 24, WHITE, 14)


def shade(picture: NDArray[np.uint8], heat: Floats) -> NDArray[np.uint8]:
    """Pixels (..., 3) in red where the heat (...) is 1, unchanged where it is 0."""
    opacity = OPACITY * heat[..., None]
    blended: NDArray[np.uint8] = ((1 - opacity) * picture + opacity * np.array(PROBABLE)).round().astype(np.uint8)
    return blended


def put_dot(picture: Image, centre: tuple[int, int]) -> None:
    """The symbol of the truth."""
    cv2.circle(picture, centre, 9, WHITE, cv2.FILLED, cv2.LINE_AA)
    cv2.circle(picture, centre, 7, TRUE, cv2.FILLED, cv2.LINE_AA)


def put_cross(picture: Image, centre: tuple[int, int]) -> None:
    """The symbol of the prediction."""
    for colour, width in ((WHITE, 4), (BLACK, 2)):
        cv2.drawMarker(picture, centre, colour, cv2.MARKER_TILTED_CROSS, 12, width, cv2.LINE_AA)


def format_length(length_km: float) -> str:
    """A length for people to read: 633 m, 97.8 km, 1432 km."""
    if length_km < 1:
        return f"{1000 * length_km:.3g} m"
    return f"{length_km:.3g} km" if length_km < 1000 else f"{length_km:.0f} km"


def format_coordinates(lat_deg: float, lng_deg: float) -> str:
    """A coordinate for people to read: 48.857 N, 2.352 E."""
    return f"{abs(lat_deg):.3f} {'NS'[lat_deg < 0]}, {abs(lng_deg):.3f} {'EW'[lng_deg < 0]}"


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


def _is_land(lat_deg: Floats, lng_deg: Floats) -> NDArray[np.bool_]:
    """Whether each of (H, W) pixels is on land, smoothed between those that are looked up."""
    grid = (slice(LAND_STEP_PX // 2, None, LAND_STEP_PX),) * 2
    names = [tzfpy.get_tz(lng, lat) for lat, lng in zip(lat_deg[grid].ravel(), lng_deg[grid].ravel(), strict=True)]
    is_land = np.array([not name.startswith(OPEN_SEA) for name in names], np.float32).reshape(lat_deg[grid].shape)
    smooth: NDArray[np.float32] = cv2.resize(is_land, lat_deg.shape[::-1])  # type: ignore[assignment]
    return smooth > 0.5
