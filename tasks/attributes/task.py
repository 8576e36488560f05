"""The attributes task: its model and loss; data, metric and drawing are in `inference.py`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from torch import Tensor, nn

from backbone import faceres
from backbone.weights import Weights
from datasets.loader import Collate
from datasets.types import Attributes
from tasks.attributes.config import AttributesConfig
from tasks.attributes.inference import AttributesInference, open_data
from tasks.attributes.loss import AttributeTargets, attribute_loss, attribute_targets, positive_weights
from tasks.attributes.model import AGE_GROUPS, AttributeNet, attribute_probabilities, decode_attributes
from tasks.attributes.transfer import load_head
from tasks.common.deploy.postprocessing import parse_graph
from tasks.common.face_task import FaceTask
from tasks.common.model.logits import Logits
from tasks.common.runs.pretrained import build_pretrained, open_pretrained
from tasks.common.runtime.distributed import SINGLE_PROCESS, World
from tasks.common.weights import TaskWeights, is_model_of

if TYPE_CHECKING:
    from onnx import GraphProto


CELEBA_NUM_ATTRIBUTES = 40  # the paper does not state the number in its own data


class AttributesTask(AttributesInference, FaceTask[Attributes]):
    """A backbone and a probability for each attribute."""

    def __init__(self, config: AttributesConfig, metadata: Mapping[str, Any]) -> None:
        """Args: config: settings; metadata: see `AttributesInference`."""
        super().__init__(config, metadata)
        self._positive_weights = positive_weights(metadata["prevalence"], config.pos_weight_exponent)

    @classmethod
    def from_data(cls, config: AttributesConfig) -> Self:
        """The task for the attributes of the training images."""
        data = open_data(config)
        train = data["train"]
        prevalence = train.values.mean(0).round(6).tolist()
        task = cls(config, {"attribute_names": list(train.attribute_names), "prevalence": prevalence})
        task._data = data
        return task

    @classmethod
    def with_num_classes(cls, config: AttributesConfig, num_classes: int | None) -> Self:
        """The task with numbered attributes; CelebA's 40 by default."""
        num_attributes = num_classes or CELEBA_NUM_ATTRIBUTES
        names = list(map(str, range(num_attributes)))
        return cls(config, {"attribute_names": names, "prevalence": [0.5] * num_attributes})

    @classmethod
    def read_published(cls, path: Path) -> TaskWeights | None:
        """Gender and age of the published face network, see `backbone.faceres`.

        Raises:
            ValueError: if the file is damaged, or an `.npz` file of another network.
        """
        network = faceres.read_faceres(path)
        if network is None:
            return None
        state = {f"backbone.{name}": tensor for name, tensor in network.backbone.items()}
        for name, pair in (("hidden", network.hidden), ("ages", network.age), ("others", network.gender)):
            state |= {f"head.{name}.{kind}": tensor for kind, tensor in zip(("weight", "bias"), pair, strict=True)}
        names = ["Male", *AGE_GROUPS]
        return TaskWeights(
            state=state,
            conventions=faceres.CONVENTIONS,
            origin=str(path),
            task=cls.name,
            metadata={"attribute_names": names, "prevalence": [0.5] * len(names)},  # the loss had no weights
            settings={**faceres.SETTINGS, "head": "ages"},
        )

    def build_model(self) -> AttributeNet:
        """The network with the configured weights: a backbone's, or those of a model of attributes where they fit."""
        weights = open_pretrained(self.config, self.name)
        network = self._build(weights)
        if is_model_of(weights, self.name):
            load_head(network, weights, self.attribute_names)
        return network

    def kept(self, weights: Weights) -> dict[str, int]:
        """The backbone, and the head with the attributes that it knows."""
        kept = super().kept(weights)
        if not is_model_of(weights, self.name):
            return kept
        return kept | load_head(self._build(weights), weights, self.attribute_names)

    def _build(self, weights: Weights | None) -> AttributeNet:
        backbone = build_pretrained(self.config, weights)
        return AttributeNet(backbone, self.attribute_names, has_ages=self.config.head == "ages")

    def collate(self) -> Collate[Attributes]:
        """Attribute values."""
        return attribute_targets

    def loss(self, outputs: Logits, targets: AttributeTargets, world: World = SINGLE_PROCESS) -> dict[str, Tensor]:
        """Weighted binary cross-entropy."""
        self._positive_weights = self._positive_weights.to(outputs.logits.device)  # cached
        return attribute_loss(outputs, targets, self._positive_weights)

    def probabilities(self, outputs: Logits) -> Tensor:
        """The attributes' probabilities, (N, K)."""
        return attribute_probabilities(outputs, self._positive_weights)

    def decode(self, outputs: Logits) -> list[Attributes]:
        """The attributes' probabilities."""
        return decode_attributes(self.probabilities(outputs))

    def postprocessing(self, network: nn.Module) -> GraphProto:
        """The attributes' probabilities, see `attribute_probabilities`."""
        text = """
            sigmoid (float[N, K] logits) => (float[N, K] probabilities)
            { corrected = Sub (logits, log_weights) probabilities = Sigmoid (corrected) }
        """
        return parse_graph(text, log_weights=self._positive_weights.cpu().log().numpy())
