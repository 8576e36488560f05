"""Matching against its definition and torchvision; sampling, and that it depends only on the seed."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import chi2
from torch.profiler import ProfilerActivity, profile
from torchvision.models.detection._utils import Matcher, SSDMatcher
from torchvision.ops import box_convert, box_iou

from tasks.detection.anchors import build_anchors, fpn_shapes, grid_sizes, ssd_shapes
from tasks.detection.matching import hash_uniform, match_anchors, sample_balanced
from tests.tasks.detection.objects import random_truth, targets_of

ANCHORS = build_anchors([(grid, grid) for grid in (6, 3, 2, 1, 1, 1)], ssd_shapes())
BETWEEN = Matcher.BETWEEN_THRESHOLDS


def dense_match(boxes: np.ndarray, anchors: np.ndarray, match_iou: float) -> dict[int, int]:
    """Anchor -> object, from all IoUs at once, in float64."""
    low = np.maximum(anchors[:, None, :2], boxes[None, :, :2])
    high = np.minimum(anchors[:, None, 2:], boxes[None, :, 2:])
    intersections = np.prod(np.clip(high - low, 0, None), 2)
    areas = [np.prod(b[:, 2:] - b[:, :2], 1) for b in (anchors, boxes)]
    ious = intersections / (areas[0][:, None] + areas[1] - intersections)
    matched = {anchor: int(row.argmax()) for anchor, row in enumerate(ious) if row.max() >= match_iou}
    for position in reversed(range(len(boxes))):  # the first object takes precedence
        matched[int(ious[:, position].argmax())] = position
    return matched


@pytest.mark.parametrize("match_iou", [0.35, 0.5, 0.9])
def test_matching_equals_the_dense_definition(match_iou: float, rng: np.random.Generator) -> None:
    """For each image, in any batch."""
    truth = random_truth(rng, 3, 1, 60, 0, 12)
    matched, positive = match_anchors(targets_of(truth), ANCHORS, match_iou)
    assert matched.shape == positive.shape == (5, len(ANCHORS))
    for image, objects in enumerate(truth):
        boxes = objects.resized((1, 1)).boxes_xyxy.astype(float)
        expected = (
            dense_match(boxes, box_convert(ANCHORS, "cxcywh", "xyxy").double().numpy(), match_iou)
            if len(objects)
            else {}
        )
        rows = positive[image].nonzero()[:, 0].tolist()
        assert {row: int(matched[image, row]) for row in rows} == expected
        (single_matched,), (single_positive,) = match_anchors(targets_of([objects]), ANCHORS, match_iou)
        assert torch.equal(single_positive, positive[image])
        assert torch.equal(single_matched[single_positive], matched[image][single_positive])


def test_matching_equals_torchvisions(rng: np.random.Generator) -> None:
    """If no two objects have the same best anchor: torchvision would match it to the last one."""
    num_compared = 0
    for count in (1, 2, 3, 3, 3, 4, 4):
        truth = random_truth(rng, count)
        ious = box_iou(targets_of(truth).boxes_xyxy[0], box_convert(ANCHORS, "cxcywh", "xyxy"))
        if len(set(ious.argmax(1).tolist())) < count:
            continue
        expected = SSDMatcher(0.5)(ious)
        (matched,), (positive,) = match_anchors(targets_of(truth), ANCHORS, 0.5)
        assert torch.equal(torch.where(positive, matched, -1), expected.clamp(min=-1))
        num_compared += 1
    assert num_compared >= 4


def peak_bytes(num_images: int, num_objects: int, folder: Path) -> int:
    """Peak memory of `match_anchors` with the FPN's anchors at 320 px."""
    anchors = build_anchors(grid_sizes(320, (8, 16, 32, 64, 128)), fpn_shapes())
    assert len(anchors) == 12_804
    targets = targets_of(random_truth(np.random.default_rng(0), *[num_objects] * num_images))
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        match_anchors(targets, anchors, 0.5)
    record.export_chrome_trace(str(folder / "trace.json"))
    events = json.loads((folder / "trace.json").read_text())["traceEvents"]
    changes = [event for event in events if event["name"] == "[memory]"]
    changes.sort(key=lambda event: event["ts"])
    peak = int(np.cumsum([event["args"]["Bytes"] for event in changes]).max())
    assert peak > 4 * num_objects * len(anchors)  # the profile includes the IoUs of one image
    return peak


def test_memory_of_hundreds_of_objects_is_bounded(tmp_path: Path) -> None:
    """The IoUs of 16 images at once are 330 MB, and each step of computing them takes as much again or twice."""
    assert peak_bytes(16, 400, tmp_path) < 200e6


def test_memory_does_not_grow_with_the_batch(tmp_path: Path) -> None:
    """Except for the results: an int64 and a temporary float32 for each anchor of each image."""
    results = 14 * 12_804 * (8 + 4)
    assert peak_bytes(16, 100, tmp_path) < peak_bytes(2, 100, tmp_path) + 2 * results


def random_assigned(
    rng: np.random.Generator, num_images: int, num_boxes: int, positive_fraction: float
) -> torch.Tensor:
    """Objects 0 to 4, background, and neither."""
    rest = (1 - positive_fraction) / 2
    kinds = rng.choice([0, 1, 2], (num_images, num_boxes), p=[positive_fraction, rest, rest])
    objects = rng.integers(0, 5, kinds.shape)
    return torch.from_numpy(np.select([kinds == 0, kinds == 1], [objects, Matcher.BELOW_LOW_THRESHOLD], BETWEEN))


@pytest.mark.parametrize(("positive_fraction", "num_samples"), [(0.02, 64), (0.4, 64), (0.4, 65), (0.9, 64), (0, 64)])
def test_sizes_of_a_sample(positive_fraction: float, num_samples: int, rng: np.random.Generator) -> None:
    """At most a quarter are positive; background fills the rest; boxes that are neither are never sampled."""
    assigned = random_assigned(rng, 6, 400, positive_fraction)
    positive, negative = sample_balanced(assigned, num_samples, 0.25, torch.arange(6))
    num_positives, num_negatives = (assigned >= 0).sum(1), (assigned == Matcher.BELOW_LOW_THRESHOLD).sum(1)
    assert (assigned[positive] >= 0).all()
    assert (assigned[negative] == Matcher.BELOW_LOW_THRESHOLD).all()
    expected = num_positives.clamp(max=16)  # a quarter of 64, and of 65
    assert torch.equal(positive.sum(1), expected)
    assert torch.equal(negative.sum(1), torch.minimum(num_negatives, num_samples - expected))


def test_a_sample_depends_only_on_the_seed(rng: np.random.Generator) -> None:
    """Not on the position in the batch, the batch size, or the state of torch's generator."""
    assigned, seeds = random_assigned(rng, 8, 300, 0.3), torch.from_numpy(rng.integers(0, 2**32, 8))
    together = torch.stack(sample_balanced(assigned, 64, 0.25, seeds), 1)
    torch.manual_seed(1)
    for order in ([5], [7, 0], [3, 1, 4, 0, 5, 2, 6], [2, 2, 2]):
        assert torch.equal(torch.stack(sample_balanced(assigned[order], 64, 0.25, seeds[order]), 1), together[order])
    reseeded = torch.stack(sample_balanced(assigned, 64, 0.25, seeds + 1), 1)
    assert not (reseeded == together).all(-1).any()
    # Boxes that follow, as further padding does, do not change whether a box is sampled.
    longer = torch.cat([assigned, torch.full((8, 50), BETWEEN)], 1)
    assert torch.equal(torch.stack(sample_balanced(longer, 64, 0.25, seeds), 1)[..., :300], together)


@pytest.mark.parametrize("kind", ["consecutive", "random"])
def test_every_box_is_equally_likely_to_be_sampled(kind: str, rng: np.random.Generator) -> None:
    """Chi-square over boxes at 1e-3: of 60 positives 8 are sampled, of 100 negatives 24."""
    num_seeds = 4000
    seeds = torch.arange(num_seeds) if kind == "consecutive" else torch.from_numpy(rng.integers(0, 2**32, num_seeds))
    assigned = torch.tensor([0] * 60 + [Matcher.BELOW_LOW_THRESHOLD] * 100)[rng.permutation(160)]
    for sampled, is_candidate, num_sampled in zip(
        sample_balanced(assigned.expand(num_seeds, -1), 32, 0.25, seeds),
        (assigned >= 0, assigned < 0),
        (8, 24),
        strict=True,
    ):
        counts, size = sampled.sum(0)[is_candidate].double(), int(is_candidate.sum())
        expected = num_seeds * num_sampled / size
        assert counts.sum() == num_seeds * num_sampled
        # Without replacement, so variances are (1 - fraction) n / (n - 1) of those of chi-square.
        statistic = float(((counts - expected) ** 2).sum() / expected / (1 - num_sampled / size) * (size - 1) / size)
        assert chi2.ppf(5e-4, size - 1) < statistic < chi2.ppf(1 - 5e-4, size - 1)
        candidates = sampled[:, is_candidate].double()
        pairs = (candidates.T @ candidates / num_seeds)[~torch.eye(size, dtype=torch.bool)]
        fraction = num_sampled * (num_sampled - 1) / size / (size - 1)  # of seeds that sample both of two boxes
        assert (pairs - fraction).abs().max() < 6 * (fraction * (1 - fraction) / num_seeds) ** 0.5


def test_hash_is_uniform_and_uncorrelated(rng: np.random.Generator) -> None:
    numbers = hash_uniform(torch.cat([torch.arange(100), torch.from_numpy(rng.integers(0, 2**32, 100))]), 1000)
    assert numbers.shape == (200, 1000)
    assert numbers.min() >= 0
    assert numbers.max() < 1
    assert numbers.mean().item() == pytest.approx(0.5, abs=4 / (12 * 200_000) ** 0.5)
    assert numbers.std().item() == pytest.approx(12**-0.5, rel=0.01)
    assert ((numbers.mean(0) - 0.5).abs() < 5 / (12 * 200) ** 0.5).all()  # of each position
    assert ((numbers.mean(1) - 0.5).abs() < 5 / (12 * 1000) ** 0.5).all()  # of each seed
    histogram = torch.histc(numbers.float(), 50, 0, 1)
    assert chi2.sf(float(((histogram - 4000) ** 2 / 4000).sum()), 49) > 1e-3
    assert len(numbers.unique(dim=0)) == 200
    assert len(numbers.unique(dim=1).T) == 1000
    assert abs(np.corrcoef(numbers[:, 1:].flatten(), numbers[:, :-1].flatten())[0, 1]) < 0.01  # of neighbours
    assert abs(np.corrcoef(numbers[1:100].flatten(), numbers[:99].flatten())[0, 1]) < 0.02  # of consecutive seeds
    again = hash_uniform(torch.arange(100), 7)
    assert torch.equal(again, numbers[:100, :7])  # do not depend on `num_values`
