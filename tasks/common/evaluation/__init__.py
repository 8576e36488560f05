"""Evaluation and prediction: scores, tables, features and failure cases of a network."""
