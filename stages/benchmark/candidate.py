"""Runs inside the sandbox, in a process of its own: the model's code, and calls of its function.

Reads a JSON line with the code and the function's name, then one with arguments for each call, and answers each with a
line. Whatever the code does to this process, all that leaves it is data: it has neither the tests nor the proof of a
pass. Never imported: jail.py starts it by its text.
"""

import json
import os
import sys
from typing import Any


def plain(value: Any) -> Any:
    """Return a value as JSON with its type told. Raises TypeError for one that is no plain value."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    for kind, name in ((list, "list"), (tuple, "tuple"), (set, "set"), (frozenset, "set")):
        if isinstance(value, kind):
            return {name: [plain(item) for item in value]}
    if isinstance(value, dict):
        return {"dict": [[plain(key), plain(item)] for key, item in value.items()]}
    raise TypeError


def value_of(told: Any) -> Any:
    """Return the value that `plain` has told."""
    if not isinstance(told, dict):
        return told
    ((name, items),) = told.items()
    if name == "dict":
        return {value_of(key): value_of(item) for key, item in items}
    return {"list": list, "tuple": tuple, "set": set}[name](value_of(item) for item in items)


def main() -> None:
    """Answer calls until there are no more."""
    asked, answers = os.fdopen(os.dup(0), "r"), os.fdopen(os.dup(1), "w")
    nothing = os.open("/dev/null", os.O_RDWR)
    for number in (0, 1, 2):  # what the code prints goes nowhere, and it finds no questions to read
        os.dup2(nothing, number)
    job = json.loads(asked.readline())
    names: dict[str, Any] = {"__name__": "candidate"}
    failed = ""
    try:
        exec(compile(job["code"], "candidate", "exec"), names)  # noqa: S102 (what the sandbox is for)
    except BaseException as error:
        failed = type(error).__name__
    for line in asked:
        try:
            if failed:
                told: dict[str, Any] = {"raised": failed}
            else:
                told = {"returned": plain(names[job["name"]](*[value_of(given) for given in json.loads(line)]))}
        except BaseException as error:
            told = {"raised": type(error).__name__}
        answers.write(json.dumps(told) + "\n")
        answers.flush()


if __name__ == "__main__":
    sys.setrecursionlimit(5000)
    main()
