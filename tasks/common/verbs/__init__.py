"""What `train`, `evaluate`, `predict`, `export`, `cost` and `benchmark` do, a module each; imported when called."""
