"""What is seen of a run: one live picture of all stages on a terminal, a line for each that ends elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from stages.running.needs import kind
from stages.running.schedule import Schedule

if TYPE_CHECKING:
    from rich.console import Group

MARKS = {"waiting": "·", "running": "▶", "done": "✔", "failed": "✘", "skipped": "-"}
STYLES = {"waiting": "dim", "running": "yellow", "done": "green", "failed": "bold red", "skipped": "red"}
EVERY_SECONDS = 0.25


class Display(Protocol):
    """Where a run shows itself."""

    def started(self, name: str) -> None:
        """Note that a stage has started."""
        ...

    def ended(self, name: str, told: str) -> None:
        """Note what became of a stage; `told` is empty where it did not change."""
        ...

    def say(self, text: str) -> None:
        """Print lines that stay."""
        ...

    def look(self) -> None:
        """Draw anew, if it is time."""
        ...


@contextmanager
def shown(schedule: Schedule) -> Iterator[Display]:
    """Show a run while the block lasts."""
    if not sys.stderr.isatty():
        yield Lines(schedule)
        return
    from rich.console import Console
    from rich.live import Live

    picture = Picture(schedule)
    # No thread draws: the run forks, and a fork takes no thread along.
    with Live(picture.drawn(), console=Console(stderr=True), auto_refresh=False, transient=True) as live:
        picture.live = live
        yield picture


class Lines:
    """A line for each stage that did something."""

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule

    def started(self, name: str) -> None:
        """Say nothing: the line comes when it ends."""

    def ended(self, name: str, told: str) -> None:
        """Print the stage's line."""
        if told:
            self.say(f"run: {over(self._schedule)}/{len(self._schedule.tasks)} {name}: {told}")

    def say(self, text: str) -> None:
        """Print lines."""
        print(text, file=sys.stderr, flush=True)

    def look(self) -> None:
        """Draw nothing."""


class Picture:
    """A row for each kind of stage with a mark for each of its stages, and those at work below."""

    def __init__(self, schedule: Schedule) -> None:
        from rich.live import Live

        self._schedule = schedule
        self._began: dict[str, float] = {}
        self._start = self._drawn = time.monotonic()
        self.live: Live | None = None

    def started(self, name: str) -> None:
        """Count its seconds from here on."""
        self._began[name] = time.monotonic()

    def ended(self, name: str, told: str) -> None:
        """Take it from those at work, and let a line of it stay."""
        del self._began[name]
        if told:
            self.say(f"{name}: {told}")

    def say(self, text: str) -> None:
        """Print lines above the picture."""
        if self.live:
            self.live.console.print(text, markup=False, highlight=False)

    def look(self) -> None:
        """Draw anew, a few times a second."""
        if self.live and time.monotonic() - self._drawn >= EVERY_SECONDS:
            self._drawn = time.monotonic()
            self.live.update(self.drawn(), refresh=True)

    def drawn(self) -> "Group":
        """Return the picture as it is now."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        states = self._schedule.state
        rows: dict[str, Text] = {}
        for name, state in states.items():
            rows.setdefault(kind(name), Text()).append(MARKS[state], STYLES[state])
        kinds = Table.grid(padding=(0, 2))
        for stage, marks in rows.items():
            kinds.add_row(stage, marks)
        work = Table.grid(padding=(0, 2))
        for name, began in self._began.items():
            work.add_row(MARKS["running"], name, clock(time.monotonic() - began))
        head = f"{over(self._schedule)}/{len(states)} stages, {clock(time.monotonic() - self._start)}"
        return Group(Text(head, "bold"), kinds, work)


def over(schedule: Schedule) -> int:
    """Return how many stages are not to be waited for any more."""
    return len(schedule.tasks) - len(schedule.named("waiting")) - len(schedule.named("running"))


def clock(seconds: float) -> str:
    """Return a time as people read it.

    >>> clock(5.26), clock(3671)
    ('5.3 s', '1:01:11')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
