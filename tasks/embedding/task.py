"""The embedding task: its model and losses; data, metric and drawing are in `inference.py`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from torch import Tensor, nn

from backbone import faceres
from backbone.base import Backbone
from backbone.weights import Weights, weight_names
from datasets.faces import IdentityBalance
from datasets.loader import Collate
from datasets.types import Face
from tasks.common.deploy.onnx_network import OnnxNetwork
from tasks.common.deploy.postprocessing import parse_graph
from tasks.common.deploy.session import TASK, fixed_input_size, open_session, properties_of
from tasks.common.face_task import FaceTask
from tasks.common.ranges import require
from tasks.common.runs.pretrained import build_pretrained, open_pretrained
from tasks.common.runtime.distributed import SINGLE_PROCESS, World
from tasks.common.weights import TaskWeights, is_model_of
from tasks.embedding import facenet
from tasks.embedding.config import EmbeddingConfig
from tasks.embedding.inception_resnet import MIN_INPUT_SIZE, InceptionResnetV1
from tasks.embedding.inference import EmbeddingInference, open_data
from tasks.embedding.loss import IdentityTargets, identity_targets, margin_softmax_loss, triplet_loss
from tasks.embedding.model import EmbeddingOutputs, EmbeddingWrapper, FaceNet, decode_faces
from tasks.embedding.transfer import load_head

if TYPE_CHECKING:
    from onnx import GraphProto


ONNX = "onnx"  # in the metadata: the path of an ONNX file that takes the place of a network


class EmbeddingTask(EmbeddingInference, FaceTask[Face]):
    """FaceNet on a MobileNet."""

    def __init__(self, config: EmbeddingConfig, metadata: Mapping[str, Any]) -> None:
        """Args: config: settings; metadata: see `EmbeddingInference`."""
        super().__init__(config, metadata)
        self._id_of = {identity: index for index, identity in enumerate(metadata["identities"])}

    @classmethod
    def from_data(cls, config: EmbeddingConfig) -> Self:
        """The task for the training identities."""
        data = open_data(config)
        task = cls(config, {"identities": data["train"].identities})
        task._data = data
        return task

    @classmethod
    def with_num_classes(cls, config: EmbeddingConfig, num_classes: int | None) -> Self:
        """The task with numbered training identities; none by default, since an embedding does not depend on them."""
        return cls(config, {"identities": list(map(str, range(num_classes or 0)))})

    @classmethod
    def from_pretrained(cls, config: EmbeddingConfig, weights: Weights) -> Self:
        """The task of the weights; those without embeddings have pooled features in their place."""
        if is_model_of(weights, cls.name):
            return super().from_pretrained(config, weights)
        return cls(dataclasses.replace(config, embedding_dim=None), {"identities": []})

    @classmethod
    def read_published(cls, path: Path) -> TaskWeights | None:
        """The identity of the published face network, FaceNet in facenet-pytorch's layout, or any ONNX embedding.

        Raises:
            ValueError: if the file is damaged, an `.npz` file of another network, or an ONNX file written by `export`.
        """
        network, state = None, {}
        settings: dict[str, Any] = {"embedding_dim": None}
        metadata: dict[str, Any] = {"identities": []}
        if path.suffix == ".onnx":
            if TASK in properties_of(open_session(path)):
                raise ValueError(f"{path}: was written by `export`; expected its folder, with a config.yaml, as --run")
            metadata[ONNX], side = str(path), fixed_input_size(path)
            settings |= {} if side is None else {"data.input_size": side}
        elif (network := faceres.read_faceres(path)) is not None:
            state, settings = network.backbone, settings | faceres.SETTINGS
        elif (read := facenet.read_facenet(path)) is not None:
            state = read
            settings |= {"network": "inception_resnet_v1", "data.input_size": facenet.INPUT_SIZE}
        else:
            return None
        return TaskWeights(
            state={f"backbone.{name}": tensor for name, tensor in state.items()},
            conventions=None if network is None else faceres.CONVENTIONS,
            origin=str(path),
            task=cls.name,
            metadata=metadata,
            settings=settings,
        )

    def build_model(self) -> nn.Module:
        """The network with the configured weights: a backbone's, or those of a model of embeddings where they fit."""
        if ONNX in self.metadata:
            return self._open_onnx(Path(self.metadata[ONNX]))
        weights = open_pretrained(self.config, self.name)
        network = self._build(weights)
        if is_model_of(weights, self.name):
            load_head(network, weights, list(self._id_of))
        return network

    def kept(self, weights: Weights) -> dict[str, int]:
        """The backbone, and of a model of embeddings its projection and the prototypes of known identities."""
        if is_model_of(weights, self.name) and ONNX in weights.metadata:
            raise ValueError(
                f"pretrained: {weights.origin} is an ONNX file, which cannot be trained further; it can be a teacher: "
                f"python -m distill --teacher {weights.origin} --task embedding"
            )
        network = self._build(weights)
        kept = {"the backbone": len(weight_names(network.backbone.state_dict()))}
        return kept | load_head(network, weights, list(self._id_of)) if is_model_of(weights, self.name) else kept

    def _build(self, weights: Weights | None) -> FaceNet:
        num_prototypes = 0 if self.config.loss == "triplet" else len(self._id_of)
        return FaceNet(self._build_backbone(weights), self.config.embedding_dim, num_prototypes)

    def _build_backbone(self, weights: Weights | None) -> Backbone | InceptionResnetV1:
        if self.config.network == "mobilenet":
            return build_pretrained(self.config, weights)
        side, smallest = self.config.data.input_size, f"{MIN_INPUT_SIZE} or more with network {self.config.network}"
        require(side >= MIN_INPUT_SIZE, "data.input_size", smallest, side)
        backbone = InceptionResnetV1()
        if weights is not None:
            given = {name.removeprefix("backbone."): tensor for name, tensor in weights.state.items()}
            expected = backbone.state_dict()
            if expected.keys() - given.keys():
                missing = next(name for name in expected if name not in given)
                raise ValueError(
                    f"{weights.origin}: has no {missing}, which network {self.config.network} needs; expected "
                    "FaceNet's weights, such as --pretrained facenet_vggface2, or --network mobilenet"
                )
            backbone.load_state_dict({name: given[name] for name in expected})
        return backbone

    def _open_onnx(self, path: Path) -> EmbeddingWrapper:
        """An ONNX file as the network.

        Raises:
            ValueError: if its output is no embedding.
        """
        settings = self.config.onnx_input
        network = OnnxNetwork(
            path,
            input_size=self.config.data.input_size,
            layout=settings.layout,
            mean=settings.mean,
            std=settings.std,
        )
        if len([side for side in network.output_shape if side > 1]) != 1:
            shape = ", ".join(map(str, ("N", *network.output_shape)))
            raise ValueError(f"{path}: its output is ({shape}), no embedding; expected (N, D)")
        return EmbeddingWrapper(network)

    def order(self) -> IdentityBalance:
        """Batches of P identities with K photos each."""
        return IdentityBalance(self.source("train").identity_ids, self.config.photos_per_identity)

    def collate(self) -> Collate[Face]:
        """Identity ids."""
        return partial(identity_targets, id_of=self._id_of)

    def loss(
        self, outputs: EmbeddingOutputs, targets: IdentityTargets, world: World = SINGLE_PROCESS
    ) -> dict[str, Tensor]:
        """Margin softmax or triplet loss."""
        config = self.config
        if config.loss == "triplet":
            return triplet_loss(outputs.embeddings, targets, margin=config.margin, world=world)
        return margin_softmax_loss(outputs, targets, kind=config.loss, margin=config.margin, scale=config.scale)

    def decode(self, outputs: EmbeddingOutputs) -> list[Face]:
        """The embedding of each photo."""
        return decode_faces(outputs)

    def postprocessing(self, network: nn.Module) -> GraphProto:
        """The embeddings as they are, without the class prototypes."""
        return parse_graph(
            "unchanged (float[N, D] embeddings) => (float[N, D] embedding) { embedding = Identity (embeddings) }"
        )
