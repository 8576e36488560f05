"""Failure messages of the contract test: what a task must provide, in which file, and which task to copy."""

import functools
from collections.abc import Callable
from typing import Any


def explain(task: str, what: str, *, provide: str, copy: str, reason: object) -> str:
    """The message for an unmet requirement; `{task}` and `{Task}` in its parts are the task's name.

    Args:
        task: name of the task.
        what: the requirement, as a sentence without a full stop.
        provide: the file and function to write or correct.
        copy: the example in an existing task.
        reason: what was found instead.
    """
    found = str(reason).strip().split("\nassert ")[0]  # without the values that pytest adds to a message
    lines = {"tasks/{task}": what, "  provide": provide, "  copy": copy, "  found": found}
    text = "\n".join(f"{label}: {line}" for label, line in lines.items())
    return "\n" + text.replace("{task}", task).replace("{Task}", task.capitalize())


def requirement(what: str, *, provide: str, copy: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A decorator of tests with a parameter `task` or `tiny_task`: an error becomes the message of `explain`."""

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(test)
        def run(**fixtures: Any) -> None:
            task = fixtures["task"] if "task" in fixtures else fixtures["tiny_task"].task
            try:
                test(**fixtures)
            except Exception as error:
                text = str(error) if isinstance(error, AssertionError) else f"{type(error).__name__}: {error}"
                raise AssertionError(explain(task, what, provide=provide, copy=copy, reason=text)) from error

        return run

    return decorate
