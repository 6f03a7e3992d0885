"""Processes end when they are told to, and so do those that they have started."""

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[1]


def started(code: str, *words: str) -> subprocess.Popen[str]:
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-c", code, *words], env=env, text=True, stdout=-1, stderr=-1)


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
STARTER = """
import os, signal, subprocess, sys
child = f"from stages import stopping; stopping.with_starter({os.getpid()}); print('ready', flush=True); input()"
launcher = f"import subprocess, sys; sys.exit(subprocess.run([sys.executable, '-c', {child!r}]).returncode)"
code = launcher if sys.argv[1:] else child
one = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
one.stdout.readline()
print(one.pid, flush=True)
signal.pause()
"""
# A launcher that is gone before its worker looks: this process takes its children over, as process 1 does otherwise.
LATE = """
import ctypes, os, subprocess, sys
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
look = "import sys; sys.stdin.read(); from stages import stopping; stopping.with_starter(int(sys.argv[1])); print('on')"
launch = f"import os, subprocess, sys; subprocess.Popen([sys.executable, '-c', {look!r}, str(os.getpid())])"
waits, go = os.pipe()
subprocess.run([sys.executable, "-c", launch], stdin=waits, check=True)
os.close(go)
print("code", os.waitstatus_to_exitcode(os.wait()[1]))
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


def ends(pid: int) -> bool:
    """Whether a process that is not this one's child ends."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    return bool(select.select([handle], [], [], 60)[0])


@pytest.mark.parametrize("between", [[], ["a launcher"]])
def test_a_worker_ends_with_the_process_that_started_it(between: list[str]) -> None:
    """Also where a launcher stands between them, which looks out for nobody."""
    process = started(STARTER, *between)
    assert process.stdout is not None
    first = psutil.Process(int(process.stdout.readline()))
    below = [first, *first.children()]
    assert len(below) == 1 + len(between)
    process.kill()
    process.wait(timeout=30)
    assert all(ends(one.pid) for one in below), "it goes on alone"


def test_a_worker_ends_with_its_launcher() -> None:
    process = started(STARTER, "a launcher")
    assert process.stdout is not None
    launcher = psutil.Process(int(process.stdout.readline()))
    (worker,) = launcher.children()
    launcher.kill()
    assert ends(worker.pid), "it goes on alone"
    process.kill()
    process.wait(timeout=30)


def test_a_worker_whose_launcher_is_gone_by_then_ends_at_once() -> None:
    told, wrong = started(LATE).communicate(timeout=60)
    assert (told, wrong) == ("code 1\n", "")
