"""Map coordinates, drawings of predictions, and coarse regions whose probabilities add up."""

import numpy as np
import pytest
import s2cell

from datasets.types import Place
from tasks.geolocation.cells import divide
from tasks.geolocation.draw import draw_cells, draw_regions
from tasks.geolocation.map import LAND, PART_HEIGHT_PX, SEA, TRUE, CellMap, Window, format_length, window_around
from tasks.geolocation.regions import most_probable_regions, region_probabilities
from tests.tasks.geolocation.towns import LAT_DEG, LNG_DEG, towns


def test_window_crosses_the_antimeridian_where_that_is_shorter() -> None:
    window = window_around(np.array([-20.0, -10, -15]), np.array([170.0, -170, 175]))
    assert window.east - window.west == pytest.approx(20 * 1.16)
    assert window.west < 170 < 190 < window.east
    assert window_around(LAT_DEG, np.repeat([-100.0, 0, 100], 4)) == (-60, 84, -180, 180)
    around_point = window_around(np.array([5.0]), np.array([6.0]))
    assert around_point.south < 5 < around_point.north
    assert around_point.west < 6 < around_point.east


def test_pixel_and_coordinates_are_inverse() -> None:
    for window in (window_around(LAT_DEG, LNG_DEG), window_around(np.array([-20.0, -10]), np.array([170.0, -170]))):
        lat_deg, lng_deg = window.coordinates()
        for row, column in ((0, 0), (20, 30), (100, 400)):
            x, y = window.pixel(lat_deg[row, column], lng_deg[row, column])
            assert (x - column, y - row) in {(0, 0), (1, 0), (0, 1), (1, 1)}  # the pixel's centre, rounded


def test_a_part_of_the_map_is_around_the_probable_cells_and_the_coordinates() -> None:
    """The Pacific's islands on both sides of the antimeridian; elsewhere they are spread over the world."""
    lat_deg, lng_deg = np.array([-18.0, -14, 50, 40]), np.array([178.0, -172, 10, -100])
    (partitioning,) = divide(np.repeat(lat_deg, 3), np.repeat(lng_deg, 3), max_photos=[3], min_photos=1)
    cell_map = CellMap(partitioning)
    fiji, samoa, europe, _ = np.eye(len(partitioning), dtype=np.float32)[partitioning.find(lat_deg, lng_deg)]
    part = cell_map.part((fiji + samoa) / 2)
    assert part.window.width_deg <= 180
    for lat, lng in ((-18, 178), (-14, -172)):
        x, y = part.window.pixel(lat, lng)
        assert 0 < x < 480
        assert 0 < y < part.window.height_px
    assert cell_map.part((fiji + samoa) / 2) is part  # from the cache
    assert cell_map.part((fiji + europe) / 2) is cell_map
    assert cell_map.part((fiji + samoa) / 2, [(50.0, 10.0)]) is cell_map
    assert cell_map.part(fiji * 0.95 + europe * 0.05).window.width_deg < 360


def test_windows_contain_their_parts() -> None:
    world, pacific = window_around(LAT_DEG, np.repeat([-100.0, 0, 100], 4)), Window(-20, -10, 170, 190)
    part = world.part_around(pacific, 90)
    assert part.width_deg == pytest.approx(90)
    assert part.contains(pacific)
    assert not pacific.contains(part)
    assert world.contains(part)
    assert part.height_px == PART_HEIGHT_PX
    at_pole = world.part_around(Window(80, 89, 0, 10), 180)
    assert at_pole.north == pytest.approx(90)
    assert at_pole.height_px <= PART_HEIGHT_PX


def test_land_and_sea_and_the_reddest_cell() -> None:
    partitioning = divide(
        np.array([60.0, 61, -33, -34, 37]), np.array([25.0, 26, 150, 151, -122]), max_photos=[2], min_photos=1
    )[0]
    cell_map = CellMap(partitioning)
    x, y = cell_map.window.pixel(20, -30)  # the Atlantic
    assert tuple(cell_map._background[y, x]) == SEA
    x, y = cell_map.window.pixel(24, 10)  # the Sahara
    assert tuple(cell_map._background[y, x]) == LAND
    helsinki = int(partitioning.find(np.array([60.5]), np.array([25.5]))[0])
    probabilities = np.full(len(partitioning), 0.05, np.float32)
    probabilities[helsinki] = 0.8
    x, y = cell_map.window.pixel(60.5, 25.5)
    red, green, blue = cell_map.draw(probabilities)[y, x].tolist()
    assert red > 150 > 100 > max(green, blue)


def test_lengths_are_formatted_for_people() -> None:
    assert [format_length(km) for km in (0.0396, 0.633, 1, 97.84, 10_000)] == [
        "39.6 m",
        "633 m",
        "1 km",
        "97.8 km",
        "10000 km",
    ]


def test_prediction_and_truth_are_drawn() -> None:
    (partitioning,) = towns(4)
    cell_map, image = CellMap(partitioning), np.full((50, 70, 3), 90, np.uint8)
    predicted = Place(50.0, 9.0, 1, np.array([0.2, 0.7, 0.1], np.float32))
    without_truth, with_truth = (draw_cells(image, predicted, truth, cell_map) for truth in (None, Place(48.0, 2.0)))
    assert predicted.probabilities is not None
    plain = cell_map.part(predicted.probabilities).draw(predicted.probabilities)
    assert (without_truth[: len(plain), -plain.shape[1] :] != plain).any()
    assert with_truth.shape == without_truth.shape  # as the frames of a video must be
    assert not (without_truth == TRUE).all(2).any()
    in_map, in_legend = np.split((with_truth == TRUE).all(2), [len(cell_map.draw(None))])
    assert in_map.any()
    assert in_legend.any()


def test_the_map_of_regions_does_not_depend_on_the_distribution_inside_them() -> None:
    lat_deg, lng_deg = np.repeat([52.50, 52.51, -33.9], 4), np.repeat([13.40, 13.42, 151.2], 4)
    (partitioning,) = divide(lat_deg, lng_deg, max_photos=[4], min_photos=1)
    cell_map, image = CellMap(partitioning), np.full((50, 70, 3), 90, np.uint8)
    drawn = []
    for in_berlin in ((0.9, 0.05), (0.05, 0.9)):
        probabilities = np.full(3, 0.05, np.float32)
        probabilities[partitioning.find(np.array([52.50, 52.51]), np.array([13.40, 13.42]))] = in_berlin
        place = Place(52.5, 13.4, 0, probabilities)
        regions = most_probable_regions(place, partitioning)
        drawn.append(draw_regions(image, region_probabilities(place, partitioning), regions, cell_map))
    np.testing.assert_array_equal(*drawn)


def test_regions_are_coarse_and_their_probabilities_add_up() -> None:
    lat_deg, lng_deg = np.repeat([52.50, 52.51, -33.9], 4), np.repeat([13.40, 13.42, 151.2], 4)
    (partitioning,) = divide(lat_deg, lng_deg, max_photos=[4], min_photos=1)
    assert len(partitioning) == 3
    berlin = partitioning.find(np.array([52.50, 52.51]), np.array([13.40, 13.42]))
    probabilities = np.full(3, 0.3, np.float32)
    probabilities[berlin] = 0.35
    regions = most_probable_regions(Place(52.5, 13.4, int(berlin[0]), probabilities), partitioning)
    assert len(regions) == 2
    assert regions[0].probability == pytest.approx(0.7)
    assert regions[0].name.startswith("Europe/")
    for region in regions:
        assert s2cell.token_to_level(region.cell) <= 4
        assert region.width_km >= 500
        assert isinstance(region.lat_deg, int)
    # the region's probability does not depend on its distribution inside the region
    moved = probabilities.copy()
    moved[berlin] = (0.6, 0.1)
    shown = [region_probabilities(Place(0, 0, 0, values), partitioning) for values in (probabilities, moved)]
    np.testing.assert_allclose(*shown)
    assert shown[0][berlin].tolist() == pytest.approx([0.7, 0.7])
