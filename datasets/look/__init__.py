"""A look at data before a training: what would make it fail, or worthless."""
