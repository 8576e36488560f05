"""The list of published weights, and downloads: checked, whole, or explained."""

import base64
import dataclasses
import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from backbone import build_backbone, open_weights
from backbone.published import PUBLISHED, Published, fetch, find_published


def test_the_file_nearest_in_size_is_taken() -> None:
    def found(asked: str, name: str, size: int) -> str:
        row = find_published(asked, name, size)
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


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[dict[str, str], Published]]:
    """A server of checkpoints on this machine; the header it sends can be set."""
    content = b"not really weights"
    digest = base64.b64encode(hashlib.md5(content).digest()).decode()
    headers = {"x-goog-hash": f"crc32c=AAAA,md5={digest}"}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            for key, value in headers.items():
                self.send_header(key, value)
            self.end_headers()  # a Content-Length above the content's makes a broken download
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    row = Published("file.h5", "keras", "mobilenet_1.0_224", 0, 0, "", f"http://127.0.0.1:{httpd.server_port}/", "")
    yield headers, row
    httpd.shutdown()
    httpd.server_close()


Server = tuple[dict[str, str], Published]


def test_download_is_kept_once_its_hash_is_right(server: Server) -> None:
    headers, row = server
    path = fetch(row)
    assert path.read_bytes() == b"not really weights"
    headers.clear()  # a second download would have no hash to check
    assert fetch(row) == path


def test_download_with_another_hash_leaves_nothing(server: Server, tmp_path: Path) -> None:
    headers, row = server
    headers["x-goog-hash"] = "md5=AAAAAAAAAAAAAAAAAAAAAA=="
    with pytest.raises(ValueError, match="hash"):
        fetch(row)
    assert not list(tmp_path.rglob("*.h5"))


def test_download_that_breaks_off_leaves_nothing(server: Server, tmp_path: Path) -> None:
    headers, row = server
    headers["Content-Length"] = "1000"
    with pytest.raises(ValueError, match=r"download failed.*put the file at"):
        fetch(row)
    assert not list(tmp_path.rglob("*.h5"))


def test_torchvisions_file_is_checked_by_the_hash_in_its_name(server: Server, tmp_path: Path) -> None:
    _, keras = server
    digest = hashlib.sha256(b"not really weights").hexdigest()
    row = Published(f"net-{digest[:8]}.pth", "torchvision", "mobilenet_v2_1.0_224", 0, 0, "", keras.url, "")
    assert fetch(row).read_bytes() == b"not really weights"
    with pytest.raises(ValueError, match="invalid hash value"):
        fetch(dataclasses.replace(row, name="net-00000000.pth"))
    assert not list(tmp_path.rglob("net-00000000*"))


def test_without_network_it_says_where_to_put_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    for publisher in ("keras", "torchvision"):
        row = Published("net-00000000.h5", publisher, "", 0, 0, "", "http://127.0.0.1:9/", "")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=r"put the file at .*checkpoints.net-00000000\.h5"):
            fetch(row)


def test_without_network_timms_file_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    def fail(repository: str, file: str) -> str:
        assert (repository, file) == ("timm/mobilenetv1_100.ra4_e3600_r224_in1k", "model.safetensors")
        raise LocalEntryNotFoundError("no network")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    with pytest.raises(ValueError, match=r"download of model\.safetensors failed .* by hand and pass its path"):
        open_weights("timm", "mobilenet_1.0", input_size=224)
