"""The clock set back: nothing is skipped that should run, nothing runs again that need not, results are the same."""

import os
from pathlib import Path

import pytest
from broken_project import Broken
from pipeline_file import STAGES
from record import Record

YEAR = 365 * 86400


def move(folder: Path, seconds: int) -> None:
    """Let every file of a project be from another time, as when the clock was wrong before, or is now."""
    for path in folder.rglob("*"):
        if ".git" not in path.parts and path.is_file():
            there = path.stat()
            os.utime(path, (there.st_atime + seconds, there.st_mtime + seconds))


@pytest.mark.parametrize("kind", STAGES)
def test_a_stage_under_a_clock_that_is_behind_makes_the_same_bytes(broken: Broken, record: Record, kind: str) -> None:
    """Its inputs are from the future, and so are rows and checkpoints that a kill has left."""
    step = broken.step(kind)
    broken.forget()
    broken.remove(step)
    with record.fault("clock set back", kind):
        moments = dict(step.moments)
        kill = {"at": ["row", moments["row"] // 2 + 1]} if "row" in moments else {"at": ["file", moments["file"]]}
        broken.start(step, kill).wait()
        code, told = broken.start(step, {"clock": YEAR}).ended()
        assert code == 0, told
        broken.check(step)


@pytest.mark.parametrize("seconds", [YEAR, -YEAR])
def test_dvc_runs_what_changed_and_nothing_else(broken: Broken, record: Record, seconds: int) -> None:
    assert broken.lock
    with record.fault("clock set back", "dvc"):
        move(broken.folder, seconds)
        assert broken.project.changed() == set()
        strategy = broken.folder / "stages/sql/strategies/spin.sql"
        kept, there = strategy.read_text(), strategy.stat()
        strategy.write_text(kept + "-- edited\n")
        os.utime(strategy, (there.st_atime - YEAR, there.st_mtime - YEAR))
        changed = broken.project.changed()
        strategy.write_text(kept)
        assert "pair@spin-1" in changed
        assert not {name for name in changed if name.startswith(("generate", "judge", "sft"))}
