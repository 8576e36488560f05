"""What an image shows: ImageNet, Stanford Dogs, or folders of one's own."""
