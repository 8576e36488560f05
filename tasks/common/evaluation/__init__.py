"""From a network and images to predictions, scores, tables, features and failure cases."""
