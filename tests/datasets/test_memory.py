"""Available memory, from /proc/meminfo."""

from pathlib import Path

import pytest

from datasets import memory


def test_available_memory_includes_the_page_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "meminfo"
    monkeypatch.setattr(memory, "MEMINFO", file)
    assert memory.available_bytes() is None
    file.write_text("MemTotal:       16384 kB\nMemFree:          100 kB\nMemAvailable:    2048 kB\n")
    assert memory.available_bytes() == 2 * 2**20
    file.write_text("MemFree:          100 kB\n")
    assert memory.available_bytes() is None
