"""FaceNet as a teacher: with published weights, or trained like any embedding."""

from __future__ import annotations

from pathlib import Path

from backbone.formats import read_tensors
from backbone.published import download_once
from distill.inception_resnet import InceptionResnetV1
from tasks.embedding.model import FaceNet
from tasks.embedding.task import EmbeddingTask

INPUT_SIZE = 160  # of the published weights
_RELEASE = "https://github.com/timesler/facenet-pytorch/releases/download/v2.2.9/"
WEIGHTS = {  # file and SHA-256; the first is the default; both expect loosely cropped faces, 160 px wide
    "vggface2": (
        "20180402-114759-vggface2.pt",
        "281cebca8662831adb987a874bdcb36e73f5b1c6dc5ee5878f305e985625d99b",
    ),
    "casia-webface": (
        "20180408-102900-casia-webface.pt",
        "7a67afdbbc995fce5e10128675e318799a70698c2f433ba75dd7eb9a2f096e7d",
    ),
}


class FaceNetTask(EmbeddingTask):
    """Embeddings by Inception-ResNet-v1."""

    def build_model(self) -> FaceNet:
        """The network with random weights."""
        return _with_head(InceptionResnetV1(), len(self.metadata["identities"]))


def load_facenet(spec: str) -> FaceNet:
    """FaceNet with facenet-pytorch's weights, without the classifier.

    Args:
        spec: one of `WEIGHTS`, downloaded once, or a file.

    Raises:
        ValueError: if they are missing, cannot be downloaded, or are of another network.
    """
    path = Path(spec)
    if spec in WEIGHTS:
        name, sha256 = WEIGHTS[spec]
        path = download_once(_RELEASE + name, name, sha256, advice="give it as --teacher facenet:FILE")
    state = {name: value for name, value in read_tensors(path).items() if not name.startswith("logits.")}
    network = InceptionResnetV1()
    expected = network.state_dict()
    for name in sorted(expected.keys() | state.keys()):
        shapes = [tuple(tensors[name].shape) if name in tensors else "no such tensor" for tensors in (expected, state)]
        if shapes[0] != shapes[1]:
            raise ValueError(f"{path}: not FaceNet's weights: {name}: expected {shapes[0]}, got {shapes[1]}")
    network.load_state_dict(state)
    return _with_head(network, 0)


def _with_head(network: InceptionResnetV1, num_prototypes: int) -> FaceNet:
    """The network with its embeddings unprojected, and a class prototype for each training identity."""
    return FaceNet(network, None, num_prototypes)  # type: ignore[arg-type]  # FaceNet only needs num_features
