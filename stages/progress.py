"""Progress of long work: a live bar on a terminal, a line now and then elsewhere.

Always with rows done and in all, the rate and the time left; rows reused and failed where there are any.
"""

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

LINE_EVERY_SECONDS = 10.0
# In progress blocks of this process: the seconds of a stage's model, for `make bench`; items that were there already.
spent = {"seconds": 0.0, "reused": 0.0}


class Advance(Protocol):
    """Call with the number of items just done, and how many of them failed."""

    def __call__(self, done: int = 1, failed: int = 0) -> None:
        """Count `done` more items."""
        ...


@contextmanager
def progress(title: str, total: int, unit: str = "rows", reused: int = 0) -> Iterator[Advance]:
    """Show progress towards `total` while the block runs; yields the function that advances it.

    `reused` items are there already: they count as done, and not in the rate.
    """
    state = _State(title, total, unit, reused)
    try:
        yield from (_bar if sys.stderr.isatty() else _lines)(state)
    finally:
        spent["seconds"] += time.monotonic() - state.start
        spent["reused"] += reused


@dataclass
class _State:
    """What is known of work under way."""

    title: str
    total: int
    unit: str
    reused: int
    made: int = 0
    failed: int = 0
    start: float = field(default_factory=time.monotonic)
    first: tuple[float, int] | None = None  # when the first items came, and how many: before that, an engine starts

    @property
    def done(self) -> int:
        return self.reused + self.made

    def count(self, done: int = 1, failed: int = 0) -> None:
        self.made += done
        self.failed += failed
        if self.first is None:
            self.first = (time.monotonic(), self.made)

    def rate(self) -> float:
        """Return items a second since the first came; 0 while that cannot be told."""
        if self.first is None or self.made == self.first[1]:
            return 0.0
        return (self.made - self.first[1]) / max(time.monotonic() - self.first[0], 1e-9)

    def aside(self) -> str:
        """Return what became of the items, where there is more to say than that they are done."""
        told = [f"{n} {what}" for n, what in ((self.reused, "reused"), (self.failed, "failed")) if n]
        return f" ({', '.join(told)})" if told else ""

    def line(self) -> str:
        """Return how far the work is."""
        rate = self.rate()
        so_far = f"{time.monotonic() - self.start:.0f} s so far"
        times = f"{rate:.3g}/s, {(self.total - self.done) / rate:.0f} s left" if rate else so_far
        return f"{self.title}: {self.done}/{self.total} {self.unit}{self.aside()}, {times}"

    def end(self) -> str:
        """Return what was done, and how fast."""
        seconds = time.monotonic() - self.start
        rate = f", {self.made / seconds:.3g}/s" if self.made and seconds else ""
        return f"{self.title}: {self.done}/{self.total} {self.unit}{self.aside()} in {seconds:.1f} s{rate}"


def _bar(state: _State) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[told]}"))
    times = (TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    with Progress(*columns, *times, console=Console(stderr=True)) as bar:
        task = bar.add_task(state.title, total=state.total, told=state.unit + state.aside())
        bar.advance(task, state.reused)

        def advance(done: int = 1, failed: int = 0) -> None:
            state.count(done, failed)
            bar.update(task, advance=done, told=f"{state.unit}{state.aside()}, {state.rate():.3g}/s")

        yield advance


def _lines(state: _State) -> Iterator[Advance]:
    """Print a line from time to time, from a thread: work says nothing while its engine starts."""
    over = threading.Event()

    def tell() -> None:
        while not over.wait(LINE_EVERY_SECONDS):
            if state.done < state.total:
                _say(state.line())

    teller = threading.Thread(target=tell, name="tsr: progress", daemon=True)
    teller.start()
    try:
        yield state.count
    finally:
        over.set()
        teller.join()
    _say(state.end())


def _say(line: str) -> None:
    """Print a line. Where nobody reads it any more, or its disk is full, the work goes on without."""
    try:
        print(line, file=sys.stderr, flush=True)
    except OSError:
        # Else the exit would try once more, and fail.
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
