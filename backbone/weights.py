"""Pretrained weights and their conventions: open by published name or path, check, load."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from torch import Tensor

from backbone.base import Backbone, Classifier
from backbone.formats import read_state
from backbone.mobilenet import STEM
from backbone.names import ConventionsName
from backbone.published import fetch, find_published

NUM_IMAGENET_CLASSES = 1000
_SKIPPED = ("num_batches_tracked", "normalize.mean", "normalize.std")


@dataclass(frozen=True)
class Weights:
    """Trained weights.

    Attributes:
        state: state dict of a `Classifier`: `backbone...` and, if there is a classifier, `head...`.
        conventions: for `build_backbone`; None if the network is no MobileNet.
        origin: file or run of the weights, for messages.
        class_names: of the classifier, by class id; empty if there is no classifier or they are unknown.
    """

    state: Mapping[str, Tensor]
    conventions: ConventionsName | None
    origin: str
    class_names: tuple[str, ...] = ()


@cache
def imagenet_class_names() -> tuple[str, ...]:
    """The names of ImageNet's classes, by class id."""
    from torchvision.models import MobileNet_V2_Weights  # takes as long to import as torch

    return tuple(MobileNet_V2_Weights.DEFAULT.meta["categories"])


def open_weights(pretrained: str, backbone_name: str, *, input_size: int) -> Weights:
    """Open published weights or a file.

    Args:
        pretrained: a publisher (`keras`, `timm`, `torchvision`) for its best matching file, or the name of a published
            file, both downloaded once; or a path.
        backbone_name: of the network to load them into.
        input_size: input size in pixels of the network; selects among a publisher's files.

    Raises:
        ValueError: if there is no such file, or it is damaged.
    """
    path = Path(pretrained)
    if not path.exists():
        published = find_published(pretrained, backbone_name, input_size)
        path = path if published is None else fetch(published)
    state, conventions = read_state(path)
    is_imagenet = num_outputs(state) == NUM_IMAGENET_CLASSES
    return Weights(state, conventions, str(path), imagenet_class_names() if is_imagenet else ())


def weight_names(state: Mapping[str, Tensor]) -> list[str]:
    """The names in a state dict that published weights have, too: not batch counters, and not the normalisation."""
    return [name for name in state if not name.endswith(_SKIPPED)]


def num_outputs(state: Mapping[str, Tensor]) -> int:
    """The number of outputs of a state's classifier; 0 if it has none."""
    biases = [tensor for name, tensor in state.items() if name.startswith("head.") and name.endswith("bias")]
    return len(biases[-1]) if biases else 0


def load_weights(model: Backbone | Classifier, weights: Weights) -> None:
    """Load weights into a backbone or a classifier.

    Raises:
        ValueError: if they belong to another network, or have another number of classes.
    """
    prefix = "" if isinstance(model, Classifier) else "backbone."
    given = {name.removeprefix(prefix): value for name, value in weights.state.items() if name.startswith(prefix)}
    state = model.state_dict()
    given, expected = ({name: tensors[name] for name in weight_names(tensors)} for tensors in (given, state))
    backbone = model.backbone if isinstance(model, Classifier) else model
    given_stem, expected_stem = _num_stem_channels(given), _num_stem_channels(expected)
    if given_stem and expected_stem and given_stem != expected_stem:
        raise ValueError(
            f"{weights.origin}: made for width {given_stem / STEM.channels:g}, but the backbone has width "
            f"{backbone.width_mult:g}"
        )
    for name in sorted(expected.keys() | given.keys()):
        given_shape, shape = (tuple(state[name].shape) if name in state else "missing" for state in (given, expected))
        if given_shape != shape and name.startswith("head.") and given_shape != "missing":
            raise ValueError(f"{weights.origin}: has {given_shape[0]} classes, but {shape[0]} are needed")
        if given_shape != shape:
            raise ValueError(
                f"{weights.origin}: made for another network: {name} is {given_shape} in the weights, {shape} in the "
                "network"
            )
    model.load_state_dict(given, strict=False)  # only the buffers of _SKIPPED are missing


def load_classes(model: Classifier, weights: Weights, class_ids: Mapping[int, int]) -> None:
    """Initialise outputs of a classifier from those of the weights; a hidden layer of the head is copied, too.

    Args:
        model: its head is updated in place.
        weights: of the same kind of network, with a classifier.
        class_ids: class id of the model -> class id of the weights.
    """
    head = model.head.state_dict()
    *hidden, kernel, bias = head
    for name in hidden:
        head[name].copy_(weights.state[f"head.{name}"])
    for name in (kernel, bias):
        head[name][list(class_ids)] = weights.state[f"head.{name}"][list(class_ids.values())].to(head[name])


def _num_stem_channels(state: Mapping[str, Tensor]) -> int:
    """Channels of MobileNet v1's first layer; 0 for other networks."""
    return next((len(value) for name, value in state.items() if name.endswith("layers.0.conv.weight")), 0)
