"""Device and precision, distributed processes, signals, progress bars, the repository's folder."""
