"""What all tasks share, arranged by job; ARCHITECTURE.md has the table."""
