"""A network with auxiliary layers that only training uses."""

from __future__ import annotations

from torch import nn


class TrainingWrapper(nn.Module):
    """The base of models with auxiliary layers: `network` alone is evaluated and saved.

    Attributes:
        network: the task's network.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    @property
    def backbone(self) -> nn.Module:
        """The network's backbone, whose stages may be frozen."""
        return self.network.get_submodule("backbone")
