"""SIGTERM, Ctrl-C and kill -9 in the middle of work: no process stays behind, no half file, and a rerun is whole."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from broken_project import Broken
from record import Record
from test_running import Hanging, gone
from zygote import Child

PATIENCE = 300  # seconds until a command is in the middle of its work
GRACE = 90  # seconds until all of it must be gone; what is left of a killed cluster looks for its head for a while
SLOW = {"slow": 0.1}
# What runs -> its words, or the kind of stage; and what is there once it is in the middle of its work.
AT_WORK: dict[str, tuple[tuple[str, ...], str]] = {
    "generate": ((), ".tsr/rows/*/*.rows"),
    "generate, by ray": ((), ".tsr/rows/*/*.rows"),
    "judge": ((), ".tsr/rows/*/*.rows"),
    "evaluate": ((), ".tsr/rows/*/*.rows"),
    "sft": ((), ".tsr/training/*/checkpoint-*"),
    "sft, in two processes": ((), ".tsr/training/*/checkpoint-*"),
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


# What a name has behind its comma -> the settings of the micro profile that make it so.
BY_MANY = {
    "by ray": ("generate", {"backend": "ray"}),
    "in two processes": ("training", {"launch": "stages/accelerate/two_processes.yaml"}),
}


@contextmanager
def by_many(broken: Broken, name: str) -> Iterator[None]:
    """Let the work be done by many processes while the block runs, where the name says so."""
    kept, (_, _, way) = (broken.folder / "params.yaml").read_text(), name.partition(", ")
    if way:
        block, values = BY_MANY[way]
        broken.project.edit_params(lambda params: params["micro"][block].update(values))
    try:
        yield
    finally:
        (broken.folder / "params.yaml").write_text(kept)


def started(broken: Broken, name: str) -> tuple[Child, tuple[str, ...]]:
    """Start a command, and return it and its outputs, which are not there, when it is in the middle of its work."""
    words, sign = AT_WORK[name]
    broken.forget()
    outs: tuple[str, ...] = ()
    if words:
        child = broken.zygote.start(*words, folder=broken.folder, fault=SLOW)
    else:
        kind = name.partition(",")[0]
        step = [step for step in broken.steps if step.kind == kind and dict(step.moments).get("row", 0) > 10][-1]
        broken.remove(step)
        child, outs = broken.start(step, SLOW), step.outs
    until = time.monotonic() + PATIENCE
    while not (any(broken.folder.glob(sign)) if sign else "http://" in child.told):
        assert time.monotonic() < until, child.told
        assert not child.ended_within(0.02), child.told
    return child, outs


def session(leader: int, below: list[psutil.Process]) -> list[psutil.Process]:
    """The processes that a command has started, and itself, as far as they are there.

    Those of its session, and those `below`, of which some may have left it.
    """
    found = []
    for process in {*psutil.process_iter(), *below}:
        try:
            is_its = process in below or os.getsid(process.pid) == leader
            if is_its and process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", AT_WORK)
def test_a_command_that_is_stopped_leaves_no_process(broken: Broken, record: Record, name: str, way: str) -> None:
    with by_many(broken, name):
        child, outs = started(broken, name)
    below = psutil.Process(child.pid).children(recursive=True)
    if name == "claims" or "," in name:
        assert len(below) > 1, "it has no workers"
    try:
        with record.fault(way, name):
            WAYS[way](child.pid)
            assert child.ended_within(GRACE), f"it does not end: {child.told}"
            until = time.monotonic() + GRACE
            while left := session(child.pid, below):
                assert time.monotonic() < until, f"left behind: {[' '.join(one.cmdline()) for one in left]}"
                time.sleep(0.05)
            assert not any((broken.folder / out).exists() for out in outs), "it went on to its end"
            if way != "kill -9 of the first process":
                assert (child.wait() == 0) == (name == "explore")
                assert "Traceback" not in child.told or name == "sft, in two processes"  # torch's launcher has its own
                assert not list((broken.folder / "data").rglob(".*.tmp"))
    finally:
        for process in session(child.pid, below):
            process.kill()
    broken.mend()


@pytest.mark.parametrize("way", WAYS)
def test_a_run_of_many_stages_that_is_stopped_leaves_no_process(tmp_path: Path, record: Record, way: str) -> None:
    """`tsr run -j 2`: one of its stages has let go of its child, one does not end by SIGTERM."""
    run = Hanging(tmp_path / "made")
    try:
        with record.fault(way, "run -j 2"):
            WAYS[way](run.process.pid)
            run.process.wait(timeout=GRACE)
            stubborn = (
                {run.pid("stubborn")} if way == "kill -9 of the first process" else set()
            )  # ends by kill -9 alone
            until = time.monotonic() + GRACE
            while left := [pid for pid in run.below if not gone(pid) and not stubborn & ancestry(pid)]:
                assert time.monotonic() < until, f"left behind: {left}"
                time.sleep(0.05)
    finally:
        run.clear()


def ancestry(pid: int) -> set[int]:
    """A process and those that it comes from."""
    try:
        one = psutil.Process(pid)
        return {pid, *(parent.pid for parent in one.parents())}
    except psutil.NoSuchProcess:
        return {pid}
