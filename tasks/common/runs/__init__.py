"""Run folders: how they are made, what is in them, checkpoints, and the way back from a folder to a network."""
