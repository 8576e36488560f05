"""Data: example types (`types`), readers, transforms, loading, generated samples. Independent of tasks."""
