"""Class balance: how often an image is shown is its weight, exactly on average, and within one in each epoch."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.balance import ClassBalance, image_weights
from datasets.loader import TrainingBatches

SEVERAL = st.lists(st.lists(st.integers(0, 4), max_size=4), min_size=1, max_size=40)


def mean_counts(weights: np.ndarray, num_epochs: int = 4000) -> np.ndarray:
    order, rng = ClassBalance(weights), np.random.default_rng(0)
    epochs = [np.bincount(order(rng, 8), minlength=len(weights)) for _ in range(num_epochs)]
    return np.mean(epochs, 0)


@pytest.mark.parametrize("balance", [0.0, 0.5, 1.0])
def test_a_class_of_n_images_is_sampled_in_proportion_to_n_to_the_power_of_1_minus_balance(balance: float) -> None:
    class_ids = np.repeat([0, 1, 2], [16, 2, 9])
    counts = mean_counts(image_weights([[class_id] for class_id in class_ids], balance))
    actual = np.bincount(class_ids, counts)
    expected = np.array([16, 2, 9]) ** (1 - balance)
    np.testing.assert_allclose(actual, 27 * expected / expected.sum(), rtol=0.01)


def test_images_with_several_classes_have_the_repeat_factors_of_lvis() -> None:
    """Gupta et al. 2019, section 4.1: r = max over classes of max(1, sqrt(t / f)), here for t = 1."""
    classes = [["person"], ["person", "dog", "dog"], ["person", "cup"], [], ["cup"], ["person"]]
    frequency = {name: sum(name in of_image for of_image in classes) / 6 for name in ("person", "dog", "cup")}
    factors = [max([1.0, *(max(1.0, (1 / frequency[name]) ** 0.5) for name in names)]) for names in classes]
    np.testing.assert_allclose(image_weights(classes, 0.5), factors)
    np.testing.assert_allclose(mean_counts(np.array(factors)), 6 * np.array(factors) / sum(factors), rtol=0.02)


@pytest.mark.parametrize("classes", [[[0], [1], [1]], [[0, 1], [], [2]], [[0]] * 7])
@pytest.mark.parametrize("epoch", [0, 3])
def test_without_balance_the_order_is_the_plain_one(classes: Sequence[Sequence[int]], epoch: int) -> None:
    order = ClassBalance(image_weights(classes, 0.0))
    plain, balanced = (TrainingBatches(len(classes), 2, seed=5, order=o) for o in (None, order))
    for batches in (plain, balanced):
        batches.start_at(epoch, 0)
    assert list(plain) == list(balanced)


@settings(max_examples=200, deadline=None)
@given(classes=SEVERAL, balance=st.floats(0, 1), seed=st.integers(0, 2**32))
def test_an_epoch_is_as_long_as_the_data_and_each_count_is_next_to_its_mean(
    classes: list[list[int]], balance: float, seed: int
) -> None:
    weights = image_weights(classes, balance)
    rows = ClassBalance(weights)(np.random.default_rng(seed), 4)
    assert len(rows) == len(classes)
    expected = weights * len(weights) / weights.sum()
    counts = np.array([Counter(rows.tolist())[row] for row in range(len(classes))])
    assert (np.floor(expected - 1e-9) <= counts).all()
    assert (counts <= np.ceil(expected + 1e-9)).all()


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    order = ClassBalance(image_weights([[0], [0], [0], [0], [1]], 1.0))
    first, again, other = (TrainingBatches(5, 5, seed=1, order=order) for _ in range(3))
    other.start_at(1, 0)
    assert list(first) == list(again)
    assert [key.row for key in next(iter(first))] != [key.row for key in next(iter(other))]
