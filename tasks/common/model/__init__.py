"""Model parts shared by tasks: the linear head, a similarity index, the wrapper for auxiliary training layers."""
