"""The training loop, one step of it, what a step changes, optimisers, and what is frozen."""
