"""All plots: axes have titles, legends hide no data, every row is drawn."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from torch import nn

from distill import report
from results import compress_report, sweep
from results.compress_rows import DEFAULT_ROWS
from tasks.attributes.draw import draw_average_precisions
from tasks.classification.draw import draw_confusion
from tasks.common.benchmark.report import Row, draw
from tasks.common.drawing.plot import draw_curves
from tasks.common.drawing.thresholds import draw_thresholds
from tasks.common.thresholds import count_at_thresholds, pool
from tasks.detection.draw import draw_precision_recall
from tasks.embedding.draw import draw_roc, draw_space
from tasks.embedding.verification import OperatingPoint
from tasks.geolocation.draw import draw_distances

RNG = np.random.default_rng(0)
SCORE_NAME = "mean_ap"  # on axes as in tables
HISTORY = [
    {"epoch": epoch, "loss": 1 / epoch, "loss_boxes": 0.5 / epoch, "lr": 0.1}
    | {f"AP{suffix}": score for suffix in ("", "50", "75", "_small", "_medium", "_large")}
    for epoch, score in enumerate((0.2, 0.5, 0.9, 0.9, 0.7), 1)
]
CELLS = [
    sweep.Cell(width, size, width * size / 200, width * size, width, size) for width in (0.5, 1) for size in (96, 160)
]
FRONTIER = np.array([True, False, True, False])
BENCHMARK = [
    Row(width, size, width * size, width, runtime, threads, 1, factor * width * size, floor_rate=100)
    for width in (1.0, 0.5, 0.25)
    for size in (128, 192, 224)
    for threads in (1, 2)
    for runtime, factor in (("torch", 0.1), ("int8", 0.02))
]


def draw_benchmark(path: Path) -> None:
    draw(BENCHMARK, path)


def draw_sweep(path: Path) -> None:
    sweep._draw(CELLS, dict.fromkeys(sweep.COSTS, FRONTIER), "top1", path)


def draw_compression(path: Path) -> None:
    rows = [
        compress_report.CompressedRow(
            row=row, scores={0: 0.5 + 0.01 * number, 1: 0.6}, file_mb=number, latencies_ms={"onnx": number}
        )
        for number, row in enumerate(DEFAULT_ROWS, 1)
    ]
    fronts = dict.fromkeys(compress_report.COSTS, np.ones(len(rows), bool))
    compress_report._draw(rows, fronts, "top1", path)


def draw_report(
    path: Path, scores: tuple[float, ...] = (0.9, 0.7, 0.6), latencies_ms: tuple[float, ...] = (9, 2, 2)
) -> None:
    names = [f"mobilenet_{index}, runs/attributes" for index in range(len(scores))]
    rows = [
        report.Row(name, 96, None, None, latency_ms, {SCORE_NAME: score})
        for name, score, latency_ms in zip(names, scores, latencies_ms, strict=True)
    ]
    log = [{"epoch": epoch, SCORE_NAME: 0.1 * epoch} for epoch in (2, 4, 6)]
    histories = [[], *[log] * (len(rows) - 1)]
    entries = [report.ModelEntry(name, nn.Identity(), 96, {}, log) for name, log in zip(names, histories, strict=True)]
    report._plot(rows, entries, SCORE_NAME, path)


def draw_pairs(path: Path) -> None:
    same = np.arange(200) % 4 == 0
    points = [OperatingPoint(far=0.01, impostor_pairs=150, tar=0.8, threshold=0.5)]
    draw_roc(np.where(same, 0.6, 0.1) + RNG.uniform(-0.4, 0.4, 200), same, points, path)


def draw_operating_points(path: Path, num_classes: int = 12) -> None:
    classes = [
        count_at_thresholds(f"a class with a long name {row}", RNG.random(50), RNG.random(50) < 0.5, 40 * (row != 3))
        for row in range(num_classes)
    ]
    draw_thresholds(classes, pool(classes).choose("f1"), path)


PLOTS: dict[str, Callable[[Path], None]] = {
    "average precisions": lambda path: draw_average_precisions({"Hat": (0.9, 0.2), "Smiling": (0.6, 0.5)}, path),
    "benchmark": draw_benchmark,
    "compression": draw_compression,
    "confusion": lambda path: draw_confusion(np.eye(5, dtype=np.int64), list("abcde"), path),
    "curves": lambda path: draw_curves(HISTORY, "AP", path),
    "distances": lambda path: draw_distances(10 ** RNG.uniform(0, 4, 50), {1.0: 0.01, 25.0: 0.1, 750.0: 0.3}, path),
    "distillation": draw_report,
    "precision-recall": lambda path: draw_precision_recall(
        RNG.uniform(size=(101, 12)), np.linspace(0, 1, 101), [f"class {row}" for row in range(12)], path
    ),
    "roc": draw_pairs,
    "space": lambda path: draw_space(
        RNG.normal(size=(40, 8)).astype(np.float32), [f"id {row % 20}" for row in range(40)], path
    ),
    "sweep": draw_sweep,
    "thresholds": draw_operating_points,
    "thresholds of many classes": lambda path: draw_operating_points(path, 14),
}


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that were saved, in their final layout."""
    saved: list[Figure] = []
    save = Figure.savefig

    def savefig(figure: Figure, *arguments: Any, **options: Any) -> None:
        save(figure, *arguments, **options)
        saved.append(figure)

    monkeypatch.setattr(Figure, "savefig", savefig)
    return saved


def num_points(lines: Any) -> int:
    return sum(len(line.get_xdata()) for line in lines)


@pytest.mark.parametrize("name", PLOTS)
def test_legends_are_outside_the_axes_and_inside_the_figure(name: str, figures: list[Figure], tmp_path: Path) -> None:
    PLOTS[name](tmp_path / "plot.png")
    (figure,) = figures
    legends = [*figure.legends, *(axes.get_legend() for axes in figure.axes if axes.get_legend())]
    assert bool(legends) == (name != "confusion")
    for legend in legends:
        box = legend.get_window_extent()
        for axes in figure.axes:
            parts = [axes.bbox, axes.xaxis.get_tightbbox(), axes.yaxis.get_tightbbox()]
            assert not any(part is not None and box.overlaps(part) for part in parts)
        assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= box.y0 < box.y1 <= figure.bbox.y1


@pytest.mark.parametrize("name", [name for name in PLOTS if name != "space"])
def test_axes_have_titles(name: str, figures: list[Figure], tmp_path: Path) -> None:
    PLOTS[name](tmp_path / "plot.png")
    for axes in figures[0].axes:
        assert not axes.axison or axes.get_xlabel() or axes.get_ylabel()
        assert "_" not in (axes.get_xlabel() + axes.get_ylabel()).replace(SCORE_NAME, "")


@pytest.mark.parametrize(("num_classes", "num_labelled"), [(1, 0), (5, 4), (13, 12), (14, 0)])
def test_thresholds_have_a_curve_for_each_class_with_objects(
    num_classes: int, num_labelled: int, figures: list[Figure], tmp_path: Path
) -> None:
    """Those of more than 12 classes have no label; the fourth has no objects. The last two lines: all, the best."""
    draw_operating_points(tmp_path / "thresholds.png", num_classes)
    num_curves = num_classes - (num_classes > 3) if num_classes > 1 else 0
    for axes in figures[0].axes:
        *curves, everything, best = axes.lines
        assert len(curves) == num_curves
        assert all(curve.get_linewidth() < everything.get_linewidth() for curve in curves)
        assert len(set(best.get_xdata())) == 1
    (legend,) = figures[0].legends
    assert len(legend.get_texts()) == num_labelled + 2


def test_the_first_best_epoch_is_marked(figures: list[Figure], tmp_path: Path) -> None:
    """As in `is_new_best`: a later epoch with the same score is no better."""
    draw_curves([*HISTORY, HISTORY[0] | {"epoch": 6, "AP": float("nan")}], "AP", tmp_path / "curves.png")
    (star,) = (line for line in figures[0].axes[1].lines if line.get_marker() == "*")
    assert (star.get_xdata().tolist(), star.get_ydata().tolist()) == ([3], [0.9])
    assert star.get_label() == "best AP: 0.900, epoch 3"


def test_benchmark_has_a_point_for_each_row(figures: list[Figure], tmp_path: Path) -> None:
    """A panel for each number of threads; a line joins the input sizes of one width and one runtime."""
    draw_benchmark(tmp_path / "benchmark.png")
    titles = [axes.get_title().partition(": ")[2] for axes in figures[0].axes]
    assert titles == ["1 thread, batch 1", "2 threads, batch 1"]
    for axes in figures[0].axes:
        lines = [line for line in axes.lines if len(line.get_xdata())]
        floors = [line for line in lines if line.get_color() == "grey"]
        assert [line.get_linestyle() for line in floors] == ["--", ":"]
        for floor in floors:
            np.testing.assert_allclose(floor.get_ydata(), np.divide(floor.get_xdata(), 100))
        networks = [line for line in lines if line not in floors]
        assert sorted((line.get_color(), line.get_marker(), len(line.get_xdata())) for line in networks) == [
            (colour, marker, 3) for colour in ("C0", "C1", "C2") for marker in ("^", "o")
        ]
        names = {f"{row.width:g}-{row.input_size}" for row in BENCHMARK}  # at the slowest runtime
        sizes = [str(row.input_size) for row in BENCHMARK if (row.runtime, row.num_threads) == ("int8", 1)]
        assert sorted(text.get_text() for text in axes.texts) == sorted([*names, *sizes])


def test_sweep_has_a_labelled_point_for_each_cell_and_rings_on_the_frontier(
    figures: list[Figure], tmp_path: Path
) -> None:
    draw_sweep(tmp_path / "sweep.png")
    for axes in figures[0].axes:
        *lines, rings = axes.lines
        assert num_points(lines) == len(CELLS)
        assert num_points([rings]) == FRONTIER.sum()
        assert sorted(float(text.get_text()) for text in axes.texts) == sorted(cell.width for cell in CELLS)
    (legend,) = figures[0].legends
    assert [text.get_text() for text in legend.get_texts()] == ["96 px", "160 px", "on the Pareto frontier"]


@pytest.mark.parametrize(
    ("scores", "latencies_ms"),
    [
        ((0.9, 0.7, 0.6), (9.0, 2.0, 2.1)),
        ((0.6, 0.6, 0.6), (2.0, 2.0, 2.0)),
        ((0.3, 0.9, 0.9, 0.9), (1.0, 1.0, 1.0, 9.0)),
    ],
)
def test_report_names_each_model_beside_its_point(
    scores: tuple[float, ...], latencies_ms: tuple[float, ...], figures: list[Figure], tmp_path: Path
) -> None:
    draw_report(tmp_path / "report.png", scores, latencies_ms)
    axes = figures[0].axes[1]
    points = [(line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines]
    assert points == list(zip(latencies_ms, scores, strict=True))
    assert [text.xy for text in axes.texts] == points
    boxes = [text.get_window_extent() for text in axes.texts]
    for row, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[row + 1 :])
        assert axes.bbox.x0 <= box.x0 < box.x1 <= axes.bbox.x1
        assert axes.bbox.y0 <= box.y0 < box.y1 <= axes.bbox.y1
