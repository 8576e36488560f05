"""The list of published weights, and verified downloads."""

import base64
import dataclasses
import hashlib
import http.server
import io
import re
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.models import MobileNet_V2_Weights, MobileNet_V3_Large_Weights, MobileNet_V3_Small_Weights

from backbone.build import build_backbone
from backbone.cli import main
from backbone.published import PUBLISHED, PublishedWeights, download_once, fetch, find_published
from backbone.weights import open_weights
from tasks.common.published import PUBLISHED_MODELS

CONTENT = b"not really weights"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def test_the_file_nearest_in_size_is_taken() -> None:
    def found(published: str, backbone: str, size: int) -> str:
        row = find_published(published, backbone, size)
        assert row is not None
        return row.name

    assert found("keras", "mobilenet_1.0", 224) == "mobilenet_1_0_224_tf.h5"
    assert found("keras", "mobilenet_0.75", 300) == "mobilenet_7_5_224_tf.h5"
    assert found("keras", "mobilenet_0.25_150", 150) == "mobilenet_2_5_160_tf.h5"
    assert found("timm", "mobilenet_1.0_head", 224) == "mobilenetv1_100h"
    assert found("torchvision", "mobilenet_v3_small_1.0", 224).startswith("mobilenet_v3_small-")
    assert found("mobilenetv1_125", "mobilenet_1.25", 224) == "mobilenetv1_125"
    with pytest.raises(ValueError, match=r"keras published no weights for mobilenet_0\.3; it has mobilenet_1\.0, "):
        find_published("keras", "mobilenet_0.3", 224)
    with pytest.raises(ValueError, match=r"keras published no weights for mobilenet_1\.0_conv"):
        find_published("keras", "mobilenet_1.0_conv", 224)
    assert find_published("no such thing", "mobilenet_1.0", 224) is None


def test_every_published_row_is_of_a_backbone_that_exists() -> None:
    assert len([row for row in PUBLISHED if row.publisher == "keras"]) == 16
    assert len({row.name for row in PUBLISHED}) == len(PUBLISHED)
    for row in PUBLISHED:
        with torch.device("meta"):
            build_backbone(row.backbone, row.publisher)
        assert 0.4 < row.top1 < row.top5 < 0.95


def test_torchvisions_rows_are_as_in_its_records() -> None:
    records = [MobileNet_V2_Weights.IMAGENET1K_V2, MobileNet_V3_Large_Weights.IMAGENET1K_V2]
    records.append(MobileNet_V3_Small_Weights.IMAGENET1K_V1)
    rows = [row for row in PUBLISHED if row.publisher == "torchvision"]
    for row, record in zip(rows, records, strict=True):
        scores = record.meta["_metrics"]["ImageNet-1K"]
        assert row.url == record.url
        assert row.name == record.url.rpartition("/")[2]
        assert (row.top1, row.top5) == (scores["acc@1"] / 100, scores["acc@5"] / 100)


def test_the_list_is_printed_without_torch() -> None:
    code = "import sys; from backbone.cli import main; main(['weights']); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.splitlines()[-1] == "False"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[dict[str, str], PublishedWeights]]:
    """A local server of weights; the headers that it sends can be set."""
    digest = base64.b64encode(hashlib.md5(CONTENT).digest()).decode()
    headers = {"x-goog-hash": f"crc32c=AAAA,md5={digest}"}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            for key, value in headers.items():
                self.send_header(key, value)
            self.end_headers()  # a Content-Length above the content's makes a broken download
            self.wfile.write(CONTENT)

        def log_message(self, *_: object) -> None:
            pass

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    row = PublishedWeights(
        "file.h5", "keras", "mobilenet_1.0_224", 0, 0, "", f"http://127.0.0.1:{httpd.server_port}/", None
    )
    yield headers, row
    httpd.shutdown()
    httpd.server_close()


Server = tuple[dict[str, str], PublishedWeights]


def test_a_verified_download_is_cached(server: Server) -> None:
    headers, row = server
    path = fetch(row)
    assert path.read_bytes() == CONTENT
    headers.clear()  # a second download would fail, without a hash
    assert fetch(row) == path


def test_files_without_a_published_digest_are_pinned_by_their_first_download(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, row = server
    path = fetch(row)
    assert re.search(rf"file\.h5: no SHA-256 is published.*{SHA256}.*file\.h5\.sha256", capsys.readouterr().err)
    assert path.with_name("file.h5.sha256").read_text() == f"{SHA256}  file.h5\n", "the format of sha256sum -c"
    path.unlink()
    assert fetch(row) == path, "the same file may be downloaded again"
    assert capsys.readouterr().err == ""
    path.write_bytes(b"other weights")
    with pytest.raises(ValueError, match=rf"file\.h5: its SHA-256 is .*, but the one stored in .*{SHA256}: remove"):
        fetch(row)
    assert path.read_bytes() == b"other weights", "the file is not touched"
    assert {entry.name for entry in (tmp_path / "checkpoints").iterdir()} == {"file.h5", "file.h5.sha256"}


def test_download_with_another_hash_leaves_nothing(server: Server, tmp_path: Path) -> None:
    headers, row = server
    headers["x-goog-hash"] = "md5=AAAAAAAAAAAAAAAAAAAAAA=="
    with pytest.raises(ValueError, match="hash"):
        fetch(row)
    assert not list(tmp_path.rglob("*.h5"))


def test_an_incomplete_download_leaves_nothing(server: Server, tmp_path: Path) -> None:
    headers, row = server
    headers["Content-Length"] = "1000"
    with pytest.raises(ValueError, match=r"download failed.*put the file at"):
        fetch(row)
    assert not list(tmp_path.rglob("*.h5"))


def archive_of(member: str, content: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        info = tarfile.TarInfo(member)
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def test_a_file_is_taken_from_an_archive_once(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    headers, row = server
    archive = archive_of("net/graph.pb", CONTENT)
    monkeypatch.setattr(sys.modules[__name__], "CONTENT", archive)
    headers["x-goog-hash"] = f"md5={base64.b64encode(hashlib.md5(archive).digest()).decode()}"
    path = download_once(row.url, "net-graph.pb", None, advice="", member="net/graph.pb")
    assert path.read_bytes() == b"not really weights"
    assert SHA256 in capsys.readouterr().err
    headers.clear()  # a second download would fail, without a hash
    assert download_once(row.url, "net-graph.pb", None, advice="", member="net/graph.pb") == path
    assert {entry.name for entry in path.parent.iterdir()} == {"net-graph.pb", "net-graph.pb.sha256"}
    pinned = hashlib.sha256(archive).hexdigest()
    other = download_once(row.url, "other.pb", pinned, advice="", member="net/graph.pb")
    assert other.read_bytes() == b"not really weights"


@pytest.mark.parametrize("damage", ["truncated", "no archive", "another file"])
def test_a_broken_archive_leaves_nothing(
    damage: str, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if its hash is that of the server, where the file is broken."""
    headers, row = server
    noise = np.random.default_rng(0).bytes(50_000)
    broken = {
        "truncated": archive_of("net/graph.pb", noise)[:30_000],
        "no archive": noise,
        "another file": archive_of("net/model.ckpt", noise),
    }[damage]
    monkeypatch.setattr(sys.modules[__name__], "CONTENT", broken)
    headers["x-goog-hash"] = f"md5={base64.b64encode(hashlib.md5(broken).digest()).decode()}"
    with pytest.raises(ValueError, match=r"^http.*: net/graph\.pb cannot be extracted from it \([^\n]+\)$"):
        download_once(row.url, "net-graph.pb", None, advice="", member="net/graph.pb")
    assert not list((tmp_path / "checkpoints").iterdir())


def test_a_pinned_file_has_its_digest_or_is_refused(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, keras = server
    row = dataclasses.replace(keras, name="net.pth", publisher="torchvision", sha256=SHA256)
    path = fetch(row)
    assert path.read_bytes() == CONTENT
    assert capsys.readouterr().err == ""
    other = SHA256[:8] + "0" * 56  # eight digits are not enough
    with pytest.raises(ValueError, match="invalid hash value"):
        fetch(dataclasses.replace(row, name="other.pth", sha256=other))
    assert not list(tmp_path.rglob("other*"))
    with pytest.raises(
        ValueError, match=r"net\.pth: its SHA-256 is .*, but the one pinned here is .*: remove the file"
    ):
        download_once(row.url, "net.pth", other, advice="")
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(ValueError, match="the one pinned here is"):
        fetch(row)


def test_digests_are_complete_and_match_the_file_names() -> None:
    pinned = {row.name: row.sha256 for row in PUBLISHED if row.sha256}
    pinned |= {row.file: row.sha256 for row in PUBLISHED_MODELS if row.sha256}
    assert len(set(pinned.values())) == len(pinned) > 5
    for name, sha256 in pinned.items():
        assert re.fullmatch("[0-9a-f]{64}", sha256)
        prefix = re.search(r"-([0-9a-f]{8})\.pth", name)  # from torchvision
        assert prefix is None or sha256.startswith(prefix[1])
    assert all(row.sha256 for row in PUBLISHED if row.publisher == "torchvision")


def test_the_list_shows_how_each_file_is_verified(capsys: pytest.CaptureFixture[str]) -> None:
    main(["weights"])
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    for row in PUBLISHED:
        assert ("first use" if row.sha256 is None else f"SHA-256 {row.sha256[:8]}") in lines[row.name]


def test_without_network_the_error_tells_where_to_put_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    for publisher in ("keras", "torchvision"):
        row = PublishedWeights("net-00000000.h5", publisher, "", 0, 0, "", "http://127.0.0.1:9/", None)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=r"put the file at .*checkpoints.net-00000000\.h5"):
            fetch(row)


def test_timms_file_is_verified_in_the_cache_of_huggingface(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub

    (tmp_path / "model.safetensors").write_bytes(CONTENT)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *_: str(tmp_path / "model.safetensors"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch"))
    rows = {row.name: row for row in PUBLISHED if row.publisher == "timm"}
    with pytest.raises(ValueError, match="the one pinned here is 15c2f141"):
        fetch(rows["mobilenetv1_100"])
    assert fetch(dataclasses.replace(rows["mobilenetv1_100"], sha256=SHA256)) == tmp_path / "model.safetensors"
    assert fetch(rows["mobilenetv1_100h"]) == tmp_path / "model.safetensors"
    assert {path.name for path in tmp_path.rglob("*.*")} == {"model.safetensors", "mobilenetv1_100h.sha256"}


def test_without_network_timms_file_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    def fail(repository: str, file: str) -> str:
        assert (repository, file) == ("timm/mobilenetv1_100.ra4_e3600_r224_in1k", "model.safetensors")
        raise LocalEntryNotFoundError("no network")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    with pytest.raises(ValueError, match=r"download of model\.safetensors failed .* by hand and pass its path"):
        open_weights("timm", "mobilenet_1.0", input_size=224)
