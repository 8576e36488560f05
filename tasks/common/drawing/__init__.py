"""Drawing helpers for images and plots; each task's `draw.py` draws its predictions with them."""
