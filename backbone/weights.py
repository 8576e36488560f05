"""Weights and the conventions that they need: opened by a published name or a path, checked, loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from backbone.base import Backbone, Classifier
from backbone.formats import read_state
from backbone.mobilenet import STEM
from backbone.names import ConventionsName
from backbone.published import IMAGENET_CLASS_NAMES, fetch, find_published

_NOT_LEARNT = ("num_batches_tracked", "normalize.mean", "normalize.std")


@dataclass(frozen=True)
class Weights:
    """Trained weights.

    Attributes:
        state: by the names of `Classifier`: `backbone...` and, where there is a classifier, `head...`.
        conventions: the name of those that `build_backbone` must be given.
        origin: file or run that they came from, for people.
        class_names: of the classifier, by class id; empty where there is none or they are not known.
    """

    state: Mapping[str, Tensor]
    conventions: ConventionsName
    origin: str
    class_names: tuple[str, ...] = ()


def open_weights(pretrained: str, backbone_name: str, *, input_size: int) -> Weights:
    """Published weights, or those of a file.

    Args:
        pretrained: a publisher (`keras`, `timm`, `torchvision`) for its file that fits best, the name of one, both
            downloaded once; or a path.
        backbone_name: of the network that they are for.
        input_size: the side in pixels that the network will be used at; picks among a publisher's files.

    Raises:
        ValueError: if there is no such file, or it is damaged.
    """
    path = Path(pretrained)
    if not path.exists():
        published = find_published(pretrained, backbone_name, input_size)
        path = path if published is None else fetch(published)
    state, conventions = read_state(path)
    is_imagenet = num_outputs(state) == len(IMAGENET_CLASS_NAMES)
    return Weights(state, conventions, str(path), IMAGENET_CLASS_NAMES if is_imagenet else ())


def num_outputs(state: Mapping[str, Tensor]) -> int:
    """The number of outputs of a state's classifier; 0 if it has none."""
    biases = [tensor for name, tensor in state.items() if name.startswith("head.") and name.endswith("bias")]
    return len(biases[-1]) if biases else 0


def load_weights(model: Backbone | Classifier, weights: Weights) -> None:
    """Load weights into a backbone, or into a backbone and its classifier.

    Raises:
        ValueError: if they were made for another network, or for another number of classes.
    """
    prefix = "" if isinstance(model, Classifier) else "backbone."
    given = {name.removeprefix(prefix): value for name, value in weights.state.items() if name.startswith(prefix)}
    given = {name: value for name, value in given.items() if not name.endswith(_NOT_LEARNT)}
    expected = {name: value for name, value in model.state_dict().items() if not name.endswith(_NOT_LEARNT)}
    backbone = model.backbone if isinstance(model, Classifier) else model
    have, want = _stem_channels(given), _stem_channels(expected)
    if have and want and have != want:
        raise ValueError(
            f"{weights.origin}: made for width {have / STEM.channels:g}, but the backbone has width "
            f"{backbone.width_mult:g}"
        )
    for name in sorted(expected.keys() | given.keys()):
        theirs, ours = (tuple(state[name].shape) if name in state else "nothing" for state in (given, expected))
        if theirs != ours and name.startswith("head.") and theirs != "nothing":
            raise ValueError(f"{weights.origin}: has {theirs[0]} classes, but {ours[0]} are needed")
        if theirs != ours:
            raise ValueError(f"{weights.origin}: made for another network: {name} is {theirs} there, {ours} here")
    model.load_state_dict(given, strict=False)  # what it lacks is not learnt


def load_classes(model: Classifier, weights: Weights, row_of: Mapping[int, int]) -> None:
    """Let outputs of a classifier start as those of the weights' own; where it has a hidden layer, that too.

    Args:
        model: gets the weights, in place; its backbone stays as it is.
        weights: of the same kind of network, with a classifier.
        row_of: class id of the model -> class id of the weights.
    """
    head = model.head.state_dict()
    *hidden, kernel, bias = head
    for name in hidden:
        head[name].copy_(weights.state[f"head.{name}"])
    for name in (kernel, bias):
        head[name][list(row_of)] = weights.state[f"head.{name}"][list(row_of.values())].to(head[name])


def _stem_channels(state: Mapping[str, Tensor]) -> int:
    """Of MobileNet v1's first layer; 0 in another network."""
    return next((len(value) for name, value in state.items() if name.endswith("layers.0.conv.weight")), 0)
