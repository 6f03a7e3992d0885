"""Processes that this one answers for: started apart from the terminal, and none left when it ends."""

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_DIE_WITH_PARENT, _ADOPT = 1, 36  # of Linux's prctl
GRACE_SECONDS = 10.0


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":  # elsewhere a process that outlives its parent is found by nobody
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def adopt() -> None:
    """Become the parent of all that come from this process, even where their own parent is gone: see `stop_all`."""
    _prctl(_ADOPT, 1)


def fork(output: int, on_stop: Callable[..., None], work: Callable[[], int]) -> int:
    """Start `work` in a fork and return its process id; it ends with the code that `work` returns, 1 for an error.

    It has a session of its own, so that Ctrl-C reaches this process alone; writes to the open file `output`, reads
    nothing, and gets SIGTERM, which calls `on_stop`, when this process dies.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.setsid()
        for number in SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, on_stop)
        _prctl(_DIE_WITH_PARENT, signal.SIGTERM)
        with Path(os.devnull).open("rb") as nothing:
            os.dup2(nothing.fileno(), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        if os.getppid() == parent:
            code = work()
    finally:
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)  # nothing of the parent's runs here: no handler, no cleaning up


def ended() -> Iterator[tuple[int, int]]:
    """Yield (process id, exit code) of processes that have ended, adopted ones too; a signal's number is negative."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        yield pid, os.waitstatus_to_exitcode(status)


def stop_all(hurried: Callable[[], bool] = lambda: False) -> None:
    """End all processes that come from this one: by SIGTERM, those still to come too; after a while by SIGKILL."""
    until = time.monotonic() + GRACE_SECONDS
    told: set[psutil.Process] = set()
    while below := psutil.Process().children(recursive=True):
        late = hurried() or time.monotonic() > until
        for process in below if late else set(below) - told:
            with suppress(psutil.Error):
                process.kill() if late else process.terminate()
        told |= set(below)
        for _ in ended():
            pass
        time.sleep(0.02)


class Signals:
    """Notes SIGINT, SIGTERM and SIGHUP, so that the loop that looks can end in order; a second one hurries it."""

    def __init__(self) -> None:
        self.got: list[int] = []

    def _note(self, number: int, _: Any) -> None:
        self.got.append(number)

    @contextmanager
    def noted(self) -> Iterator["Signals"]:
        """Note signals while the block runs; one that was ignored before, as under nohup, still is."""
        before = {number: signal.getsignal(number) for number in SIGNALS}
        try:
            for number, handler in before.items():
                if handler is not signal.SIG_IGN:
                    signal.signal(number, self._note)
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
