"""SSD's outputs, necks and decoding, the last against torchvision's NMS one image and class at a time."""

from typing import Any

import numpy as np
import pytest
import torch
from torchvision.ops import nms

from backbone.build import build_backbone
from backbone.mobilenet import MobileNet
from tasks.common.config import BackboneConfig
from tasks.detection.anchors import build_anchors, ssd_shapes
from tasks.detection.boxes import decode, encode
from tasks.detection.config import DetectionConfig, Neck, Predictor, Scores, SSDConfig
from tasks.detection.postprocess import PostprocessConfig
from tasks.detection.ssd import SSD, SSDOutputs, decode_ssd

CONFIG = PostprocessConfig(input_size=96, score_threshold=0.05, nms_iou=0.5, max_detections=100)
ANCHORS = build_anchors([(grid, grid) for grid in (6, 3, 2, 1, 1, 1)], ssd_shapes())


def test_outputs_have_a_row_for_each_anchor() -> None:
    for size, num_anchors in ((96, len(ANCHORS)), (300, 1917)):
        outputs = SSD(MobileNet(0.25), 4, input_size=size).eval()(torch.zeros(2, 3, size, size, dtype=torch.uint8))
        assert outputs.anchors.shape == (num_anchors, 4)
        assert outputs.class_logits.shape == (2, num_anchors, 5)
        assert outputs.box_deltas.shape == (2, num_anchors, 4)


@pytest.mark.parametrize("name", ["mobilenet_v2_0.5", "mobilenet_v3_large_0.5", "mobilenet_v3_small_0.5"])
@pytest.mark.parametrize("predictor", ["pointwise", "separable"])
@pytest.mark.parametrize("neck", ["extra_layers", "fpn", "fpn_extra_layers"])
def test_outputs_and_gradients_on_every_backbone(name: str, neck: Neck, predictor: Predictor) -> None:
    size = 96
    model = SSD(build_backbone(name), 4, input_size=size, neck=neck, predictor=predictor)
    outputs = model(torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8))
    assert outputs.class_logits.shape == (2, len(outputs.anchors), 5)
    (outputs.class_logits.sum() + outputs.box_deltas.sum()).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("name", ["mobilenet_v2_0.5", "mobilenet_v3_large_0.5"])
def test_settings_of_published_networks_build_on_every_backbone_with_expansions(name: str) -> None:
    kinds: dict[str, Any] = {"finest_map": "expansion", "extra_layers": "separable", "anchors": "torchvision"}
    model = SSD(build_backbone(name), 4, input_size=96, predictor="full", scores="sigmoid", **kinds)
    outputs = model(torch.randint(0, 256, (2, 3, 96, 96), dtype=torch.uint8))
    assert outputs.anchors.shape == (6 * sum(grid**2 for grid in (6, 3, 2, 1, 1, 1)), 4)
    assert outputs.class_logits.shape == (2, len(outputs.anchors), 4)
    (outputs.class_logits.sum() + outputs.box_deltas.sum()).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_parameters_of_full_predictors_and_separable_extra_layers() -> None:
    """Counted by hand, for K + 1 class outputs and 4 deltas of each anchor."""

    def count(**settings: Any) -> int:
        return sum(p.numel() for p in SSD(MobileNet(1.0), 90, input_size=300, **settings).parameters())

    channels, num_shapes = (512, 1024, 512, 256, 256, 128), (3, 6, 6, 6, 6, 6)
    assert count(predictor="full") - count() == sum(8 * c * n * 95 for c, n in zip(channels, num_shapes, strict=True))
    pairs = ((256, 512), (128, 256), (128, 256), (64, 128))
    assert count() - count(extra_layers="separable") == sum(9 * a * b - (9 * a + 2 * a + a * b) for a, b in pairs)
    assert count() - count(scores="sigmoid") == sum((c + 1) * n for c, n in zip(channels, num_shapes, strict=True))


def test_an_expansion_of_mobilenet_v1_is_refused() -> None:
    with pytest.raises(ValueError, match=r"ssd\.finest_map: expected layer, since mobilenet_1\.0 has no expansions"):
        DetectionConfig(ssd=SSDConfig(finest_map="expansion"))
    DetectionConfig(ssd=SSDConfig(finest_map="expansion"), backbone=BackboneConfig(name="mobilenet_v2_1.0"))


def test_separable_predictors_add_a_depthwise_convolution_and_its_norm() -> None:
    """Counted by hand, for classes and for boxes."""
    plain, separable = (SSD(MobileNet(1.0), 90, input_size=300, predictor=kind) for kind in ("pointwise", "separable"))
    channels = (512, 1024, 512, 256, 256, 128)
    difference = sum(p.numel() for p in separable.parameters()) - sum(p.numel() for p in plain.parameters())
    assert difference == 2 * sum(c * 9 + 2 * c for c in channels)


@pytest.mark.parametrize(("size", "grids"), [(320, (40, 20, 10, 5, 3)), (300, (38, 19, 10, 5, 3))])
def test_fpn_has_five_feature_maps_from_stride_8(size: int, grids: tuple[int, ...]) -> None:
    model = SSD(MobileNet(0.25), 4, input_size=size, neck="fpn").eval()
    features = model.backbone.features(torch.zeros(1, 3, size, size, dtype=torch.uint8))
    assert [feature_map.shape[1:] for feature_map in model.neck(features)] == [(32, grid, grid) for grid in grids]
    outputs = model(torch.zeros(1, 3, size, size, dtype=torch.uint8))
    assert outputs.anchors.shape == (6 * sum(grid**2 for grid in grids), 4)
    scales = outputs.anchors[:, 2:].prod(1).sqrt().unique().tolist()
    octaves = [0.05 * 2 ** (k / 2) for k in range(10)]
    assert sorted({round(scale, 4) for scale in scales}) == pytest.approx(octaves, abs=1e-4)


def test_fpn_extra_layers_has_fine_maps_of_the_fpn_and_coarse_ones_of_ssd() -> None:
    """Each map equals that of the neck it comes from, given the same weights."""
    backbone = MobileNet(0.25).eval()
    features = backbone.features(torch.randint(0, 256, (2, 3, 320, 320), dtype=torch.uint8))
    kinds: tuple[Neck, ...] = ("extra_layers", "fpn", "fpn_extra_layers")
    necks: dict[str, Any] = {kind: SSD(backbone, 4, input_size=320, neck=kind).eval().neck for kind in kinds}
    pyramid, extras = necks["fpn"], necks["extra_layers"]
    for part in ("lateral", "smooth"):
        getattr(pyramid, part).load_state_dict(getattr(necks["fpn_extra_layers"], part).state_dict())
    extras.extras[:2].load_state_dict(necks["fpn_extra_layers"].coarser.state_dict())
    maps = {kind: neck(features) for kind, neck in necks.items()}
    for actual, expected in zip(maps["fpn_extra_layers"], [*maps["fpn"][:3], *maps["extra_layers"][2:4]], strict=True):
        torch.testing.assert_close(actual, expected)
    assert [m.shape[1:] for m in maps["fpn_extra_layers"][3:]] == [(128, 5, 5), (64, 3, 3)]


def test_fine_feature_maps_of_the_fpn_depend_on_coarse_ones() -> None:
    """The FPN's finest feature map depends on the backbone's last layer; that of the extra layers does not."""
    images = torch.randint(0, 256, (2, 3, 96, 96), dtype=torch.uint8)
    for neck, depends in (("fpn", True), ("extra_layers", False)):
        model = SSD(MobileNet(0.25), 4, input_size=96, neck=neck)  # type: ignore[arg-type]
        model.neck(model.backbone.features(images))[0].sum().backward()
        last = next(iter(model.backbone.layers[-1].parameters()))
        assert (last.grad is not None) == depends


@pytest.mark.parametrize(
    ("neck", "finest"), [("extra_layers", 19 * 19 * 3), ("fpn", 38 * 38 * 6), ("fpn_extra_layers", 38 * 38 * 6)]
)
def test_outputs_of_an_anchor_depend_on_the_pixels_at_its_location(neck: Neck, finest: int) -> None:
    """Predictions and anchors have the same order: those near the changed pixels change most."""
    size = 300
    model = SSD(MobileNet(0.25), 4, input_size=size, neck=neck).eval()
    images = torch.zeros(1, 3, size, size, dtype=torch.uint8)
    changed = images.clone()
    changed[..., 40:50, 240:250] = 255
    with torch.no_grad():
        difference = (model(changed).class_logits - model(images).class_logits).abs().sum(-1)[0]
    strongest = model(images).anchors[:finest][difference[:finest].argmax()]
    assert strongest[:2].tolist() == pytest.approx([245 / size, 45 / size], abs=0.15)


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_decoding_equals_nms_of_one_class_at_a_time(kind: Scores) -> None:
    outputs = SSDOutputs(3 * torch.randn(3, len(ANCHORS), 5), 0.5 * torch.randn(3, len(ANCHORS), 4), ANCHORS)
    without_background = outputs._replace(class_logits=outputs.class_logits[..., 1:])
    decoded = decode_ssd(outputs if kind == "softmax" else without_background, CONFIG, scores=kind)
    for image, detections in enumerate(decoded):
        logits = outputs.class_logits[image]
        scores = logits.softmax(-1) if kind == "softmax" else 1 / (1 + torch.exp(-logits))
        boxes = decode(outputs.box_deltas[image], ANCHORS).clamp(0, 1) * 96
        expected = []
        for class_id in range(4):
            candidates = (scores[:, class_id + 1] >= 0.05).nonzero()[:, 0]
            kept = candidates[nms(boxes[candidates], scores[candidates, class_id + 1], 0.5)]
            expected += [(scores[row, class_id + 1].item(), class_id, boxes[row].tolist()) for row in kept]
        expected.sort(reverse=True)
        expected = expected[:100]
        assert detections.scores is not None
        np.testing.assert_allclose(detections.scores, [score for score, _, _ in expected], rtol=1e-5)
        assert detections.class_ids.tolist() == [class_id for _, class_id, _ in expected]
        np.testing.assert_allclose(detections.boxes_xyxy, [box for _, _, box in expected], atol=1e-3)


def test_an_encoded_box_is_decoded_exactly() -> None:
    box = torch.tensor([0.2, 0.3, 0.5, 0.9])
    logits = torch.zeros(1, len(ANCHORS), 5)
    logits[..., 0] = 20
    logits[0, 40, :] = torch.tensor([0.0, 0.0, 0.0, 20.0, 0.0])
    deltas = encode(box.expand(len(ANCHORS), 4), ANCHORS)[None]
    (detections,) = decode_ssd(SSDOutputs(logits, deltas, ANCHORS), CONFIG)
    assert detections.class_ids.tolist() == [2]
    np.testing.assert_allclose(detections.boxes_xyxy[0], 96 * box.numpy(), atol=1e-3)
    assert detections.image_hw == (96, 96)


def test_background_gives_no_detections() -> None:
    logits = torch.zeros(1, len(ANCHORS), 5)
    logits[..., 0] = 20
    (detections,) = decode_ssd(SSDOutputs(logits, torch.zeros(1, len(ANCHORS), 4), ANCHORS), CONFIG)
    assert len(detections) == 0
