"""Training: the loop, a step, its state, optimisers and schedules, frozen layers, the linear probe."""
