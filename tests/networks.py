"""Random networks for comparisons."""

from torch import nn


def randomise_bn(network: nn.Module) -> None:
    """Make batch normalisation different from the identity."""
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias, 0, 0.2)
            norm.running_mean.normal_(0, 0.2)
            norm.running_var.uniform_(0.5, 1.5)
