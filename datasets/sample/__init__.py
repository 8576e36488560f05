"""Generated sample data, written once to the cache in the layouts of the real data sets."""
