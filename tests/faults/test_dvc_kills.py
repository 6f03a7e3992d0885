"""kill -9 of whole `dvc repro` runs at drawn moments, and two of them at once: the same dvc.lock in the end."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml
from broken_project import Broken
from record import Record, drawn

KILLS = max(2, int(os.environ.get("TSR_FAULTS_KILLS", "130")) // 13)
TARGET = "pair@tsr-1"  # with all that it rests on: twelve stages, three of them trainings
PATIENCE = 900  # seconds
LONGEST = 12.0  # seconds between a start and its kill


def repro(folder: Path) -> subprocess.Popen[str]:
    """Start `dvc repro` in a session of its own."""
    env = os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen(["dvc", "repro", TARGET], cwd=folder, env=env, text=True, start_new_session=True, **pipes)


def locked(folder: Path) -> dict[str, object]:
    """What dvc.lock says of each stage."""
    found = yaml.safe_load((folder / "dvc.lock").read_text())["stages"] if (folder / "dvc.lock").exists() else {}
    return dict(found)


@pytest.fixture
def bare(broken: Broken, tmp_path: Path) -> Path:
    """The small project before its first stage."""
    assert broken.lock
    place = tmp_path / "bare"
    shutil.copytree(broken.folder, place, ignore=shutil.ignore_patterns(".tsr", "cache", "tmp"), symlinks=True)
    for path in (place / "data").iterdir():
        if path.is_dir():
            shutil.rmtree(path)
    (place / "dvc.lock").unlink()
    return place


def test_dvc_repro_that_is_killed_again_and_again_ends_in_the_same_lock(
    broken: Broken, bare: Path, record: Record
) -> None:
    draw, kills, mended = drawn("dvc"), 0, 0
    while True:
        process = repro(bare)
        try:
            told = process.communicate(timeout=draw.uniform(1.0, LONGEST) if kills < KILLS else PATIENCE)[0]
            assert process.returncode == 0, told
            break
        except subprocess.TimeoutExpired:
            with record.fault("kill -9", "dvc repro"):
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
                kills += 1
                lock = bare / ".dvc/tmp/rwlock"
                if lock.is_file() and not lock.stat().st_size:  # DVC's own note, cut off as it was written
                    lock.unlink()
                    mended += 1
    whole, found = locked(broken.folder), locked(bare)
    assert set(found) > {"prepare", "base", "sft", TARGET}
    assert kills and not {name for name in found if found[name] != whole[name]}
    record.rows["kills of dvc repro after which its own note had to go"] += mended


def test_two_dvc_repro_at_once_end_in_the_same_lock(broken: Broken, bare: Path, record: Record) -> None:
    """The later one says that the first is at work, or waits; then nothing is left to do."""
    with record.fault("two runs at once", "dvc repro"):
        first = repro(bare)
        time.sleep(drawn("two dvc").uniform(0.0, 3.0))
        second = repro(bare)
        ends = []
        for process in (first, second):
            told = process.communicate(timeout=PATIENCE)[0]
            ends.append(process.returncode)
            assert process.returncode == 0 or "lock" in told or "busy" in told, told
        assert 0 in ends or repro(bare).wait(timeout=PATIENCE) == 0
        again = repro(bare)
        told = again.communicate(timeout=PATIENCE)[0]
        assert again.returncode == 0, told
        whole, found = locked(broken.folder), locked(bare)
        assert TARGET in found
        assert not {name for name in found if found[name] != whole[name]}
