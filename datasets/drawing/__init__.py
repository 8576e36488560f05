"""Pictures and plots of images with their truth."""
