"""Published weights: against Keras itself, against real images, and what is said of files that do not fit."""

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from backbone import Classifier, MobileNet, load_pretrained
from backbone import weights as weights_module
from backbone.weights import fetch_keras, keras_file_name
from datasets.images import read_image


def keras_file(path: Path, width: float, *, top: bool = True) -> "tuple[Path, object]":
    """A file that Keras wrote in the published files' format, and the network that it is of."""
    import keras
    from keras.src.legacy.saving import legacy_h5_format

    network = keras.applications.MobileNet(
        alpha=width, weights=None, input_shape=(128, 128, 3), include_top=top, classifier_activation=None
    )
    rng = np.random.default_rng(0)
    for layer in network.layers:
        if layer.name.endswith("_bn"):  # gamma, beta, mean, variance: not the identity
            shape = layer.get_weights()[0].shape
            scale, variance = rng.uniform(0.5, 1.5, (2, *shape))
            shift, mean = rng.normal(0, 0.2, (2, *shape))
            layer.set_weights([scale, shift, mean, variance])
    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, network)
    return path, network


@pytest.mark.parametrize("width", [1.0, 0.75, 0.5, 0.25])
def test_logits_equal_those_of_keras(width: float, tmp_path: Path, rng: np.random.Generator) -> None:
    path, network = keras_file(tmp_path / "weights.h5", width)
    ours = Classifier(MobileNet(width), 1000)
    load_pretrained(ours, str(path), input_size=128)
    images = rng.integers(0, 256, (2, 128, 128, 3), dtype=np.uint8)
    with torch.no_grad():
        theirs = network(torch.from_numpy(images.astype(np.float32) / 127.5 - 1)).cpu()  # type: ignore[operator]
        logits = ours.eval()(torch.from_numpy(images).permute(0, 3, 1, 2))
    assert theirs.abs().max() > 0.05
    torch.testing.assert_close(logits, theirs, atol=1e-4, rtol=0)


def test_a_file_without_top_fits_a_backbone_alone(tmp_path: Path) -> None:
    path, _ = keras_file(tmp_path / "weights.h5", 0.25, top=False)
    load_pretrained(MobileNet(0.25), str(path), input_size=128)
    with pytest.raises(ValueError, match="head"):
        load_pretrained(Classifier(MobileNet(0.25), 1000), str(path), input_size=128)


REAL = [
    ("mobilenet_1_0_224_tf.h5", 1.0, 224, 256, 0.870, 0.968),
    ("mobilenet_7_5_224_tf.h5", 0.75, 224, 256, 0.834, 0.946),
    ("mobilenet_5_0_160_tf.h5", 0.5, 160, 183, 0.680, 0.872),
    ("mobilenet_2_5_224_tf.h5", 0.25, 224, 256, 0.562, 0.796),
]


def center_crop(path: Path, shorter_side: int, size: int) -> np.ndarray:
    """As the weights' README states it; a crop moved by a pixel moves the half-width network's score by a point."""
    image = Pillow.fromarray(read_image(path))
    scale = shorter_side / min(image.size)
    resized = image.resize((round(image.width * scale), round(image.height * scale)), Pillow.Resampling.BILINEAR)
    left, top = (resized.width - size) // 2, (resized.height - size) // 2
    return np.asarray(resized)[top : top + size, left : left + size]


@pytest.mark.data
@pytest.mark.parametrize(("name", "width", "size", "shorter_side", "top1", "top5"), REAL, ids=[row[0] for row in REAL])
def test_real_weights_classify_real_images(
    name: str, width: float, size: int, shorter_side: int, top1: float, top5: float, shared: Path
) -> None:
    """Top-1 and top-5 that the weights' README measured with Keras: within half a point."""
    folder = shared / "data" / "imagenet_sample"
    wnids = [line.split()[0] for line in (folder / "classes.txt").read_text().splitlines()]
    network = Classifier(MobileNet(width), 1000).eval()
    load_pretrained(network, str(shared / "weights" / name), input_size=size)
    files = sorted((folder / "val").glob("*/*"))
    correct = torch.zeros(5)
    for start in range(0, len(files), 50):
        crops = np.stack([center_crop(path, shorter_side, size) for path in files[start : start + 50]])
        with torch.inference_mode():
            ranked = network(torch.from_numpy(crops).permute(0, 3, 1, 2)).topk(5).indices
        class_ids = torch.tensor([wnids.index(path.parent.name) for path in files[start : start + 50]])
        correct += (ranked == class_ids[:, None]).sum(0)
    assert correct[0].item() / len(files) == pytest.approx(top1, abs=0.005)
    assert correct.sum().item() / len(files) == pytest.approx(top5, abs=0.005)


def test_the_file_nearest_in_size_is_taken() -> None:
    assert keras_file_name(1.0, 224) == "mobilenet_1_0_224_tf.h5"
    assert keras_file_name(0.75, 300) == "mobilenet_7_5_224_tf.h5"
    assert keras_file_name(0.25, 150) == "mobilenet_2_5_160_tf.h5"
    with pytest.raises(ValueError, match=r"width 0\.3; there are 1\.0, 0\.75, 0\.5, 0\.25"):
        keras_file_name(0.3, 224)


def test_file_of_another_width_is_named(tmp_path: Path) -> None:
    path, _ = keras_file(tmp_path / "weights.h5", 0.25, top=False)
    with pytest.raises(ValueError, match=r"weights\.h5: made for width 0\.25, but the backbone has width 0\.5"):
        load_pretrained(MobileNet(0.5), str(path), input_size=128)


def test_damaged_missing_and_foreign_files_are_named(tmp_path: Path) -> None:
    path, _ = keras_file(tmp_path / "weights.h5", 0.25, top=False)
    cut = tmp_path / "cut.h5"
    cut.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    foreign = tmp_path / "foreign.h5"
    with h5py.File(foreign, "w") as file:
        file["dense/dense/kernel:0"] = np.zeros((2, 2))
    not_finite = tmp_path / "nan.h5"
    not_finite.write_bytes(path.read_bytes())
    with h5py.File(not_finite, "r+") as file:
        group = file["conv1/conv1"] if "conv1/conv1" in file else file["conv1"]
        next(iter(group.values()))[0, 0, 0, 0] = np.nan
    for file, what in (
        (cut, "not a readable HDF5 file"),
        (tmp_path / "none.h5", "no such file"),
        (foreign, "expected the weights of a Keras MobileNet"),
        (not_finite, "not finite"),
    ):
        with pytest.raises(ValueError, match=what) as raised:
            load_pretrained(MobileNet(0.25), str(file), input_size=128)
        assert str(file) in str(raised.value)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """A server of checkpoints on this machine; the header it sends can be set."""
    import base64
    import hashlib

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
    monkeypatch.setattr(weights_module, "KERAS_URL", f"http://127.0.0.1:{httpd.server_port}/")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    yield headers
    httpd.shutdown()
    httpd.server_close()


def test_download_is_kept_once_its_hash_is_right(server: dict[str, str]) -> None:
    path = fetch_keras("file.h5")
    assert path.read_bytes() == b"not really weights"
    server.clear()  # a second download would have no hash to check
    assert fetch_keras("file.h5") == path


def test_download_with_another_hash_leaves_nothing(server: dict[str, str], tmp_path: Path) -> None:
    server["x-goog-hash"] = "md5=AAAAAAAAAAAAAAAAAAAAAA=="
    with pytest.raises(ValueError, match="hash"):
        fetch_keras("file.h5")
    assert not list(tmp_path.rglob("*.h5"))


def test_download_that_breaks_off_leaves_nothing(server: dict[str, str], tmp_path: Path) -> None:
    server["Content-Length"] = "1000"
    with pytest.raises(ValueError, match=r"download failed.*put the file at"):
        fetch_keras("file.h5")
    assert not list(tmp_path.rglob("*.h5"))


def test_without_network_it_says_where_to_put_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights_module, "KERAS_URL", "http://127.0.0.1:9/")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(ValueError, match=r"put the file at .*checkpoints.file\.h5"):
        fetch_keras("file.h5")
