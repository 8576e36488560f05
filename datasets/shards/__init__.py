"""WebDataset's tar files as data: where they are, what is in them, and their images in any order."""
