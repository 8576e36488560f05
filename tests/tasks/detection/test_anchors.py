import math

import pytest
import torch

from tasks.detection.anchors import anchor_shapes, build_anchors, decode, encode, grid_sizes, to_xyxy


def test_ssd300_has_the_papers_grids_and_1917_anchors() -> None:
    assert grid_sizes(300) == [19, 10, 5, 3, 2, 1]
    assert [len(shapes) for shapes in anchor_shapes()] == [3, 6, 6, 6, 6, 6]
    assert build_anchors(300).shape == (19 * 19 * 3 + (100 + 25 + 9 + 4 + 1) * 6, 4)


def test_shapes_by_hand() -> None:
    lowest, second = anchor_shapes()[:2]
    assert lowest[0] == pytest.approx((0.1, 0.1))
    assert lowest[1] == pytest.approx((0.2 * math.sqrt(2), 0.2 / math.sqrt(2)))
    assert lowest[2] == pytest.approx((0.2 / math.sqrt(2), 0.2 * math.sqrt(2)))
    assert second[0] == pytest.approx((0.35, 0.35))  # 0.2 + (0.95 - 0.2) * 1 / 5
    assert second[1] == pytest.approx((0.35 * math.sqrt(2), 0.35 / math.sqrt(2)))
    assert second[5] == pytest.approx((math.sqrt(0.35 * 0.5),) * 2)
    assert anchor_shapes()[5][5] == pytest.approx((math.sqrt(0.95),) * 2)


def test_order_is_row_then_column_then_shape() -> None:
    anchors = build_anchors(300)
    assert anchors[0, :2].tolist() == pytest.approx([0.5 / 19, 0.5 / 19])
    assert anchors[3, :2].tolist() == pytest.approx([1.5 / 19, 0.5 / 19])  # next column: x grows
    assert anchors[19 * 3, :2].tolist() == pytest.approx([0.5 / 19, 1.5 / 19])
    assert anchors[-1, :2].tolist() == [0.5, 0.5]


def test_encode_by_hand() -> None:
    anchor = torch.tensor([[0.5, 0.5, 0.2, 0.4]])
    box = torch.tensor([[0.42, 0.3, 0.62, 0.9]])  # centre 0.52, 0.6; size 0.2, 0.6
    expected = [0.02 / (0.1 * 0.2), 0.1 / (0.1 * 0.4), 0.0, math.log(0.6 / 0.4) / 0.2]
    assert encode(box, anchor)[0].tolist() == pytest.approx(expected, abs=1e-5)


def test_decode_inverts_encode() -> None:
    anchors = build_anchors(128)
    corners = torch.rand(len(anchors), 2, 2).sort(1).values
    boxes = torch.cat([corners[:, 0], corners[:, 1] + 0.01], 1)
    torch.testing.assert_close(decode(encode(boxes, anchors), anchors), boxes, atol=1e-5, rtol=0)
    torch.testing.assert_close(decode(torch.zeros(len(anchors), 4), anchors), to_xyxy(anchors))
