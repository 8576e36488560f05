"""Lessons: the teacher and the student look at one and the same view."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from datasets.transforms import CropAugmentation
from distill.lessons import Lesson, Question, Questions, UnlabelledImages, Viewing


@pytest.fixture
def image(rng: np.random.Generator) -> np.ndarray:
    return cv2.resize(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8), (160, 120))


def viewing(num_views: int | None, input_size: int = 48, view_size: int = 64) -> Viewing[Any]:
    return Viewing(CropAugmentation(view_size, min_crop_area=0.3, randaugment_ops=0), input_size, num_views, seed=0)


def test_student_sees_what_the_teacher_sees(image: np.ndarray) -> None:
    pixels, lesson = viewing(4)(image, Question(3, "truth"), 11)
    assert pixels.shape == (48, 48, 3)
    assert lesson.pixels.shape == (64, 64, 3)
    smaller = cv2.resize(lesson.pixels, (48, 48), interpolation=cv2.INTER_AREA)
    assert np.array_equal(pixels, smaller)
    assert (lesson.row, lesson.truth) == (3, "truth")
    same, lesson = viewing(4, input_size=64)(image, Question(3, None), 11)
    assert np.array_equal(same, lesson.pixels)


def test_an_image_has_as_many_views_as_said(image: np.ndarray) -> None:
    lessons = [viewing(4)(image, Question(3, None), seed)[1] for seed in range(40)]
    by_view = {lesson.view: {other.digest() for other in lessons if other.view == lesson.view} for lesson in lessons}
    assert sorted(by_view) == [0, 1, 2, 3]
    assert all(len(digests) == 1 for digests in by_view.values()), "a view looks the same each time"
    assert len(set().union(*by_view.values())) == 4
    other = viewing(4)(image, Question(5, None), 0)[1]
    assert other.digest() not in by_view[0], "another image's views are others"


def test_without_views_each_seed_has_its_own(image: np.ndarray) -> None:
    lessons = [viewing(None)(image, Question(3, None), seed)[1] for seed in range(8)]
    assert {lesson.view for lesson in lessons} == {None}
    assert len({lesson.digest() for lesson in lessons}) == 8


def test_digest_is_of_the_pixels(image: np.ndarray) -> None:
    changed = image.copy()
    changed[5, 5, 1] ^= 1
    assert Lesson(0, 0, image, None).digest() == Lesson(1, 2, image.copy(), "x").digest()
    assert Lesson(0, 0, image, None).digest() != Lesson(0, 0, changed, None).digest()


def test_unlabelled_images_know_nothing(tmp_path: Path, image: np.ndarray) -> None:
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(tmp_path / name), image)
    questions = Questions(UnlabelledImages([tmp_path / "a.png", tmp_path / "b.png"], None))
    assert len(questions) == 2
    assert questions[1].truth == questions.truth(1) == Question(1, None)
    assert questions[1].id == questions.id(1) == str(tmp_path / "b.png")
    assert np.array_equal(questions[1].image[..., ::-1], image)
