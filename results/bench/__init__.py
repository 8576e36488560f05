"""Speed compared with other libraries: `python -m results bench`."""
