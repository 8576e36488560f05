"""What all pictures and plots share; each task's `draw.py` draws its own predictions with it."""
