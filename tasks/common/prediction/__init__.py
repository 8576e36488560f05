"""Predictions for the user's own images, videos and streams."""
