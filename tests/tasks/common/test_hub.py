"""A run pushed to the Hub and pulled from it is the same model; what goes wrong is one line. No network is used."""

import http.server
import json
import shlex
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest.mock import Mock

import huggingface_hub
import pytest
import torch
import yaml
from huggingface_hub import ModelCard, constants, errors
from safetensors.torch import save_file

from tasks import load
from tasks.common.runs import hub
from tasks.common.runs.checkpoint import load_checkpoint, save_best
from tasks.common.runs.pretrained import open_pretrained
from tasks.common.settings import flatten, get_setting, replace_settings
from tests.tasks.common.runs import Done, run_detection

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Upload(NamedTuple):
    """What a fake Hub was sent."""

    repo: str
    is_private: bool
    folder: Path


@pytest.fixture
def uploads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Upload]:
    """A Hub that keeps what is uploaded."""
    sent: list[Upload] = []

    class Api:
        def create_repo(self, repo: str, *, private: bool, exist_ok: bool) -> None:
            assert exist_ok
            sent.append(Upload(repo, private, tmp_path / "hub" / repo))

        def upload_folder(self, *, repo_id: str, folder_path: str, commit_message: str) -> Any:
            shutil.copytree(folder_path, sent[-1].folder)
            return SimpleNamespace(commit_url=f"https://hub/{repo_id}/commit/1")

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "hf_token")
    return sent


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[Path], None]]:
    """A function that serves a folder as the repository me/cells, with an empty cache before it."""
    folders: list[Path] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            content, tag = b"{}", "none"
            path = self.path.partition("?")[0]
            name = path.rpartition("/")[2]
            if not folders or not path.startswith(("/api/models/me/cells/", "/me/cells/resolve/")):
                self.send_response(404)
                self.send_header("X-Error-Code", "RepoNotFound")
            elif path.startswith("/api/"):
                self.send_response(200)
                files = [file.name for file in folders[-1].iterdir()]
                tree = [{"type": "file", "path": file, "size": 1, "oid": file} for file in files]
                siblings = [{"rfilename": file} for file in files]
                answer = tree if "/tree/" in path else {"id": "me/cells", "sha": COMMIT, "siblings": siblings}
                content = json.dumps(answer).encode()
            else:
                self.send_response(200)
                content, tag = (folders[-1] / name).read_bytes(), f"{name}-1"
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{tag}"')
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    yield folders.append
    server.shutdown()
    server.server_close()
    thread.join()


def push(run: Path, *more: str) -> Done:
    return run_detection("push", "--run", str(run), "--repo", "me/cells", *more)


def test_a_run_that_was_pushed_is_the_same_model_when_it_is_pulled(
    unbroken: Path,
    uploads: list[Upload],
    serve: Callable[[Path], None],
    monkeypatch: pytest.MonkeyPatch,
    generated_root: Path,
    tmp_path: Path,
) -> None:
    done = push(unbroken, "--private")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "https://hub/me/cells/commit/1\n"
    (upload,) = uploads
    assert upload[:2] == ("me/cells", True)
    assert {path.name for path in upload.folder.iterdir()} == {"config.yaml", "model.safetensors", "README.md"}
    settings = (upload.folder / "config.yaml").read_text()
    assert yaml.safe_load(settings)["data"]["root"] == generated_root.name
    card = ModelCard.load(upload.folder / "README.md")
    assert 'model = load("hf:me/cells")' in card.text
    assert str(unbroken) not in card.content + settings

    serve(upload.folder)
    (command,) = (line for line in card.text.splitlines() if " predict " in line)
    *_, verb, flag, name, _ = shlex.split(command)
    photo = next(generated_root.rglob("*.jpg"))
    predicted = run_detection(verb, flag, name, str(photo), "--out", str(tmp_path / "predicted"))
    assert predicted.returncode == 0, predicted.stderr
    expected = load_checkpoint(unbroken / "best.pt")
    for _ in range(2):  # the second time from the cache, without the network
        model: Any = load("hf:me/cells")
        assert (model.task.name, model.task.metadata) == ("detection", expected["metadata"])
        for name, weight in model.predictor.network.state_dict().items():
            assert torch.equal(weight, expected["model"][name]), name
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for key in ("backbone.name", "data.input_size"):
        assert get_setting(model.task.config, key) == get_setting(load(unbroken).task.config, key)
    weights = open_pretrained(replace_settings(model.task.config, {"pretrained": "hf:me/cells"}), "detection")
    assert weights is not None
    assert weights.origin == "hf:me/cells"


def with_properties(**changes: str) -> Callable[[Path], None]:
    """Write weights with other properties into a repository."""
    properties = {"task": "detection", "metadata": "{}"} | changes
    return lambda folder: save_file({"a": torch.zeros(1)}, folder / "model.safetensors", properties)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "config.yaml").unlink(), r"no run of this suite: it has no config\.yaml"),
        (
            lambda folder: (folder / "model.safetensors").write_bytes(b"\x80\x04pickled"),
            "is damaged, or was not written",
        ),
        (
            lambda folder: save_file({"a": torch.zeros(1)}, folder / "model.safetensors"),
            "is damaged, or was not written",
        ),
        (with_properties(metadata="[" * 100_000), "is damaged, or was not written"),
        (with_properties(metadata="[]"), "its `metadata` is no mapping"),
        (with_properties(metadata='{"class_names": 3, "category_ids": []}'), "its class_names are no list of names"),
        (with_properties(task="foo"), "a checkpoint of the task 'foo'; expected one of attributes, "),
        (with_properties(task="common"), "a checkpoint of the task 'common'; expected one of attributes, "),
    ],
    ids=(
        *("no settings", "a pickle", "another project's weights", "deep metadata", "a list as metadata"),
        *("a number as classes", "an unknown task", "a package that is no task"),
    ),
)
def test_what_is_no_run_is_refused(
    spoil: Callable[[Path], None], message: str, unbroken: Path, serve: Callable[[Path], None], tmp_path: Path
) -> None:
    folder = tmp_path / "repository"
    folder.mkdir()
    hub.write_repository(unbroken, folder, "hf:me/cells")
    spoil(folder)
    serve(folder)
    with pytest.raises(ValueError, match=f"^hf:me/cells: .*{message}"):
        load("hf:me/cells")


def test_a_gallery_is_pushed_and_pulled(tmp_path: Path) -> None:
    """It is not one of the network's tensors, but state of a module."""
    gallery = {"features": torch.ones(3, 4), "places": torch.zeros(3, 2, dtype=torch.float64)}
    cells = {"cell": ["1"], "lat_deg": [0.0], "lng_deg": [0.0], "num_photos": [3]}
    metadata = {"method": "retrieval", "partitionings": [cells], "guesses": []}
    other = {key: tensor.clone() for key, tensor in gallery.items()}
    model = {"weight": torch.ones(2), "_extra_state": gallery, "inner._extra_state": other}
    save_best(tmp_path, {"task": "geolocation", "metadata": metadata, "model": model})
    (tmp_path / "config.yaml").write_text("method: retrieval\n")
    (tmp_path / "pushed").mkdir()
    hub.write_repository(tmp_path, tmp_path / "pushed", "hf:me/photos")
    pulled = hub._read(tmp_path / "pushed" / "model.safetensors", "hf:me/photos")
    assert pulled["metadata"] == metadata
    actual, expected = flatten(pulled["model"]), flatten(model)
    assert actual.keys() == expected.keys()
    assert all(torch.equal(actual[key], expected[key]) for key in expected)


def test_a_tensor_with_the_name_of_a_gallery_is_one_line(tmp_path: Path) -> None:
    properties = {"task": "attributes", "metadata": json.dumps({"attribute_names": ["a"], "prevalence": [0.5]})}
    tensors = {name: torch.ones(2) for name in ("_extra_state", "_extra_state.features")}
    save_file(tensors, tmp_path / "model.safetensors", properties)
    with pytest.raises(
        ValueError, match=r"^hf:me/faces: its model\.safetensors is damaged, .*_extra_state is there twice"
    ):
        hub._read(tmp_path / "model.safetensors", "hf:me/faces")


def test_pulling_what_is_not_there_is_one_line(
    serve: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    serve(tmp_path)
    with pytest.raises(
        ValueError, match=r"^hf:me/other: there is no such repository, or it is private and you are not"
    ):
        load("hf:me/other")
    for name in ("hf:cells", "hf:", "hf:a/b/c"):
        with pytest.raises(ValueError, match=rf"^{name}: expected USER/NAME, got"):
            load(name)
    with pytest.raises(ValueError, match=r"^hf:a b/c: Repo id must use alphanumeric chars"):
        load("hf:a b/c")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=r"^hf:me/cells: the Hub cannot be reached, and the cache has no copy"):
        load("hf:me/cells")


def test_a_client_before_1_0_says_too_that_the_hub_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    class LocalEntryNotFoundError(errors.HfHubHTTPError, FileNotFoundError, ValueError):  # as in 0.36
        def __init__(self, message: str) -> None:
            Exception.__init__(self, message)
            self.response: Any = None

    monkeypatch.setattr(errors, "LocalEntryNotFoundError", LocalEntryNotFoundError)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", Mock(side_effect=LocalEntryNotFoundError("offline")))
    with pytest.raises(ValueError, match=r"^hf:me/cells: the Hub cannot be reached, and the cache has no copy"):
        hub.pull_run("hf:me/cells")


def test_pushing_that_fails_is_one_line(
    unbroken: Path, uploads: list[Upload], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export = tmp_path / "export"
    export.mkdir()
    (export / "model.onnx").touch()
    (export / "config.yaml").write_text("{}")
    monkeypatch.undo()  # the real client
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    assert "--repo me/cells: not logged in; run `hf auth login`, or set HF_TOKEN" in push(unbroken).stderr
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "hf_token")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody listens
    done = push(unbroken)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: --repo me/cells: the Hub cannot be reached, and nothing was")
    with pytest.raises(ValueError, match="an export; expected the run that it was exported from"):
        hub.write_repository(export, tmp_path, "hf:me/cells")
    assert not uploads
