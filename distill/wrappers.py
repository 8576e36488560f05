"""Wrappers that give any network the outputs of a task of this suite."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from distill.objectives import PROBABILITY_EPS
from tasks.common.model.logits import Logits


class LogitsWrapper(nn.Module):
    """A network whose output is a logit for each class or attribute."""

    def __init__(self, network: nn.Module, columns: Sequence[int] | None = None) -> None:
        """Args: network: images -> logits or `Logits`; columns: those of the student's classes; None for all."""
        super().__init__()
        self.network = network
        self._columns = columns if columns is None else list(columns)

    def forward(self, images: Tensor) -> Logits:
        """uint8 RGB (N, 3, S, S) -> logits."""
        outputs = self.network(images)
        logits = outputs.logits if isinstance(outputs, Logits) else outputs
        return Logits(logits if self._columns is None else logits[:, self._columns])

    @property
    def backbone(self) -> nn.Module | None:
        """The network's backbone, for hints; None for a network of another library."""
        return getattr(self.network, "backbone", None)


class ProbabilitiesToLogits(nn.Module):
    """Logits from a network that outputs logits or probabilities."""

    def __init__(self, network: nn.Module, *, outputs: str, uses_softmax: bool) -> None:
        """Args: network: images -> outputs; outputs: logits or probabilities; uses_softmax: probabilities sum to 1."""
        super().__init__()
        self.network, self._outputs, self._uses_softmax = network, outputs, uses_softmax

    def forward(self, images: Tensor) -> Tensor:
        """uint8 RGB (N, 3, S, S) -> logits.

        Raises:
            ValueError: if the outputs are not of the configured kind.
        """
        outputs: Tensor = self.network(images)
        in_unit_range = bool(outputs.min() >= -PROBABILITY_EPS and outputs.max() <= 1 + PROBABILITY_EPS)
        sum_to_one = torch.allclose(outputs.sum(1), outputs.new_ones(len(outputs)), atol=1e-3)
        if self._outputs == "logits":
            if self._uses_softmax and in_unit_range and sum_to_one:
                raise ValueError("onnx.outputs: got logits, but the network's outputs sum to 1; expected probabilities")
            return outputs
        if not in_unit_range or (self._uses_softmax and not sum_to_one):
            raise ValueError("onnx.outputs: the network's outputs are not probabilities; expected logits")
        return outputs.clamp(min=PROBABILITY_EPS).log() if self._uses_softmax else outputs.logit(PROBABILITY_EPS)
