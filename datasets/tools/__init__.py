"""Tools for data sets on the command line: `python -m datasets`, a module for each verb."""
