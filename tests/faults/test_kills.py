"""kill -9 of every stage at drawn moments: a rerun ends in the same bytes, and asks for no finished row again."""

import os
import random
import signal
import time
from pathlib import Path

import pytest
from broken_project import Broken, Step
from pipeline_file import STAGES
from record import Record, drawn

from stages import ids, rowstore

KILLS = max(len(STAGES), int(os.environ.get("TSR_FAULTS_KILLS", "130")))
COSTLY = "sft"  # seconds, not tenths
ASKS = ("generate", "judge", "evaluate")  # stages that keep rows
TRIES = 8


def shares() -> dict[str, int]:
    """How often each kind of stage is killed: once, and the rest at random."""
    found, draw = dict.fromkeys(STAGES, 1), drawn("shares")
    for _ in range(KILLS - len(STAGES)):
        kind = draw.choice([name for name in STAGES if name != COSTLY or found[name] < KILLS // 15])
        found[kind] += 1
    return found


def files(broken: Broken, step: Step) -> dict[str, str]:
    """The hash of every file of a step's outputs; what a kill left beside is no output."""
    found = {}
    for out in step.outs:
        path = broken.folder / out
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and not any(part.endswith(".tmp") for part in file.parts):
                found[str(file.relative_to(broken.folder))] = ids.file_sha256(file)
    return found


def kept(folder: Path) -> list[str]:
    """The keys of all sound lines in the row store."""
    shards = (folder / ".tsr/rows").rglob("*.rows")
    lines = [line for shard in shards for line in shard.read_bytes().splitlines(keepends=True)]
    return [line[9:41].decode() for line in lines if rowstore._is_sound(line)]


def killed(broken: Broken, step: Step, draw: random.Random) -> str:
    """Start a step and kill it at a drawn moment, drawn anew until it dies of one; return which."""
    moments = dict(step.moments)
    rows = ["row", "torn"] if step.kind in ASKS else ["row"]
    ways = ["file", "file", "time", *(rows if "row" in moments else [])]
    for _ in range(TRIES):
        way = draw.choice(ways)
        if way == "time":
            at = draw.random() * step.seconds
            child = broken.start(step)
            if not child.ended_within(at):
                child.kill()
        else:
            at = draw.randint(1, moments["row" if way == "torn" else way])
            child = broken.start(step, {"torn": at} if way == "torn" else {"at": [way, at]})
        status = child.wait()
        if status == -signal.SIGKILL:
            return f"{way} {at:.3g}"
        assert status == 0, child.told
        broken.remove(step)
        broken.forget()
    pytest.fail(f"{step.name}: was never killed in {TRIES} tries")


@pytest.mark.parametrize("kind", STAGES)
def test_a_killed_stage_that_runs_again_makes_the_same_bytes(broken: Broken, record: Record, kind: str) -> None:
    draw = drawn("kill", kind)
    steps = [step for step in broken.steps if step.kind == kind]
    for number in range(shares()[kind]):
        step = steps[number % len(steps)] if number < len(steps) else draw.choice(steps)
        whole = files(broken, step)
        broken.forget()
        if draw.random() < 0.7:  # as under DVC; else as by hand, over what is there
            broken.remove(step)
        with record.fault("kill -9", kind):
            moment = killed(broken, step, draw)
            halves = [name for name, md5 in files(broken, step).items() if md5 != whole.get(name)]
            assert not halves, f"{step.name} at {moment}: {halves[0]} is no whole file"
            before = kept(broken.folder)
            broken.run(step)
            assert files(broken, step) == whole, f"{step.name} at {moment}"
            after = kept(broken.folder)
            assert len(after) == len(set(after)), f"{step.name} at {moment}: a finished row was asked for again"
            assert set(before) <= set(after)
            record.rows["kept through kills"] += len(before)


def test_a_run_that_is_killed_again_and_again_comes_to_its_end(broken: Broken, record: Record) -> None:
    """Each start comes ten rows further, or more; none before is paid for twice."""
    step = max((step for step in broken.steps if step.kind == "generate"), key=lambda one: dict(one.moments)["row"])
    broken.forget()
    broken.remove(step)
    before = 0
    while True:
        at = max(10, dict(step.moments)["row"] // 8)
        child = broken.start(step, {"at": ["row", at]})
        if child.wait() == 0:
            break
        with record.fault("kill -9", "generate"):
            assert child.wait() == -signal.SIGKILL, child.told
            assert len(kept(broken.folder)) >= before + at, "no progress between two kills"
        before = len(kept(broken.folder))
    broken.check(step)
    assert len(kept(broken.folder)) == len(set(kept(broken.folder)))


def test_a_training_that_is_killed_goes_on_from_its_checkpoint(broken: Broken, record: Record) -> None:
    step = broken.step("sft")
    broken.forget()
    with record.fault("kill -9", "sft"):
        assert broken.start(step, {"at": ["row", 57]}).wait() == -signal.SIGKILL
        start = time.monotonic()
        code, told = broken.start(step).ended()
        assert code == 0, told
        assert "(50 reused)" in told
        assert time.monotonic() - start < 120
        broken.check(step)
