"""Where on Earth a photo was taken: PlaNet's cells, or the most similar photos."""
