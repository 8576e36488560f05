"""What faces (or other images) have: CelebA's layout, any attributes."""
