"""Images with one class each: class folders, ImageNet's layout, Stanford Dogs' lists."""
