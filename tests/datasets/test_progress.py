"""Progress display: bars in terminals, lines elsewhere, nothing for short work."""

import pytest

from datasets import progress
from datasets.progress import track


@pytest.mark.parametrize(("is_terminal", "is_slow", "shown"), [(1, 1, 1), (1, 0, 0), (0, 1, 1), (0, 0, 0)])
def test_track_shows_work_that_takes_long(
    is_terminal: bool, is_slow: bool, shown: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if is_terminal:
        monkeypatch.setenv("FORCE_COLOR", "1")
    if is_slow:
        monkeypatch.setattr(progress, "TRACK_DELAY_S", 0)
        monkeypatch.setattr(progress, "LINE_INTERVAL_S", 0)
    assert list(track(range(1000), "counting", 1000)) == list(range(1000))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert ("counting" in captured.err) == shown
