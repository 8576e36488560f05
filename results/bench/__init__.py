"""Speed beside other libraries: `python -m results bench`."""
