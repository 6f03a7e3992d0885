"""A `tsr` command with a fault in it: `python faulty.py FAULT ENGINE ARGUMENT...`. All else is the real thing.

ENGINE `embedded` is the real one; `quick` answers without a model, so that a process takes no seconds to start.
"""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

from stages import cli, rowstore
from stages.backends import Completion, Request, transformers
from stages.models import model_hash, template_hash
from stages.rowstore import Rows


class Quick:
    """Answers at once, by the seed; judges by the length of the prompt."""

    name, version = "quick", "1"

    def __init__(self, folder: Path, settings: Any) -> None:
        self.model_hash, self.template_hash = model_hash(folder), template_hash(folder)

    def complete(self, requests: Iterable[Request]) -> Iterator[Completion]:
        for request in requests:
            yield Completion(request.request_id, f"answer {request.seed}", "stop", 3, 2, -1.0)

    def close(self) -> None:
        pass


def die() -> None:
    """As the kernel's out-of-memory killer does it."""
    os.kill(os.getpid(), signal.SIGKILL)


def after_rows(number: int) -> None:
    """Die when so many rows are kept."""
    add, numbers = Rows.add, count(1)

    def adding(self: Rows, *row: Any) -> None:
        add(self, *row)
        if next(numbers) == number:
            die()

    Rows.add = adding  # type: ignore[method-assign]


def in_a_line(number: int) -> None:
    """Die when half of this line is written."""
    write, numbers = os.write, count(1)

    def writing(handle: int, line: bytes) -> int:
        if len(line) < 40 or next(numbers) < number:  # libraries write a byte now and then
            return write(handle, line)
        write(handle, line[: len(line) // 2])
        die()
        return 0

    rowstore.os.write = writing  # type: ignore[attr-defined]


def before_the_table(_: int) -> None:
    """Die when all rows are there and the table is written, but not yet in its place."""
    replace = Path.replace

    def replacing(self: Path, target: Path) -> Path:
        if str(target).startswith("data/"):
            die()
        return replace(self, target)

    Path.replace = replacing  # type: ignore[method-assign, assignment]


def slowly(milliseconds: int) -> None:
    """Take so long to keep each row."""
    add = Rows.add

    def adding(self: Rows, *row: Any) -> None:
        time.sleep(milliseconds / 1000)
        add(self, *row)

    Rows.add = adding  # type: ignore[method-assign]


FAULTS: dict[str, Callable[[int], None]] = {f.__name__: f for f in (after_rows, in_a_line, before_the_table, slowly)}


def main() -> None:
    fault, engine, *arguments = sys.argv[1:]
    name, _, number = fault.partition(":")
    if name != "none":
        FAULTS[name](int(number or 0))
    if engine == "quick":
        transformers.open_backend = Quick  # type: ignore[assignment, misc]
    sys.argv = ["tsr", *arguments]
    cli.main()


if __name__ == "__main__":
    main()
