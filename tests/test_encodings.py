"""Text files are always opened with an explicit encoding, UTF-8, not with that of the machine."""

import ast
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.test_layers import MODULES

# Methods called open by which no text file is opened: the last is a logger's, which begins a run.
NOT_TEXT = {"Image.open", "PIL.Image.open", "os.open", "tarfile.open", "self.open"}


def calls_without_encoding(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        name, keywords = ast.unparse(node.func), {keyword.arg for keyword in node.keywords}
        words = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
        is_binary = any(isinstance(word, str) and set(word) <= set("rwxab+") and "b" in word for word in words)
        opens = name.rpartition(".")[2] in ("open", "read_text", "write_text") and name not in NOT_TEXT
        if opens and not is_binary and not {"encoding", "timeout"} & keywords:  # a URL has a timeout, a file has none
            found.append(f"line {node.lineno}: {ast.unparse(node)}")
    return found


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_every_text_file_is_utf_8(module: Path) -> None:
    assert calls_without_encoding(REPOSITORY / module) == []


def test_a_call_without_encoding_is_found(tmp_path: Path) -> None:
    lines = [
        'path.open("rb")',
        'path.open("w")',
        "open(name)",
        "path.read_text()",
        'path.write_text(x, encoding="utf-8")',
        "opener.open(request, timeout=1)",
        "self.open()",
        "self.path.open()",
    ]
    (tmp_path / "a.py").write_text("\n".join(lines), encoding="utf-8")
    assert [line.partition(":")[0] for line in calls_without_encoding(tmp_path / "a.py")] == [
        "line 2",
        "line 3",
        "line 4",
        "line 8",
    ]
