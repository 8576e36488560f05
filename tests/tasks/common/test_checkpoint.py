import warnings
from pathlib import Path

import pytest
import torch

from tasks.common.checkpoint import load_checkpoint, load_last, save_last


def content(step: int) -> dict[str, object]:
    return {"task": "detection", "step": step, "model": {"weight": torch.full((1000,), float(step))}}


def test_newest_is_loaded(tmp_path: Path) -> None:
    save_last(tmp_path, content(1))
    save_last(tmp_path, content(2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_last(tmp_path, "detection")["step"] == 2


@pytest.mark.parametrize("damage", ["cut", "flip", "missing"])
def test_the_one_before_is_found_when_the_newest_is_damaged(tmp_path: Path, damage: str) -> None:
    save_last(tmp_path, content(1))
    save_last(tmp_path, content(2))
    path = tmp_path / "last.pt"
    data = bytearray(path.read_bytes())
    if damage == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "flip":  # one bit, in the middle of the tensor's bytes
        data[data.index(torch.full((4,), 2.0).numpy().tobytes()) + 401] ^= 1
        path.write_bytes(data)
    else:
        path.unlink()
    with pytest.warns(UserWarning, match=r"last\.pt.*going on from .*previous\.pt"):
        assert load_last(tmp_path, "detection")["step"] == 1


def test_nothing_to_load_names_both(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"last\.pt: there is no such checkpoint; .*previous\.pt"):
        load_last(tmp_path, "detection")


def test_checkpoint_of_another_task_is_refused(tmp_path: Path) -> None:
    save_last(tmp_path, content(1))
    with pytest.raises(ValueError, match=r"a checkpoint of tasks\.detection, but this is tasks\.embedding"):
        load_last(tmp_path, "embedding")


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path(tmp_path / "sprung").touch, ())

    torch.save({"task": "detection", "trap": Trap()}, tmp_path / "last.pt")
    with pytest.raises(ValueError, match="not a checkpoint"):
        load_checkpoint(tmp_path / "last.pt", "detection")
    assert not (tmp_path / "sprung").exists()


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.pt").write_text("hello")
    torch.save([1, 2], tmp_path / "list.pt")
    for name in ("text.pt", "list.pt"):
        with pytest.raises(ValueError, match=name):
            load_checkpoint(tmp_path / name, "detection")
