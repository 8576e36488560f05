"""Small data drawn by the project itself, written once to a cache in the real data sets' layouts."""
