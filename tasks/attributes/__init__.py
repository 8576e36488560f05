"""Binary attributes of faces or other images, in CelebA's layout."""
