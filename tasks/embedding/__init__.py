"""Face embeddings for verification, identification and search."""
