"""What counts as a mistake depends on the threshold."""

import numpy as np
import pytest

from datasets.types import Attributes
from tasks.attributes.config import AttributesConfig
from tasks.attributes.task import AttributesTask


def task_with(threshold: float | str) -> AttributesTask:
    metadata = {"attribute_names": ["Beard", "Hat", "Smiling"], "prevalence": [0.5] * 3}
    return AttributesTask(AttributesConfig(threshold=threshold), metadata)


@pytest.mark.parametrize(
    ("threshold", "expected"),
    [
        (0.5, (0.7, "no Hat: present")),
        (0.3, (0.4, "Smiling: absent")),
        (0.2, (0.4, "Smiling: absent")),
        (0.6, (0.7, "no Hat: present")),
    ],
)
def test_the_failure_case_is_the_most_confident_wrong_attribute(threshold: float, expected: tuple[float, str]) -> None:
    predicted, truth = np.array([0.9, 0.3, 0.4], np.float32), np.array([1, 1, 0], np.float32)
    case = task_with(threshold).failure_case(Attributes(predicted), Attributes(truth))
    assert case is not None
    assert (round(case.confidence, 4), case.what) == expected


def test_what_is_right_at_the_threshold_is_no_failure() -> None:
    predicted, truth = Attributes(np.array([0.7, 0.7, 0.6], np.float32)), Attributes(np.array([1, 1, 0], np.float32))
    assert task_with(0.7).failure_case(predicted, truth) is None
    assert task_with(0.71).failure_case(predicted, truth) is not None


def test_a_line_has_the_attributes_from_the_threshold_on() -> None:
    predicted = [Attributes(np.array([0.9, 0.3, 0.4], np.float32))]
    assert task_with(0.35).summarize(predicted) == "Beard 0.90, Smiling 0.40"
    assert task_with(0.95).summarize(predicted) == "no attribute with a probability of 0.95 or more"
    hidden = Attributes(np.zeros(3, np.float32))
    assert task_with(0.35).summarize([*predicted, hidden]) == "2 faces: Beard 0.90, Smiling 0.40; none"
    crowd = task_with(0.35).summarize(predicted * 40)
    assert crowd.startswith("40 faces: Beard 0.90, Smiling 0.40; Beard 0.90")
    assert crowd.endswith("; and 34 more")
    assert task_with(0.35).summarize([]) == "no face found"


def test_a_task_without_a_run_needs_a_number() -> None:
    with pytest.raises(
        ValueError, match=r"^threshold: f1 is looked up in a run's thresholds\.csv, and there is no run"
    ):
        task_with("f1")
