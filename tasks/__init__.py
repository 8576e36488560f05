"""What the suite can do; `python -m tasks` lists the tasks."""
