"""Precision and recall by threshold against scikit-learn, the rules by hand, and the setting `threshold` of a run."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score, precision_recall_curve, precision_score, recall_score

from tasks.attributes.config import AttributesConfig
from tasks.classification.config import ClassificationConfig
from tasks.common.evaluation.thresholds import write_table, write_thresholds
from tasks.common.runs.threshold import copy_table, newest_table, resolve_threshold, with_threshold
from tasks.common.thresholds import ThresholdCounts, count_at_thresholds, pool, read_pooled
from tasks.detection.config import DetectionConfig

SCORES = st.lists(st.tuples(st.integers(0, 200), st.booleans()), max_size=30)


def counts_of(scores: list[float], is_right: list[int], num_objects: int | None = None) -> ThresholdCounts:
    objects = sum(is_right) if num_objects is None else num_objects
    return count_at_thresholds("a", np.array(scores, np.float32), np.array(is_right, bool), objects)


def given_counts(right: list[int], wrong: list[int], num_objects: int) -> ThresholdCounts:
    """At 0.1, 0.2 and so on."""
    thresholds = np.arange(1, len(right) + 1) / 10
    return ThresholdCounts("a", thresholds, np.array(right), np.array(wrong), num_objects)


def test_scores_equal_scikit_learns(rng: np.random.Generator) -> None:
    """At every threshold, with scores that lie on thresholds; and on scikit-learn's own curve."""
    is_right = rng.random(300) < 0.3
    scores = np.clip(0.3 * is_right + rng.uniform(0, 0.6, 300), 0, 1).round(2).astype(np.float32)
    counts = count_at_thresholds("a", scores, is_right, int(is_right.sum()))
    assert counts.thresholds.tolist() == [k / 100 for k in range(1, 100)]
    for row, threshold in enumerate(counts.thresholds):
        predicted = [score >= np.float32(threshold) for score in scores]
        if any(predicted):
            assert counts.precision[row] == pytest.approx(precision_score(is_right, predicted))
        else:
            assert np.isnan(counts.precision[row])
        assert counts.recall[row] == pytest.approx(recall_score(is_right, predicted))
        assert counts.f1[row] == pytest.approx(f1_score(is_right, predicted))
    precision, recall, thresholds = precision_recall_curve(is_right, scores)
    rows = np.searchsorted(thresholds, counts.thresholds.astype(np.float32))  # the curve ends with (1, 0), without one
    np.testing.assert_allclose(counts.recall, recall[rows])
    np.testing.assert_allclose(counts.precision[rows < len(thresholds)], precision[rows[rows < len(thresholds)]])


@given(SCORES, st.integers(0, 3), st.integers(1, 100), st.integers(1, 100))
def test_a_chosen_threshold_holds_what_its_rule_promises(
    pairs: list[tuple[int, bool]], num_missed: int, precision: int, recall: int
) -> None:
    """It is in (0, 1); recall does not rise with it; no other one is better."""
    counts = counts_of(
        [k / 200 for k, _ in pairs], [right for _, right in pairs], sum(r for _, r in pairs) + num_missed
    )
    assert (np.diff(counts.true_positives) <= 0).all()
    points = [counts.at(row) for row in range(len(counts.thresholds))]
    best = counts.choose("f1")
    assert (best is None) == (not counts.true_positives.any())
    if best is not None:
        assert 0 < best.threshold < 1
        assert best.f1 == max(point.f1 for point in points)
    enough = [point.threshold for point in points if point.precision >= precision / 100]
    chosen = counts.choose(f"precision={precision / 100}")
    assert (chosen and chosen.threshold) == min(enough, default=None)
    enough = [point.threshold for point in points if point.recall >= recall / 100]
    chosen = counts.choose(f"recall={recall / 100}")
    assert (chosen and chosen.threshold) == max(enough, default=None)


def test_rules_by_hand() -> None:
    """Precision is 0.5, 0.75, 0.6, 1, of nothing; recall is 1, 0.75, 0.75, 0.5, 0."""
    counts = given_counts([4, 3, 3, 2, 0], [4, 1, 2, 0, 0], 4)
    thresholds = {rule: counts.choose(rule) for rule in ("f1", "precision=0.7", "precision=0.8", "recall=0.75")}
    assert {rule: point and point.threshold for rule, point in thresholds.items()} == {
        "f1": 0.2,  # 8/12, 6/8, 6/9, 4/6, 0
        "precision=0.7": 0.2,  # although it is lower again at 0.3
        "precision=0.8": 0.4,
        "recall=0.75": 0.3,
    }
    assert counts.choose("precision=1") == counts.at(3)


def test_of_equal_thresholds_the_middle_one_is_chosen() -> None:
    """With scores of 0.8 for what is right and 0.3 for what is wrong, 0.31 to 0.80 are equally good."""
    best = counts_of([0.8, 0.8, 0.3], [1, 1, 0]).choose("f1")
    assert best is not None
    assert best == (0.56, 1, 1, 1)


def test_what_is_not_defined_is_neither_0_nor_1() -> None:
    nothing, no_objects = counts_of([], [], 3), counts_of([0.5], [0], 0)
    assert np.isnan(nothing.precision).all()
    assert (nothing.recall == 0).all()
    assert (nothing.f1 == 0).all()
    for values in (no_objects.precision, no_objects.recall, no_objects.f1):
        assert np.isnan(values).all()
    assert {(row["precision"], row["recall"], row["f1"]) for row in no_objects.rows()} == {("", "", "")}
    for rule in ("f1", "precision=0.5", "recall=0.5"):
        assert nothing.choose(rule) is no_objects.choose(rule) is None
    # All the same, they are among the false positives over all classes.
    assert pool([nothing, no_objects]).false_positives.tolist() == [1] * 50 + [0] * 49


def test_thresholds_below_that_of_the_detector_are_left_out() -> None:
    scores, is_right = np.array([0.5, 0.7], np.float32), np.array([True, True])
    assert count_at_thresholds("a", scores, is_right, 2, lowest=0.3).thresholds[0] == 0.3
    (row,) = count_at_thresholds("a", scores, is_right, 2, lowest=0.995).rows()
    assert (row["threshold"], row["recall"]) == (0.99, 0)


def write(run: Path, counts: ThresholdCounts, age_s: float = 0) -> None:
    run.mkdir(parents=True, exist_ok=True)
    write_table([counts], run)
    os.utime(run / "thresholds.csv", (1e9 - age_s, 1e9 - age_s))


def test_a_table_is_read_as_written(tmp_path: Path) -> None:
    """Also where a class has the name of the rows over all classes."""
    counts = counts_of([0.9, 0.4, 0.3], [1, 0, 1], 3)
    other = ThresholdCounts("all", counts.thresholds, counts.false_positives, counts.true_positives, 2)
    best = write_thresholds([other, counts], tmp_path)
    read, expected = read_pooled(tmp_path / "thresholds.csv"), pool([other, counts])
    assert list(read.rows()) == list(expected.rows())
    assert best == expected.choose("f1")
    assert (tmp_path / "thresholds.png").is_file()
    assert write_thresholds([], tmp_path / "none") is None
    assert not (tmp_path / "none").exists()


def test_the_newest_table_of_the_run_is_used(tmp_path: Path) -> None:
    run, export = tmp_path / "run", tmp_path / "export"
    run.mkdir()
    export.mkdir()
    copy_table(run, export)
    assert newest_table(run) is newest_table(export) is None
    for age_s, folder in enumerate(("evaluate-val-2", ".", "evaluate-val")):
        write(run / folder, counts_of([0.1 + 0.2 * age_s], [1]), age_s)
    write(run / "evaluate-train", counts_of([0.9], [1]), -1)
    assert newest_table(run) == run / "evaluate-val-2" / "thresholds.csv"
    assert resolve_threshold("recall=1", run) == 0.1
    copy_table(run, export)
    assert resolve_threshold("recall=1", str(export)) == 0.1


def test_settings_get_the_number(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, counts_of([0.8, 0.6, 0.4, 0.2], [1, 1, 0, 0]))
    for config in (DetectionConfig(threshold="precision=0.9"), AttributesConfig(threshold="precision=0.9")):
        assert with_threshold(config, tmp_path).threshold == 0.41
        line = "threshold 0.41 for precision=0.9: precision 1.000, recall 1.000 in "
        assert capsys.readouterr().err == f"{line}{tmp_path / 'thresholds.csv'}\n"
    for unchanged in (DetectionConfig(threshold=0.7), ClassificationConfig()):
        assert with_threshold(unchanged, tmp_path) is unchanged
    assert resolve_threshold(0, None) == 0


@pytest.mark.parametrize(
    "threshold", [-0.1, 1.1, float("nan"), "best", "precision", "recall=0", "f1=0.5", "precision=2"]
)
def test_other_thresholds_are_refused(threshold: float | str) -> None:
    with pytest.raises(
        ValueError, match=r"^threshold: expected a number of 0 or more and at most 1, f1, precision=0\.9"
    ):
        DetectionConfig(threshold=threshold)


def test_errors_are_one_line_that_says_what_to_do(tmp_path: Path) -> None:
    def error(rule: str, run: Path | None) -> str:
        with pytest.raises(ValueError, match=r"thresholds\.csv") as raised:
            resolve_threshold(rule, run)
        assert "\n" not in str(raised.value)
        return str(raised.value)

    assert error("f1", None).endswith("there is no run; give a number")
    assert error("f1", tmp_path).endswith(f"does not have; evaluate --run {tmp_path} writes it")
    write(tmp_path, given_counts([3, 2, 0], [3, 1, 2], 4))
    assert "precision=0.9 is not reached in" in error("precision=0.9", tmp_path)
    assert "the highest precision is 0.667, at 0.2; give a number or a lower precision" in error(
        "precision=.9", tmp_path
    )
    assert "the highest recall is 0.750, at 0.1;" in error("recall=0.8", tmp_path)
    write(tmp_path, given_counts([0, 0], [2, 1], 4))
    assert f"threshold: f1: no object is found at any threshold in {tmp_path}" in error("f1", tmp_path)
    write(tmp_path, given_counts([0, 0], [2, 1], 0))
    assert "threshold: recall=0.5: no object is found" in error("recall=0.5", tmp_path)
    other = (tmp_path / "thresholds.csv").read_text().replace("all", "cat")
    for text in ("", "class,threshold\nall,0.5\n", "class,threshold\nall,x\n", "\x00\xff", other):
        (tmp_path / "thresholds.csv").write_text(text, encoding="latin-1")
        assert error("f1", tmp_path).startswith(f"{tmp_path / 'thresholds.csv'}: not a table as evaluate writes it;")
