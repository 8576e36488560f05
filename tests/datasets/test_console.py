"""Errors and warnings are a line each on standard error, whatever is in them."""

import warnings

import pytest

from datasets.console import exit_status


def test_messages_are_one_line_each(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def run() -> int:
        warnings.warn("a class called 'a\nb'", stacklevel=1)
        raise ValueError("data/c\r\nd.json: no boxes")

    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert exit_status(run) == 1
    assert capsys.readouterr().err.splitlines() == [
        "warning: a class called 'a\\nb'",
        "error: data/c\\r\\nd.json: no boxes",
    ]
