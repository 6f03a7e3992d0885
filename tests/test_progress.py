"""What long work says of itself where nobody has a terminal."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from stages import progress


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY_SECONDS", 0.02)


def until_told(capsys: pytest.CaptureFixture[str]) -> str:
    end, told = time.monotonic() + 10, ""
    while not told and time.monotonic() < end:
        time.sleep(0.01)
        told = capsys.readouterr().err
    return told


def test_work_that_has_no_row_yet_says_that_it_lives(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.progress("M0/r0", 6, reused=2):
        assert until_told(capsys).startswith("M0/r0: 2/6 rows (2 reused), 0 s so far\n")


def test_rate_and_time_left_stand_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.progress("M0/r0", 6) as advance:
        advance()
        time.sleep(0.01)
        advance(2, failed=1)
        assert "M0/r0: 3/6 rows (1 failed), " in (told := until_told(capsys)) and " s left\n" in told
        advance(3)
        capsys.readouterr()
        time.sleep(0.1)
        assert not capsys.readouterr().err, "all is done"
    assert capsys.readouterr().err.startswith("M0/r0: 6/6 rows (1 failed) in ")


def test_nothing_is_said_after_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="mine"), progress.progress("M0/r0", 6):
        raise ValueError("mine")
    capsys.readouterr()
    time.sleep(0.1)
    assert not capsys.readouterr().err
    assert "tsr: progress" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a file that is always full")
def test_lines_that_cannot_be_written_end_no_work() -> None:
    code = """
from stages import progress
progress.LINE_EVERY_SECONDS = 0.01
import time
with progress.progress("work", 2) as advance:
    advance()
    time.sleep(0.1)
    advance()
print("done")
"""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=full, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "done\n")
