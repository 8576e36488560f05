"""The paper's tables beside ours: `python -m results`."""
