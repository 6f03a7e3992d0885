"""Which stage starts next. No process, no clock, no file: a graph goes in, and what happens is told to it.

A stage is ready once all that it rests on is done. Of the ready ones, that starts first which has the longest way from
its start to the end of the run, for nothing shortens that way; of equal ones, the first in DVC's own order.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from stages.errors import TsrError

State = Literal["waiting", "running", "done", "failed", "skipped"]


@dataclass(frozen=True)
class Task:
    """A stage: what it rests on, the slots that it takes, and the seconds that it is thought to take."""

    name: str
    before: tuple[str, ...] = ()
    gpus: int = 0
    seconds: float = 1.0
    cpus: int = 1


@dataclass(frozen=True)
class Slots:
    """How many stages of one process run side by side, and how many GPUs all share."""

    cpu: int
    gpu: int = 0


class Schedule:
    """A run under way. `take` says what starts now, `end` is told what became of it."""

    def __init__(self, tasks: Iterable[Task], slots: Slots) -> None:
        """Take tasks, each after those that it rests on. Raises TsrError for another order, which has no end."""
        self.tasks: dict[str, Task] = {}
        for task in tasks:
            if unknown := [name for name in task.before if name not in self.tasks]:
                raise TsrError(f"stage {task.name}: rests on {unknown[0]}, which does not come before it")
            if task.gpus > slots.gpu:
                raise TsrError(f"stage {task.name}: takes {task.gpus} GPUs; slots.gpu is {slots.gpu}")
            self.tasks[task.name] = task
        self.slots = slots
        self.state: dict[str, State] = dict.fromkeys(self.tasks, "waiting")
        self.blame: dict[str, str] = {}  # stage that did not run -> the failed one
        self._gpus: dict[str, tuple[int, ...]] = {}
        self._after = _dependents(self.tasks.values())
        ways = _ways(self.tasks, self._after)
        self._order = sorted(self.tasks, key=lambda name: -ways[name])  # stable: equal ways stay in DVC's order

    @property
    def over(self) -> bool:
        """Return whether nothing runs and nothing can start any more."""
        return not {"waiting", "running"} & set(self.state.values())

    def named(self, state: State) -> list[str]:
        """Return the stages in a state, in DVC's order."""
        return [name for name, now in self.state.items() if now == state]

    def take(self) -> Iterator[tuple[Task, tuple[int, ...]]]:
        """Yield what starts now, with the numbers of its GPUs; it counts as running from here on.

        A stage that waits for GPUs lets none with GPUs pass: a large one would wait for ever while small ones run. One
        that waits for CPU slots alone lets none pass. One that wants more of them than there are takes all.
        """
        gpus_kept = False
        for name in self._order:
            left = self.slots.cpu - sum(self._cpus(other) for other in self._gpus)
            if not left:
                return
            task = self.tasks[name]
            if not self._ready(task) or (task.gpus and gpus_kept):
                continue
            free = self._free()
            if task.gpus > len(free):
                gpus_kept = True
                continue
            if self._cpus(name) > left:
                return
            self.state[name], self._gpus[name] = "running", free[: task.gpus]
            yield task, self._gpus[name]

    def end(self, name: str, *, ok: bool) -> list[str]:
        """Note that a running stage has ended; return what does not run because it failed, in DVC's order."""
        if self.state[name] != "running":
            raise ValueError(f"{name} is {self.state[name]}")
        del self._gpus[name]
        self.state[name] = "done" if ok else "failed"
        lost = set() if ok else self._rests_on(name)
        found = [other for other, now in self.state.items() if other in lost and now == "waiting"]
        self.state |= dict.fromkeys(found, "skipped")
        self.blame |= dict.fromkeys(found, name)
        return found

    def _ready(self, task: Task) -> bool:
        return self.state[task.name] == "waiting" and all(self.state[name] == "done" for name in task.before)

    def _cpus(self, name: str) -> int:
        return min(self.tasks[name].cpus, self.slots.cpu)

    def _free(self) -> tuple[int, ...]:
        taken = {number for held in self._gpus.values() for number in held}
        return tuple(number for number in range(self.slots.gpu) if number not in taken)

    def _rests_on(self, name: str) -> set[str]:
        found: set[str] = set()
        ahead = list(self._after[name])
        while ahead:
            if (other := ahead.pop()) not in found:
                found.add(other)
                ahead += self._after[other]
        return found


def _dependents(tasks: Iterable[Task]) -> dict[str, list[str]]:
    """Return stage -> those that rest on it."""
    after: dict[str, list[str]] = {}
    for task in tasks:
        after[task.name] = []
        for name in task.before:
            after[name].append(task.name)
    return after


def _ways(tasks: dict[str, Task], after: dict[str, list[str]]) -> dict[str, float]:
    """Return stage -> the seconds from its start to the end of the run, were there slots for all."""
    ways: dict[str, float] = {}
    for name in reversed(tasks):
        ways[name] = tasks[name].seconds + max((ways[other] for other in after[name]), default=0.0)
    return ways
