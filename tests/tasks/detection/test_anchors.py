import math

import pytest
import torch
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.ops import box_convert

from tasks.detection.anchors import build_anchors, grid_sizes, rpn_shapes, ssd_shapes, torchvision_shapes
from tasks.detection.boxes import decode, encode, has_area

GRIDS_300 = (19, 10, 5, 3, 2, 1)


def ssd_anchors(*grids: int) -> torch.Tensor:
    return build_anchors([(grid, grid) for grid in grids], ssd_shapes())


def test_ssd300_has_1917_anchors() -> None:
    assert [len(shapes) for shapes in ssd_shapes()] == [3, 6, 6, 6, 6, 6]
    assert ssd_anchors(*GRIDS_300).shape == (19 * 19 * 3 + (100 + 25 + 9 + 4 + 1) * 6, 4)


def test_rpn_anchors_by_hand() -> None:
    """Squares, and boxes of the same area with sides of 2 to 1."""
    shapes = rpn_shapes((0.1, 0.2, 0.4, 0.8))
    assert len(shapes) == 12
    assert [math.sqrt(w * h) for w, h in shapes] == pytest.approx([s for s in (0.1, 0.2, 0.4, 0.8) for _ in "abc"])
    assert [w / h for w, h in shapes] == pytest.approx([0.5, 1, 2] * 4)


def test_ssd_anchors_by_hand() -> None:
    finest, second = ssd_shapes()[:2]
    assert finest[0] == pytest.approx((0.1, 0.1))
    assert finest[1] == pytest.approx((0.2 * math.sqrt(2), 0.2 / math.sqrt(2)))
    assert finest[2] == pytest.approx((0.2 / math.sqrt(2), 0.2 * math.sqrt(2)))
    assert second[0] == pytest.approx((0.35, 0.35))  # 0.2 + (0.95 - 0.2) * 1 / 5
    assert second[1] == pytest.approx((0.35 * math.sqrt(2), 0.35 / math.sqrt(2)))
    assert second[5] == pytest.approx((math.sqrt(0.35 * 0.5),) * 2)
    assert ssd_shapes()[5][5] == pytest.approx((math.sqrt(0.95),) * 2)


def test_torchvisions_shapes_are_those_of_its_generator() -> None:
    """SSDLite320's; at 300 px, too, since its centres are fractions of the feature maps."""
    generator = DefaultBoxGenerator([[2, 3]] * 6, min_ratio=0.2, max_ratio=0.95)
    grids = [(grid, grid) for grid in GRIDS_300]
    expected = generator._grid_default_boxes([list(grid) for grid in grids], [300, 300])
    torch.testing.assert_close(build_anchors(grids, torchvision_shapes()), expected)


def test_order_is_row_then_column_then_shape() -> None:
    anchors = ssd_anchors(*GRIDS_300)
    assert anchors[0, :2].tolist() == pytest.approx([0.5 / 19, 0.5 / 19])
    assert anchors[3, :2].tolist() == pytest.approx([1.5 / 19, 0.5 / 19])  # next column
    assert anchors[19 * 3, :2].tolist() == pytest.approx([0.5 / 19, 1.5 / 19])
    assert anchors[-1, :2].tolist() == [0.5, 0.5]


def test_encode_by_hand() -> None:
    anchor = torch.tensor([[0.5, 0.5, 0.2, 0.4]])
    box = torch.tensor([[0.42, 0.3, 0.62, 0.9]])  # centre 0.52, 0.6; size 0.2, 0.6
    expected = [0.02 / (0.1 * 0.2), 0.1 / (0.1 * 0.4), 0.0, math.log(0.6 / 0.4) / 0.2]
    assert encode(box, anchor)[0].tolist() == pytest.approx(expected, abs=1e-5)


def test_decode_inverts_encode() -> None:
    anchors = ssd_anchors(8, 4, 2, 1, 1, 1)
    corners = torch.rand(len(anchors), 2, 2).sort(1).values
    boxes = torch.cat([corners[:, 0], corners[:, 1] + 0.01], 1)
    torch.testing.assert_close(decode(encode(boxes, anchors), anchors), boxes, atol=1e-5, rtol=0)
    torch.testing.assert_close(decode(torch.zeros(len(anchors), 4), anchors), box_convert(anchors, "cxcywh", "xyxy"))


def test_feature_maps_need_not_be_square() -> None:
    anchors = build_anchors([(2, 4)], [[(0.5, 0.25)]])
    assert anchors[:, 0].tolist() == pytest.approx([0.125, 0.375, 0.625, 0.875] * 2)
    assert anchors[:, 1].tolist() == pytest.approx([0.25] * 4 + [0.75] * 4)
    assert anchors[:, 2:].unique(dim=0).tolist() == [[0.5, 0.25]]


def test_feature_maps_may_reach_over_the_image() -> None:
    """Centres are spread over the feature maps' extent; sizes stay fractions of the image."""
    plain, wide = (build_anchors([(2, 2)], [[(0.5, 0.25)]], extent=extent) for extent in (1, 1.5))
    torch.testing.assert_close(wide[:, :2], plain[:, :2] * 1.5)
    assert torch.equal(wide[:, 2:], plain[:, 2:])
    assert grid_sizes(300, (16, 32, 64)) == [(19, 19), (10, 10), (5, 5)]
    assert grid_sizes(96, (16, 32, 64)) == [(6, 6), (3, 3), (2, 2)]


def test_has_area() -> None:
    boxes = torch.tensor([[0.1, 0.2, 0.5, 0.4], [0.3, 0.3, 0.3, 0.6], [0.0, 0.0, 0.0, 0.0]])
    assert has_area(boxes).tolist() == [True, False, False]
