"""Ctrl-C and SIGTERM: the process ends, its files in order, and no process that it started stays behind.

A kill -9 leaves it no moment for that, so the processes that it started look out for its end themselves.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

LOOK_SECONDS = 0.5
_KNOWN = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}


def in_order() -> None:
    """Let SIGTERM end this process as Ctrl-C does: what it is writing beside its place goes."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _raise)


@contextmanager
def at_once(told: str) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end this process without a wait for those that work for it; they end with it."""

    def stop(number: int, _: Any) -> NoReturn:
        sys.stdout.flush()
        shown = "\x1b[?25h\n" if sys.stderr.isatty() else ""  # a progress bar has hidden the cursor
        os.write(2, f"{shown}tsr: stopped by {_KNOWN[signal.Signals(number)]}; {told}\n".encode())
        os._exit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, stop) for number in _KNOWN}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def with_starter(pid: int) -> None:
    """Let this process end when the one that it comes from does, however that ends; at once where it has already.

    What stands between the two, such as a launcher, is not to end before this process either.
    """
    parent = os.getppid()
    if not _comes_from(pid):
        os._exit(1)
    threading.Thread(target=_look_out, args=(pid, parent), daemon=True).start()


def _look_out(pid: int, parent: int) -> None:
    while os.getppid() == parent and _comes_from(pid):
        time.sleep(LOOK_SECONDS)
    os._exit(1)


def _comes_from(pid: int) -> bool:
    """Return whether a process is this one's parent, or the parent's, and so on; none is once it has ended."""
    import psutil

    above = os.getppid()
    with suppress(psutil.Error):  # one on the way has just ended
        while above not in (0, pid):
            above = psutil.Process(above).ppid()
    return above == pid


def _raise(*_: Any) -> NoReturn:
    raise KeyboardInterrupt
