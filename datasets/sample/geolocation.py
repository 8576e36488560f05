"""A generated world: pictures of streets around real towns, in the CSV layout of MP-16 and Im2GPS3k.

Informative: the sun is in the south of the northern hemisphere and in the north of the southern one, lower towards the
poles; palms, broad-leaved trees and conifers follow the climate, and there is snow in winter; the hue of roofs depends
on longitude, their pitch on latitude; road markings are yellow in the Americas; cars drive on the left where that is
the rule. Uninformative: season, light, haze, and the positions of houses and trees.
"""

from __future__ import annotations

import colorsys
import csv
import math
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np

from datasets.images.read import write_image
from datasets.sample.brush import Brush, Colour, cached
from datasets.types import Image

VERSION = 1  # increment whenever the images change
NUM_IMAGES = {"train": 2400, "val": 300}
IMAGE_HW = (120, 160)
HORIZON_PX = 70
SEED = 1704
SPREAD_DEG = 0.5  # standard deviation of photos around their town
# Latitude and longitude of towns, to a degree.
TOWNS = (
    *(
        (61, -150),
        (54, -114),
        (49, -123),
        (38, -122),
        (34, -118),
        (45, -93),
        (30, -95),
        (42, -71),
        (26, -80),
        (21, -157),
    ),
    *((19, -99), (10, -84), (5, -74), (-12, -77), (-33, -71), (-34, -58), (-23, -46), (-3, -60), (-55, -68), (64, -22)),
    *((52, 0), (40, -4), (48, 2), (42, 12), (60, 11), (60, 25), (52, 21), (38, 24), (70, 23), (34, -6)),
    *((6, 3), (15, -17), (30, 31), (9, 39), (-1, 37), (-26, 28), (-34, 18), (-19, 47), (25, 46), (36, 51)),
    *((56, 38), (55, 83), (62, 130), (43, 77), (28, 77), (19, 73), (13, 80), (14, 100), (1, 104), (-6, 107)),
    *((40, 116), (31, 121), (22, 114), (36, 140), (43, 141), (15, 121), (-32, 116), (-38, 145), (-12, 131), (-37, 175)),
)
SNOW = (238, 240, 245)


def sample_root() -> Path:
    """The folder of the sample, generated in the cache on first use."""
    return cached(f"sample-geolocation-v{VERSION}", write_sample)


def write_sample(root: Path, num_images_of: Mapping[str, int] = NUM_IMAGES) -> None:
    """Write photos of each split into `images`, and their coordinates into `places.csv`."""
    (root / "images").mkdir()
    rows = []
    for split_index, (split, num_images) in enumerate(num_images_of.items()):
        for index in range(num_images):
            rng = np.random.default_rng([SEED, split_index, index])
            lat_deg, lng_deg = np.array(TOWNS[index % len(TOWNS)]) + rng.normal(0, SPREAD_DEG, 2)
            name = f"{split}-{index:05d}.jpg"
            write_image(root / "images" / name, draw_street(float(lat_deg), float(lng_deg), rng))
            rows.append((name, f"{lat_deg:.5f}", f"{lng_deg:.5f}", split))
    with (root / "places.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("IMG_ID", "LAT", "LON", "split"))
        writer.writerows(rows)


def draw_street(lat_deg: float, lng_deg: float, rng: np.random.Generator) -> Image:
    """A street at these coordinates, facing east at noon on a random day, (120, 160, 3)."""
    tilt_deg = 23.4 * math.sin(rng.uniform(0, 2 * math.pi))  # latitude where the sun is at the zenith
    temperature_c = 29 - 0.55 * abs(lat_deg) + 0.3 * tilt_deg * lat_deg / 45 + rng.normal(0, 3)
    canvas = _sky_and_ground(temperature_c, rng)
    _draw_sun(canvas, lat_deg - tilt_deg, rng)
    _draw_road(canvas, lat_deg, lng_deg, rng)
    for left in rng.permutation([-5.0, 28.0, 95.0, 125.0]):
        side = rng.uniform(32, 52)
        brush = Brush(canvas, left, HORIZON_PX + 14 - side, side, rng, tilt=0.03)
        if rng.random() < 0.5:
            _draw_house(brush, lat_deg, lng_deg, has_snow=temperature_c < 0)
        else:
            _draw_tree(brush, abs(lat_deg) + rng.normal(0, 5), has_snow=temperature_c < 0)
    light = rng.uniform(0.7, 1.1) + rng.normal(0, 0.04, 3)
    haze = rng.uniform(0, 0.25)
    hazy = (1 - haze) * canvas * light + haze * 200 + rng.normal(0, rng.uniform(2, 9), canvas.shape)
    return np.clip(hazy, 0, 255).astype(np.uint8)


def _sky_and_ground(temperature_c: float, rng: np.random.Generator) -> Image:
    canvas = np.empty((*IMAGE_HW, 3), np.float64)
    top, bottom = rng.uniform((60, 120, 190), (120, 170, 235)), rng.uniform((170, 195, 215), (225, 230, 240))
    canvas[:HORIZON_PX] = np.linspace(top, bottom, HORIZON_PX)[:, None]
    dry = np.clip((temperature_c - 15) / 15, 0, 1)
    ground = (1 - dry) * np.array((90, 130, 60)) + dry * np.array((190, 165, 105))
    canvas[HORIZON_PX:] = (np.array(SNOW) if temperature_c < 0 else ground) + rng.normal(0, 10, 3)
    return np.clip(canvas, 0, 255).astype(np.uint8)


def _draw_sun(canvas: Image, south_deg: float, rng: np.random.Generator) -> None:
    """On the right if it is in the south, on the left if in the north, high up if near the zenith."""
    x = round(80 + 75 * math.sin(math.radians(south_deg)) + rng.normal(0, 3))
    y = round(HORIZON_PX - 62 * max(0.05, math.cos(math.radians(south_deg))) + rng.normal(0, 3))
    cv2.circle(canvas, (x, y), 7, (255, 250, 210), cv2.FILLED, cv2.LINE_AA)


def _draw_road(canvas: Image, lat_deg: float, lng_deg: float, rng: np.random.Generator) -> None:
    grey = int(rng.integers(70, 120))
    cv2.fillPoly(canvas, [np.array([(72, HORIZON_PX), (88, HORIZON_PX), (150, 119), (10, 119)])], (grey, grey, grey))
    marking = (230, 190, 60) if lng_deg < -30 else (235, 235, 235)
    for y in range(HORIZON_PX + 6, 120, 14):
        cv2.line(canvas, (80, y), (80, y + 6), marking, 2)
    if rng.random() < 0.7:
        side = -1 if drives_on_left(lat_deg, lng_deg) else 1
        _draw_car(canvas, side, rng.uniform(0.35, 0.9), rng)


def _draw_car(canvas: Image, side: int, nearness: float, rng: np.random.Generator) -> None:
    """A car from behind, on the left (-1) or the right (1)."""
    x, bottom, width = 80 + side * 32 * nearness, HORIZON_PX + 46 * nearness, 30 * nearness

    def at(right: float, up: float) -> tuple[int, int]:
        return round(x + right * width), round(bottom - up * width)

    cv2.rectangle(canvas, at(-0.5, 0.7), at(0.5, 0), rng.integers(30, 230, 3).tolist(), cv2.FILLED)
    cv2.rectangle(canvas, at(-0.35, 0.6), at(0.35, 0.35), (40, 50, 60), cv2.FILLED)
    for lamp in (-0.4, 0.4):
        cv2.circle(canvas, at(lamp, 0.2), max(1, round(0.07 * width)), (220, 20, 20), cv2.FILLED)


def drives_on_left(lat_deg: float, lng_deg: float) -> bool:
    """Left-hand traffic, roughly: Britain, South Asia, Japan, Australia, southern and eastern Africa."""
    return (
        (abs(lng_deg + 2) < 8 and lat_deg > 49)
        or (25 < lng_deg < 50 and -5 < lat_deg < 2)
        or (10 < lng_deg < 36 and lat_deg < -17)
        or (66 < lng_deg < 108 and lat_deg < 30)
        or lng_deg > 130
        or (lng_deg > 90 and lat_deg < 0)
    )


def _draw_house(brush: Brush, lat_deg: float, lng_deg: float, *, has_snow: bool) -> None:
    """The hue of the roof depends on the longitude; the further from the equator, the steeper it is."""
    red, green, blue = (round(255 * value) for value in colorsys.hsv_to_rgb((lng_deg + 180) / 360, 0.65, 0.75))
    eaves = 0.45
    peak = eaves - 0.08 - 0.4 * min(1.0, abs(lat_deg) / 65)
    brush.rectangle(0.1, eaves, 0.9, 1.0, brush.colour((205, 195, 180), (170, 160, 150), (225, 215, 205)))
    roof: Colour = SNOW if has_snow and brush.rng.random() < 0.5 else brush.colour((red, green, blue))
    brush.polygon([(0.02, eaves), (0.5, peak), (0.98, eaves)], roof)
    brush.rectangle(0.02, eaves, 0.98, eaves + 0.06, brush.colour((red, green, blue)))
    for x in (0.2, 0.6):
        brush.rectangle(x, 0.6, x + 0.2, 0.78, (60, 75, 95))


def _draw_tree(brush: Brush, abs_lat_deg: float, *, has_snow: bool) -> None:
    """A palm near the equator, a broad-leaved tree in between, a conifer towards the poles."""
    leaves: Colour = SNOW if has_snow and brush.rng.random() < 0.5 else brush.colour((50, 110, 45), (70, 120, 40))
    trunk = brush.colour((100, 75, 50))
    brush.rectangle(0.46, 0.4, 0.54, 1.0, trunk)
    if abs_lat_deg < 25:
        for tip_x, tip_y in ((0.05, 0.35), (0.2, 0.08), (0.5, 0.0), (0.8, 0.08), (0.95, 0.35)):
            brush.polygon([(0.47, 0.38), (tip_x, tip_y), (0.55, 0.44)], leaves)
    elif abs_lat_deg < 48:
        brush.ellipse(0.5, 0.35, 0.32, 0.3, leaves)
        brush.ellipse(0.35, 0.45, 0.2, 0.2, leaves)
    else:
        for top in (0.0, 0.22, 0.44):
            brush.polygon([(0.5, top), (0.22 - top / 4, top + 0.36), (0.78 + top / 4, top + 0.36)], leaves)
