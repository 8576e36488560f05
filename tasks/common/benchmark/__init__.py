"""What the verb `benchmark` measures: networks in each runtime, the machine's own rate, and whole predictions."""
