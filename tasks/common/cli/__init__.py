"""The command line: the table of verbs, parsing, help and exit statuses. Imports nothing heavy."""
