"""Whose face is it: embeddings that put photos of one person near each other."""
