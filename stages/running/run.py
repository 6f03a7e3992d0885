"""Tool run: `dvc repro` with the stages that are ready side by side; the same results, and the same dvc.lock."""

import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path

from stages.errors import TsrError
from stages.params import Params
from stages.running import needs, pipeline, processes
from stages.running.display import Display, clock, shown
from stages.running.pipeline import Pipeline
from stages.running.schedule import Schedule, Slots, Task

HOME = Path(".tsr/run")  # of this checkout, whoever shares the store of finished rows
LAST_LINES = 12  # of a failed stage's log that are shown
NAMED = 8  # stages that a message names before it only counts
LOOK_SECONDS = 0.02


@dataclass
class Tally:
    """What the stages came to."""

    ran: int = 0
    restored: int = 0
    unchanged: int = 0


def run(params: Params, targets: list[str], jobs: int, *, dry: bool = False, pull: bool = False) -> int:
    """Run what changed, of the targets or of all; return the exit code of a run that was stopped, else 0.

    `jobs` takes the place of `slots.cpu` where it is not 0; with `pull`, what was made elsewhere comes from the remote.
    Raises TsrError for stages that failed, after all others.
    """
    slots = Slots(jobs or params.block.slots.cpu, params.block.slots.gpu)
    gpus, cpus = needs.gpus(params), needs.cpus(params)
    numbers = visible(slots.gpu, os.environ.get("CUDA_VISIBLE_DEVICES"))
    with alone(HOME):
        stages = Pipeline(targets, HOME, pull=pull)
        if pull:
            stages.fetch_results()
        seconds = needs.Seconds(HOME / "seconds.json")
        tasks = [
            Task(
                name,
                stages.before[name],
                gpus.get(kind := needs.kind(name), 0),
                seconds.of(name),
                cpus.get(kind, 1),
            )
            for name in stages.stages
        ]
        schedule = Schedule(tasks, slots)
        if dry:
            tell_dry(schedule, stages.changed())
            return 0
        return _Run(stages, schedule, seconds, numbers).go()


class _Run:
    """One run under way."""

    def __init__(self, stages: Pipeline, schedule: Schedule, seconds: needs.Seconds, gpus: list[str]) -> None:
        self.stages, self.schedule, self.seconds, self.gpus = stages, schedule, seconds, gpus
        self.tally = Tally()
        self._names: dict[int, str] = {}
        self._began: dict[str, float] = {}

    def go(self) -> int:
        start = time.monotonic()
        processes.adopt()
        with processes.Signals().noted() as signals:
            try:
                with shown(self.schedule) as display:
                    while not self.schedule.over and not signals.got:
                        self._step(display)
            finally:
                processes.stop_all(hurried=lambda: len(signals.got) > 1)
                self.stages.mend()
                with suppress(TsrError):  # it orders the next run alone; on a full disk that is no reason to fail
                    self.seconds.write()
            if signals.got:
                name = signal.Signals(signals.got[0]).name
                print(f"run: stopped by {name}; {self._summary(start)}. Go on with `tsr run`")
                return 128 + signals.got[0]
        print(f"run: {self._summary(start)}")
        if self.schedule.named("failed"):
            raise TsrError(f"run: {blamed(self.schedule)}")
        return 0

    def _step(self, display: Display) -> None:
        for task, numbers in self.schedule.take():
            display.started(task.name)
            self._began[task.name] = time.monotonic()
            pid = self.stages.start(task.name, log_of(task.name), ",".join(self.gpus[one] for one in numbers))
            self._names[pid] = task.name
        for pid, code in processes.ended():
            if name := self._names.pop(pid, ""):
                self._end(name, code, display)
        display.look()
        time.sleep(LOOK_SECONDS)

    def _end(self, name: str, code: int, display: Display) -> None:
        took = time.monotonic() - self._began.pop(name)
        known = {pipeline.RAN: "ran", pipeline.RESTORED: "restored", pipeline.UNCHANGED: "unchanged"}
        self.schedule.end(name, ok=code in known)
        pipeline.settle_log(log_of(name), keep=code != pipeline.UNCHANGED)
        if code in known:
            setattr(self.tally, known[code], getattr(self.tally, known[code]) + 1)
            if code == pipeline.RAN:
                self.seconds.keep(name, took)
            told = {pipeline.RAN: clock(took), pipeline.RESTORED: "taken from DVC's run cache"}
            display.ended(name, told.get(code, ""))
            return
        by = f", killed by {signal.Signals(-code).name}" if code < 0 else ""
        display.ended(name, f"failed after {clock(took)}{by}; the end of {log_of(name)}:")
        display.say(last_lines(log_of(name)))

    def _summary(self, start: float) -> str:
        told = f"{self.tally.ran} ran, {self.tally.restored} taken from the run cache, {self.tally.unchanged} unchanged"
        return f"{len(self.schedule.tasks)} stages, {told}, in {clock(time.monotonic() - start)}"


def log_of(name: str) -> Path:
    """Return where a stage's output goes.

    >>> str(log_of("dpo@tsr-1")), str(log_of("data/imported/a.dvc"))
    ('.tsr/run/dpo@tsr-1.log', '.tsr/run/data_imported_a.dvc.log')
    """
    return HOME / f"{re.sub(r'[^A-Za-z0-9@._-]', '_', name)}.log"


def last_lines(log: Path) -> str:
    """Return the end of a log, indented."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(f"    {line}" for line in lines[-LAST_LINES:])


def blamed(schedule: Schedule) -> str:
    """Return which stages failed, where their output is, and what did not run because of them, in one line."""
    failed, skipped = schedule.named("failed"), schedule.named("skipped")
    told = f"failed: {', '.join(f'{name} ({log_of(name)})' for name in failed)}"
    return f"{told}; not run because of {'it' if len(failed) == 1 else 'them'}: {few(skipped) or 'nothing'}"


def few(names: list[str]) -> str:
    """Return names in a line, the first of many.

    >>> few(["a", "b"]), few([str(number) for number in range(10)])
    ('a, b', '0, 1, 2, 3, 4, 5, 6, 7 and 2 more')
    """
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def visible(count: int, given: str | None) -> list[str]:
    """Return the names of this run's GPUs: of those that CUDA_VISIBLE_DEVICES names, else 0, 1, ...

    Raises TsrError where it names fewer than there are slots.
    """
    names = [str(number) for number in range(count)] if given is None else [one for one in given.split(",") if one]
    if len(names) < count:
        raise TsrError(f"params.yaml: slots.gpu is {count}, but CUDA_VISIBLE_DEVICES={given} names {len(names)} GPUs")
    return names


def tell_dry(schedule: Schedule, changed: list[str]) -> None:
    """Print what would run, in the order of DVC, and what may follow from it."""
    follow: set[str] = set()
    for name, task in schedule.tasks.items():
        if name in changed:
            print(name)
        if name in changed or follow & set(task.before):
            follow.add(name)
    may = [name for name in schedule.tasks if name in follow and name not in changed]
    print(f"run: {len(changed)} of {len(schedule.tasks)} stages changed; may follow: {few(may) or 'nothing'}")


@contextmanager
def alone(home: Path) -> Iterator[None]:
    """Keep other runs out of this checkout. Raises TsrError while there is one."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / "lock").open("a+") as handle:
        try:
            flock(handle, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            handle.seek(0)
            raise TsrError(f"run: another `tsr run` is at work here (process {handle.read().strip()})") from None
        handle.truncate(0)
        handle.write(str(os.getpid()))
        handle.flush()
        yield
