"""FaceNet against published numbers, and against facenet-pytorch where that is installed.

pip install --no-deps facenet-pytorch requests    # it pins torch before 2.3, but this module runs
"""

import numpy as np
import pytest
import torch
from torch import nn

from tasks.embedding.inception_resnet import MIN_INPUT_SIZE, InceptionResnetV1


def num_params(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_parameters_are_the_published_numbers() -> None:
    with torch.device("meta"):
        assert num_params(InceptionResnetV1()) == 23_482_624
        assert num_params(InceptionResnetV1(8631)) == 27_910_327


def test_embeddings_are_512_dimensional_unit_vectors() -> None:
    network = InceptionResnetV1().eval()
    for side in (160, MIN_INPUT_SIZE):
        with torch.no_grad():
            embeddings = network(torch.randint(0, 256, (2, 3, side, side), dtype=torch.uint8))
        assert embeddings.shape == (2, 512)
        torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(2))


def test_feature_maps_have_the_sizes_of_the_papers_figure() -> None:
    """Szegedy et al. 2017, Figure 15: sides of 35, 17 and 8 at 299 px; so, without padding, 17, 8 and 3 at 160 px."""
    network = InceptionResnetV1().eval()
    shapes: dict[str, tuple[int, ...]] = {}
    for name in ("repeat_1", "repeat_2", "block8"):
        layer = network.get_submodule(name)
        layer.register_forward_hook(lambda _, __, out, name=name: shapes.update({name: tuple(out.shape[1:])}))
    for side, sides in ((160, (17, 8, 3)), (299, (35, 17, 8))):
        with torch.no_grad():
            network(torch.zeros(1, 3, side, side, dtype=torch.uint8))
        expected = zip((256, 896, 1792), sides, sides, strict=True)
        assert list(shapes.values()) == list(expected)


def test_equals_facenet_pytorch(rng: np.random.Generator) -> None:
    reference = pytest.importorskip(
        "facenet_pytorch.models.inception_resnet_v1", reason="facenet-pytorch is not installed"
    )
    expected = reference.InceptionResnetV1(pretrained=None, classify=True, num_classes=8631).eval()
    for module in expected.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    network = InceptionResnetV1(8631).eval()
    assert {name: value.shape for name, value in network.state_dict().items()} == {
        name: value.shape for name, value in expected.state_dict().items()
    }
    network.load_state_dict(expected.state_dict())
    expected.classify = False
    images = torch.from_numpy(rng.integers(0, 256, (2, 3, 160, 160), dtype=np.uint8))
    with torch.no_grad():
        torch.testing.assert_close(network(images), expected((images.float() - 127.5) / 128), atol=1e-6, rtol=1e-5)
