"""Images with boxes: one data set class, and a reader and a writer for each annotation format."""
