"""Processes end when they are told to, and so do those that they have started."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def started(code: str) -> subprocess.Popen[str]:
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-c", code], env=env, text=True, stdout=-1, stderr=-1)


WRITES = """
from pathlib import Path
from stages import stopping
from stages.files import replacing
stopping.in_order()
with replacing(Path({path!r})) as beside:
    beside.write_text("half")
    print("ready", flush=True)
    import signal; signal.pause()
"""
WAITS = """
import signal
from stages import stopping
with stopping.at_once("go on later"):
    print("ready", flush=True)
    signal.pause()
"""
PARENT = """
import subprocess, sys, signal
child = "from stages import stopping; stopping.with_parent(); print('ready', flush=True); import time; time.sleep(600)"
one = subprocess.Popen([sys.executable, "-c", child], stdout=subprocess.PIPE, text=True)
one.stdout.readline()
print(one.pid, flush=True)
signal.pause()
"""


def test_sigterm_removes_what_is_half_written(tmp_path: Path) -> None:
    process = started(WRITES.format(path=str(tmp_path / "table")))
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    process.terminate()
    process.communicate(timeout=30)
    assert process.returncode != 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_at_once_says_what_is_next(number: signal.Signals) -> None:
    process = started(WAITS)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    process.send_signal(number)
    _, told = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert told.startswith("tsr: stopped by ") and told.endswith("; go on later\n")


def test_a_worker_ends_with_a_parent_that_is_killed() -> None:
    process = started(PARENT)
    assert process.stdout is not None
    worker = int(process.stdout.readline())
    process.kill()
    process.wait(timeout=30)
    pidfd = os.pidfd_open(worker) if os.path.exists(f"/proc/{worker}") else None  # noqa: PTH110
    if pidfd is not None:
        import select

        assert select.select([pidfd], [], [], 30)[0], "it goes on alone"
