"""`python -m tasks`: the tasks, and their first commands; `python -m tasks TASK ...` is `python -m tasks.TASK ...`."""

import runpy
import sys

from tasks.registry import TASKS, describe_tasks

if __name__ == "__main__":
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in TASKS:
        del sys.argv[1]
        runpy.run_module(f"tasks.{name}", run_name="__main__", alter_sys=True)
    elif name in ("-h", "--help"):
        print(describe_tasks())
    else:
        print(f"error: there is no task {name}; the tasks are:\n\n{describe_tasks()}", file=sys.stderr)
        sys.exit(2)
