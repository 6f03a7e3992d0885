"""Faults that a child of the zygote can have in it. All else is the real thing.

A fault is a JSON object. Moments are counted, so a kill is at the same one each time:
`file`: an operation that changes files in the current folder; `row`: a row, a step or a table that is done.
"""

import json
import os
import signal
import sys
import time
from collections import Counter
from itertools import count
from pathlib import Path
from typing import Any

moments: Counter[str] = Counter()
_fault: dict[str, Any] = {}
_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "shutil.rmtree"}


def put_in(fault: dict[str, Any]) -> None:
    """Put a fault in: `{"at": ["row", 7]}` dies at that moment, `{"torn": 3}` in the middle of that kept row,
    `{"clock": seconds}` sets the clock back, `{"slow": seconds}` takes so long for each row, `{"count": file}` only
    counts moments and says at the end how many there were.
    """
    _fault.update(fault)
    if "at" in fault or "count" in fault or "slow" in fault:
        _watch_files(str(Path.cwd()))
        _watch_progress()
    if "torn" in fault:
        _tear(fault["torn"])
    if "clock" in fault:
        _set_back(fault["clock"])


def counted() -> None:
    """Write down how many moments there were."""
    if "count" in _fault:
        found, path = dict(moments), _fault.pop("count")
        Path(path).write_text(json.dumps(found))


def _moment(kind: str) -> None:
    moments[kind] += 1
    if _fault.get("at") == [kind, moments[kind]]:
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "row" and "slow" in _fault:
        time.sleep(_fault["slow"])


def _watch_files(home: str) -> None:
    """Count operations on files below `home`, just before each."""

    def heard(event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = args
            if not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                return
        elif event in _CHANGES:
            path = args[0]
        else:
            return
        if not isinstance(path, str | bytes | os.PathLike):
            return
        whole = os.path.abspath(os.fsdecode(path))  # noqa: PTH100 (a link to be removed is not what it points to)
        if whole.startswith(home):
            _moment("file")

    sys.addaudithook(heard)


def _watch_progress() -> None:
    from stages import progress

    before = progress._State.count

    def counting(self: Any, done: int = 1, failed: int = 0) -> None:
        before(self, done, failed)
        _moment("row")

    progress._State.count = counting  # type: ignore[method-assign]


def _tear(number: int) -> None:
    """Die when half of this row is kept."""
    from stages import rowstore

    write, numbers = os.write, count(1)

    def writing(handle: int, line: bytes) -> int:
        if len(line) < 40 or next(numbers) < number:  # libraries write a byte now and then
            return write(handle, line)
        write(handle, line[: len(line) // 2])
        os.kill(os.getpid(), signal.SIGKILL)
        return 0

    rowstore.os.write = writing  # type: ignore[attr-defined]


def _set_back(seconds: float) -> None:
    """Let the dates that the module `time` tells be behind; files get the system's time all the same."""
    now, now_ns, get = time.time, time.time_ns, time.clock_gettime
    time.time = lambda: now() - seconds
    time.time_ns = lambda: now_ns() - int(seconds * 1e9)
    time.clock_gettime = lambda clock: get(clock) - (seconds if clock == time.CLOCK_REALTIME else 0)
    for name in ("gmtime", "localtime", "ctime"):
        told = getattr(time, name)
        setattr(time, name, lambda at=None, told=told: told(time.time() if at is None else at))
    form = time.strftime
    time.strftime = lambda how, at=None: form(how, time.localtime() if at is None else at)
