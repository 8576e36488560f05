"""Which object an anchor has, by the definition and by torchvision; a sample, and that the seed alone decides it."""

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
from tasks.detection.matching import match_anchors, random_numbers, sample
from tests.tasks.detection.objects import random_truth, targets_of

ANCHORS = build_anchors([(grid, grid) for grid in (6, 3, 2, 1, 1, 1)], ssd_shapes())
BETWEEN = Matcher.BETWEEN_THRESHOLDS


def dense_match(boxes: np.ndarray, anchors: np.ndarray, match_iou: float) -> dict[int, int]:
    """Anchor -> object, from all overlaps at once, in doubles."""
    low = np.maximum(anchors[:, None, :2], boxes[None, :, :2])
    high = np.minimum(anchors[:, None, 2:], boxes[None, :, 2:])
    common = np.prod(np.clip(high - low, 0, None), 2)
    areas = [np.prod(b[:, 2:] - b[:, :2], 1) for b in (anchors, boxes)]
    iou = common / (areas[0][:, None] + areas[1] - common)
    matched = {anchor: int(row.argmax()) for anchor, row in enumerate(iou) if row.max() >= match_iou}
    for position in reversed(range(len(boxes))):  # the first one has the last word
        matched[int(iou[:, position].argmax())] = position
    return matched


@pytest.mark.parametrize("match_iou", [0.35, 0.5, 0.9])
def test_matching_is_the_dense_definition(match_iou: float, rng: np.random.Generator) -> None:
    """Whatever else is in the batch."""
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
        (alone,), (is_matched,) = match_anchors(targets_of([objects]), ANCHORS, match_iou)
        assert torch.equal(is_matched, positive[image])
        assert torch.equal(alone[is_matched], matched[image][is_matched])


def test_matching_is_torchvisions(rng: np.random.Generator) -> None:
    """Where no two objects have the same best anchor: there the last one has it, in torchvision."""
    num_compared = 0
    for count in (1, 2, 3, 3, 3, 4, 4):
        truth = random_truth(rng, count)
        overlaps = box_iou(targets_of(truth).boxes_xyxy[0], box_convert(ANCHORS, "cxcywh", "xyxy"))
        if len(set(overlaps.argmax(1).tolist())) < count:
            continue
        expected = SSDMatcher(0.5)(overlaps)
        (matched,), (positive,) = match_anchors(targets_of(truth), ANCHORS, 0.5)
        assert torch.equal(torch.where(positive, matched, -1), expected.clamp(min=-1))
        num_compared += 1
    assert num_compared >= 4


def peak_bytes(num_images: int, num_objects: int, folder: Path) -> int:
    """The most memory that `match_anchors` holds at a time, with the anchors of the pyramid at 320 px."""
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
    assert peak > 4 * num_objects * len(anchors)  # the overlaps of one image at least are seen
    return peak


def test_hundreds_of_objects_take_little_memory(tmp_path: Path) -> None:
    """All overlaps of 16 images at once are 330 MB, and as much again or twice in each step of computing them."""
    assert peak_bytes(16, 400, tmp_path) < 200e6


def test_more_images_take_no_more_memory(tmp_path: Path) -> None:
    """But for what is returned, an int64 and, until it is compared, a float32 for each anchor of each image."""
    results = 14 * 12_804 * (8 + 4)
    assert peak_bytes(16, 100, tmp_path) < peak_bytes(2, 100, tmp_path) + 2 * results


def random_assigned(rng: np.random.Generator, num_images: int, number: int, positive: float) -> torch.Tensor:
    """Objects 0 to 4, background, and neither."""
    share = (1 - positive) / 2
    kinds = rng.choice([0, 1, 2], (num_images, number), p=[positive, share, share])
    objects = rng.integers(0, 5, kinds.shape)
    return torch.from_numpy(np.select([kinds == 0, kinds == 1], [objects, Matcher.BELOW_LOW_THRESHOLD], BETWEEN))


@pytest.mark.parametrize(("positive", "number"), [(0.02, 64), (0.4, 64), (0.4, 65), (0.9, 64), (0, 64)])
def test_number_and_share_of_a_sample(positive: float, number: int, rng: np.random.Generator) -> None:
    """At most a quarter have an object; background fills up what is left; what is neither is never chosen."""
    assigned = random_assigned(rng, 6, 400, positive)
    chosen, background = sample(assigned, number, 0.25, torch.arange(6))
    num_objects, num_background = (assigned >= 0).sum(1), (assigned == Matcher.BELOW_LOW_THRESHOLD).sum(1)
    assert (assigned[chosen] >= 0).all()
    assert (assigned[background] == Matcher.BELOW_LOW_THRESHOLD).all()
    expected = num_objects.clamp(max=16)  # a quarter of 64, and of 65
    assert torch.equal(chosen.sum(1), expected)
    assert torch.equal(background.sum(1), torch.minimum(num_background, number - expected))


def test_a_sample_depends_on_the_seed_alone(rng: np.random.Generator) -> None:
    """Not on the place in the batch, on the batch's size, or on what was drawn before."""
    assigned, seeds = random_assigned(rng, 8, 300, 0.3), torch.from_numpy(rng.integers(0, 2**32, 8))
    together = torch.stack(sample(assigned, 64, 0.25, seeds), 1)
    torch.manual_seed(1)
    for order in ([5], [7, 0], [3, 1, 4, 0, 5, 2, 6], [2, 2, 2]):
        assert torch.equal(torch.stack(sample(assigned[order], 64, 0.25, seeds[order]), 1), together[order])
    others = torch.stack(sample(assigned, 64, 0.25, seeds + 1), 1)
    assert not (others == together).all(-1).any()
    # and what follows a box, as a longer padding does, does not change whether it is chosen
    longer = torch.cat([assigned, torch.full((8, 50), BETWEEN)], 1)
    assert torch.equal(torch.stack(sample(longer, 64, 0.25, seeds), 1)[..., :300], together)


@pytest.mark.parametrize("kind", ["consecutive", "as the loader draws them"])
def test_every_box_is_as_likely_to_be_chosen(kind: str, rng: np.random.Generator) -> None:
    """Chi-square over boxes at 1e-3: of 60 with an object 8 are chosen, of 100 of background 24."""
    num_seeds = 4000
    seeds = torch.arange(num_seeds) if kind == "consecutive" else torch.from_numpy(rng.integers(0, 2**32, num_seeds))
    assigned = torch.tensor([0] * 60 + [Matcher.BELOW_LOW_THRESHOLD] * 100)[rng.permutation(160)]
    for chosen, is_kind, number in zip(
        sample(assigned.expand(num_seeds, -1), 32, 0.25, seeds), (assigned >= 0, assigned < 0), (8, 24), strict=True
    ):
        counts, size = chosen.sum(0)[is_kind].double(), int(is_kind.sum())
        expected = num_seeds * number / size
        assert counts.sum() == num_seeds * number
        # without replacement, so variances are (1 - share) n / (n - 1) of those of chi-square
        statistic = float(((counts - expected) ** 2).sum() / expected / (1 - number / size) * (size - 1) / size)
        assert chi2.ppf(5e-4, size - 1) < statistic < chi2.ppf(1 - 5e-4, size - 1)
        together = (chosen[:, is_kind].double().T @ chosen[:, is_kind].double()) / num_seeds
        pairs = together[~torch.eye(size, dtype=torch.bool)]
        share = number * (number - 1) / size / (size - 1)  # of seeds that choose both of two boxes
        assert (pairs - share).abs().max() < 6 * (share * (1 - share) / num_seeds) ** 0.5


def test_random_numbers_look_random(rng: np.random.Generator) -> None:
    numbers = random_numbers(torch.cat([torch.arange(100), torch.from_numpy(rng.integers(0, 2**32, 100))]), 1000)
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
    again = random_numbers(torch.arange(100), 7)
    assert torch.equal(again, numbers[:100, :7])  # the first ones do not depend on how many there are
