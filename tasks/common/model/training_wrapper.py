"""A network with layers beside it that only help it learn."""

from __future__ import annotations

from torch import nn


class TrainingWrapper(nn.Module):
    """What is trained; the network alone is what is evaluated and kept.

    Attributes:
        network: the task's.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    @property
    def backbone(self) -> nn.Module:
        """The network's, whose stages may be frozen."""
        return self.network.get_submodule("backbone")
