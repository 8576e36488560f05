"""The paper's tables beside ours, sweeps of width by resolution, and speed compared with other libraries."""
