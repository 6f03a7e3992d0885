"""SIGTERM, Ctrl-C and kill -9 in the middle of work: no process stays behind, no half file, and a rerun is whole."""

import os
import signal
import time
from collections.abc import Callable

import psutil
import pytest
from broken_project import Broken
from record import Record
from zygote import Child

PATIENCE = 300  # seconds until a command is in the middle of its work
GRACE = 30  # seconds until all of it must be gone
SLOW = {"slow": 0.1}
# What runs -> its words, or the kind of stage; and what is there once it is in the middle of its work.
AT_WORK: dict[str, tuple[tuple[str, ...], str]] = {
    "generate": ((), ".tsr/rows/*/*.rows"),
    "judge": ((), ".tsr/rows/*/*.rows"),
    "evaluate": ((), ".tsr/rows/*/*.rows"),
    "sft": ((), ".tsr/training/*/checkpoint-*"),
    "dpo": ((), ".tsr/training/*/checkpoint-*"),
    "tournament": (("tournament", "M0", "spin-1"), ".tsr/rows/*/*.rows"),
    "explore": (("explore", "--no-browser", "--port", "0"), ""),
    "claims": (("claims", "--seeds", "2", "--arms", "sft", "--into", "stopped"), ".tsr/claims/kept/*"),
}
WAYS: dict[str, Callable[[int], None]] = {
    "Ctrl-C": lambda pid: os.killpg(pid, signal.SIGINT),
    "SIGTERM": lambda pid: os.kill(pid, signal.SIGTERM),
    "kill -9 of the first process": lambda pid: os.kill(pid, signal.SIGKILL),
}


def started(broken: Broken, name: str) -> Child:
    """Start a command, and return when it is in the middle of its work."""
    words, sign = AT_WORK[name]
    broken.forget()
    if words:
        child = broken.zygote.start(*words, folder=broken.folder, fault=SLOW)
    else:
        step = [step for step in broken.steps if step.kind == name and dict(step.moments).get("row", 0) > 10][-1]
        broken.remove(step)
        child = broken.start(step, SLOW)
    until = time.monotonic() + PATIENCE
    while not (any(broken.folder.glob(sign)) if sign else "http://" in child.told):
        assert time.monotonic() < until, child.told
        assert not child.ended_within(0.02), child.told
    return child


def session(leader: int) -> list[psutil.Process]:
    """The processes that a command has started, and itself, as far as they are there."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", AT_WORK)
def test_a_command_that_is_stopped_leaves_no_process(broken: Broken, record: Record, name: str, way: str) -> None:
    child = started(broken, name)
    if name == "claims":
        assert len(session(child.pid)) > 2, "it has no workers"
    try:
        with record.fault(way, name):
            WAYS[way](child.pid)
            assert child.ended_within(GRACE), f"it does not end: {child.told}"
            until = time.monotonic() + GRACE
            while left := session(child.pid):
                assert time.monotonic() < until, f"left behind: {[' '.join(one.cmdline()) for one in left]}"
                time.sleep(0.05)
            if way != "kill -9 of the first process":
                assert (child.wait() == 0) == (name == "explore")
                assert "Traceback" not in child.told
                assert not list((broken.folder / "data").rglob(".*.tmp"))
    finally:
        for process in session(child.pid):
            process.kill()
    for step in broken.steps:
        if any(not (broken.folder / out).exists() for out in step.outs):
            broken.run(step)
