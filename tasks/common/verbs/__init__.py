"""The commands `train`, `evaluate`, `predict`, `export`, `cost` and `benchmark`, imported when called."""
