"""The objects that travel (`types`), readers, transforms, loading, and sample data. Knows no task."""
