"""What all tasks share: the one loop, evaluation, prediction, the command line. `task.py` says what a task offers."""
