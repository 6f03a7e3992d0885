"""Runs that die, disks that fill up, two runs at once: no row is lost, doubled or paid for twice.

Each stage is a process of its own, with a fault put in by faulty.py.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pipeline_file import command
from small_run import Run

from stages import paths, tables
from stages.errors import TsrError

FAULTY = Path(__file__).with_name("faulty.py")
REPO = FAULTY.parents[1]
STAGES = {
    "generate": ("M0.r0", paths.generations("M0", "r0")),
    "judge": ("M0.M0.r0", paths.judgments("M0", "M0", "r0")),
}
ENGINES = ["quick", pytest.param("embedded", marks=pytest.mark.slow)]


def start(name: str, fault: str = "none", engine: str = "quick") -> subprocess.Popen[str]:
    """Start a stage of the small run."""
    words = [sys.executable, str(FAULTY), fault, engine, *command(name, STAGES[name][0])]
    env = os.environ | {"PYTHONPATH": str(REPO)}
    return subprocess.Popen(words, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def end(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code, negative for a signal, and what was told."""
    told = process.communicate(timeout=120)[1]
    return process.returncode, told


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def undisturbed(finished: tuple[Run, Path], tmp_path_factory: pytest.TempPathFactory, engine: str) -> Path:
    """A small run that has generated and judged nothing; beside it, what both stages come to without a fault."""
    place = tmp_path_factory.mktemp("undisturbed") / "run"
    shutil.copytree(finished[1], place)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        Path("whole").mkdir()
        for name, (_, out) in STAGES.items():
            assert end(start(name, engine=engine))[0] == 0
            shutil.copy(out, Path("whole") / name)
        shutil.rmtree(".tsr")
        STAGES["judge"][1].unlink()
    return place


@pytest.fixture
def folder(undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, as the current folder."""
    place = tmp_path / "run"
    shutil.copytree(undisturbed, place)
    monkeypatch.chdir(place)
    return place


def kept_rows() -> int:
    """Whole lines in the store."""
    return sum(shard.read_bytes().count(b"\n") for shard in Path(".tsr/rows").rglob("*.rows"))


def is_whole(name: str) -> bool:
    """Whether a stage's table is what it is without a fault, byte for byte."""
    return STAGES[name][1].read_bytes() == (Path("whole") / name).read_bytes()


FAULTS = {"after_rows:1": 1, "after_rows:20": 20, "in_a_line:10": 9, "before_the_table": None}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", STAGES)
def test_a_killed_stage_loses_the_rows_in_flight_and_no_other(folder: Path, name: str, fault: str, engine: str) -> None:
    if name == "generate":
        STAGES["generate"][1].unlink()
    assert end(start(name, fault, engine))[0] == -signal.SIGKILL
    assert not STAGES[name][1].exists()
    sound, survive = kept_rows(), FAULTS[fault]
    assert sound == survive or (survive is None and sound > 20)
    code, told = end(start(name, engine=engine))
    assert code == 0, told
    assert is_whole(name)
    assert f"{sound} reused" in told or name == "judge"  # equal questions to a judge are one row
    assert ("torn or damaged" in told) == fault.startswith("in_a_line")


def test_kill_after_kill_still_comes_to_the_end(folder: Path, engine: str) -> None:
    out, before = STAGES["generate"][1], -1
    out.unlink()
    while not out.exists():
        assert kept_rows() > before, "no progress between two kills"
        before = kept_rows()
        assert end(start("generate", "after_rows:7", engine))[0] in (-signal.SIGKILL, 0)
    assert is_whole("generate")


def test_two_runs_at_once_make_each_row_once(folder: Path, engine: str) -> None:
    STAGES["generate"][1].unlink()
    first = start("generate", "slowly:80", engine)
    while not list(Path(".tsr").rglob("*.rows")):
        assert first.poll() is None
        time.sleep(0.01)
    second = start("generate", engine=engine)
    (code, _), (late, told) = end(first), end(second)
    assert (code, late) == (0, 0)
    rows = tables.read("generations", STAGES["generate"][1]).height
    assert kept_rows() == rows
    assert "another run makes these rows; waiting for it" in told
    assert f"{rows}/{rows} rows ({rows} reused)" in told


def test_a_run_that_waits_takes_over_from_one_that_dies(folder: Path, engine: str) -> None:
    STAGES["generate"][1].unlink()
    first = start("generate", "slowly:20", engine)
    while not list(Path(".tsr").rglob("*.rows")):
        time.sleep(0.01)
    second = start("generate", engine=engine)
    assert second.stderr is not None
    assert any("waiting for it" in line for line in iter(second.stderr.readline, "")), "it did not wait"
    first.kill()
    end(first)
    code, told = end(second)
    assert code == 0, told
    assert is_whole("generate")


def test_a_full_disk_is_one_line_and_loses_nothing(folder: Path, engine: str) -> None:
    """On a real file system of three pages (two hold the notes for `tsr gc`), in a mount namespace of its own."""
    small, alone = folder / "small", ["unshare", "--mount", "--map-root-user"]
    small.mkdir()
    if subprocess.run(
        [*alone, "mount", "-t", "tmpfs", "none", str(small)], capture_output=True, check=False
    ).returncode:
        pytest.skip("this machine lets nobody mount a file system")
    STAGES["generate"][1].unlink()
    words = " ".join([sys.executable, str(FAULTY), "none", engine, *command("generate", "M0.r0")])
    inside = f"mount -t tmpfs -o size=12k none {small} && {words}; code=$?; cp -r {small} .tsr; exit $code"
    env = os.environ | {"PYTHONPATH": str(REPO), "TSR_STORE": str(small)}
    done = subprocess.run([*alone, "bash", "-c", inside], capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 2, done.stderr
    told = [line for line in done.stderr.splitlines() if line]
    assert len(told) == 1, done.stderr
    assert told[0].startswith("tsr: ")
    assert "No space left on device" in told[0]
    sound = kept_rows()
    code, told_again = end(start("generate", engine=engine))
    assert code == 0
    assert sound > 0
    assert f"{sound} reused" in told_again
    assert is_whole("generate")


def test_a_table_that_cannot_be_written_is_one_line(folder: Path) -> None:
    table = tables.read("generations", folder / "whole/generate")
    (folder / f".full.{os.getpid()}.tmp").symlink_to("/dev/full")
    with pytest.raises(TsrError, match="full: cannot be written"):
        tables.write("generations", table, folder / "full")
    assert not (folder / "full").exists()
