"""The guard against leaks: laws that hold for any photos."""

import numpy as np
import pytest

from datasets.groups import groups_by_name, groups_by_place, validation_rows
from datasets.sphere import distance_km


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("within_km", [0.5, 5, 400])
def test_no_two_photos_so_near_are_on_both_sides(seed: int, within_km: float) -> None:
    rng = np.random.default_rng(seed)
    centres = rng.uniform((-89, -180), (89, 180), (30, 2))
    spread = within_km / 111 * 3
    places = centres[rng.integers(30, size=200)] + rng.normal(0, spread, (200, 2))
    lat_deg, lng_deg = np.clip(places[:, 0], -90, 90), (places[:, 1] + 180) % 360 - 180
    is_val = validation_rows(groups_by_place(lat_deg, lng_deg, within_km), 0.3)
    assert 0 < is_val.mean() <= 0.3
    apart = distance_km(lat_deg[is_val, None], lng_deg[is_val, None], lat_deg[~is_val], lng_deg[~is_val])
    assert apart.min() > within_km


def test_links_form_chains_and_do_not_reach_further() -> None:
    lng_deg = np.array([0, 0.9, 1.8, 5, 179.9, -179.9])
    kilometres_per_degree = float(distance_km(0, 0, 0, 1))
    groups = groups_by_place(np.zeros(6), lng_deg, kilometres_per_degree)
    assert groups[0] == groups[1] == groups[2]
    assert groups[4] == groups[5]
    assert len(set(groups.tolist())) == 3


def test_the_split_is_always_the_same_and_keeps_groups_whole(rng: np.random.Generator) -> None:
    groups = groups_by_name([str(number) for number in rng.integers(40, size=500)])
    is_val = validation_rows(groups, 0.2)
    np.testing.assert_array_equal(is_val, validation_rows(groups, 0.2))
    assert not set(groups[is_val]) & set(groups[~is_val])
    assert 0.15 < is_val.mean() <= 0.2
    assert validation_rows(groups, 1).all()


def test_one_place_cannot_be_split() -> None:
    with pytest.raises(ValueError, match=r"10 photos cannot be split.* 1 groups .*smaller data.group_km helps"):
        validation_rows(groups_by_place(np.full(10, 5.0), np.full(10, 6.0), 1), 0.1)
