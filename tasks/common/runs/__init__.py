"""Run folders: their files, checkpoints, pretrained weights, and loading a network from a run."""
