"""Image classification: ImageNet, Stanford Dogs, or your own class folders."""
