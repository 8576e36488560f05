"""Photos with coordinates: readers of CSV, EXIF and shards, and splits by place or author."""
