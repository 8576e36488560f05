"""Loggers of other projects: TensorBoard, MLflow, Weights & Biases."""
