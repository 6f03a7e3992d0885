"""Progress of long work: a live bar on a terminal, a line now and then elsewhere.

Always with the total and the time left.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

LINE_EVERY_SECONDS = 10.0
spent = {"seconds": 0.0}  # in progress blocks of this process: the model's part of a stage, for `make bench`


class Advance(Protocol):
    """Call with the number of items just done."""

    def __call__(self, done: int = 1) -> None:
        """Count `done` more items."""
        ...


@contextmanager
def progress(title: str, total: int, unit: str = "rows") -> Iterator[Advance]:
    """Show progress towards `total` while the block runs; yields the function that advances it."""
    start = time.monotonic()
    try:
        yield from (_bar if sys.stderr.isatty() else _lines)(title, total, unit)
    finally:
        spent["seconds"] += time.monotonic() - start


def _bar(title: str, total: int, unit: str) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit))
    times = (TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    with Progress(*columns, *times, console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=total)
        yield lambda done=1: bar.advance(task, done)


def _lines(title: str, total: int, unit: str) -> Iterator[Advance]:
    start = last = time.monotonic()
    seen = 0

    def advance(done: int = 1) -> None:
        nonlocal seen, last
        seen += done
        now = time.monotonic()
        if now - last >= LINE_EVERY_SECONDS and seen < total:
            last = now
            left = (now - start) / seen * (total - seen)
            print(f"{title}: {seen}/{total} {unit}, {left:.0f} s left", file=sys.stderr, flush=True)

    yield advance
    print(f"{title}: {seen}/{total} {unit} in {time.monotonic() - start:.1f} s", file=sys.stderr, flush=True)
