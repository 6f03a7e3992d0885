"""A truncated file and a flipped bit in what a stage reads: found and named before it is used.

Size, time and place of a file stay as they were wherever they can, as when a disk does it: DVC then sees nothing.
"""

import hashlib
import os
import random
import signal
from pathlib import Path

import pytest
from broken_project import Broken, Step
from pipeline_file import STAGES
from record import Record, drawn

from stages import rowstore

READERS = [name for name in STAGES if name not in ("base", "prepare")]  # the others read what no stage makes
SEES = ("generate", "judge", "evaluate")


def damage(path: Path, how: str, draw: random.Random) -> None:
    """Cut a file off, or flip one bit of it."""
    whole, there = path.read_bytes(), path.stat()
    at = draw.randrange(len(whole))
    path.chmod(0o644)
    if how == "truncated":
        os.truncate(path, at)
    else:
        with path.open("r+b") as file:
            file.seek(at)
            file.write(bytes([whole[at] ^ 1 << draw.randrange(8)]))
    os.utime(path, ns=(there.st_atime_ns, there.st_mtime_ns))


def inputs(broken: Broken, step: Step) -> dict[Path, str]:
    """File -> output of every file that a step reads and another has made."""
    found = {}
    for out in broken.lock:
        overlaps = [dep for dep in step.deps if f"{out}/".startswith(f"{dep}/") or f"{dep}/".startswith(f"{out}/")]
        if overlaps and (broken.folder / out).exists():
            path = broken.folder / out
            found |= {file: out for file in (sorted(path.rglob("*")) if path.is_dir() else [path]) if file.is_file()}
    return found


def kind_of(path: Path) -> str:
    return "table" if path.suffix == ".parquet" else "model" if "models" in path.parts else "metrics"


@pytest.mark.parametrize("how", ["truncated", "flipped bit"])
@pytest.mark.parametrize("kind", READERS)
def test_damage_is_named_before_it_is_used(broken: Broken, record: Record, kind: str, how: str) -> None:
    step, draw = broken.step(kind), drawn("damage", kind, how)
    files = inputs(broken, step)
    for what in sorted({kind_of(path) for path in files}):
        path = draw.choice(sorted(path for path in files if kind_of(path) == what))
        kept = path.read_bytes()
        damage(path, how, draw)
        broken.forget()
        try:
            with record.fault(how, f"{what} read by {kind}"):
                code, told = broken.start(step).ended()
                assert code == 2, (told, path)
                lines = [line for line in told.splitlines() if line]
                assert len(lines) == 1, told
                assert str(path.relative_to(broken.folder)) in lines[0]
                assert hashlib.md5(kept, usedforsecurity=False).hexdigest() in lines[0]  # its own, in folders too
                broken.check(step)
        finally:
            path.write_bytes(kept)
        broken.run(step)


@pytest.mark.parametrize("how", ["truncated", "flipped bit"])
@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.pt", "trainer_state.json", "sealed.json"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_taken(
    broken: Broken, record: Record, file: str, how: str
) -> None:
    step, draw = broken.step("sft"), drawn("checkpoint", file, how)
    broken.forget()
    assert broken.start(step, {"at": ["row", 57]}).wait() == -signal.SIGKILL
    (path,) = (broken.folder / ".tsr/training").glob(f"*/checkpoint-50/{file}")
    damage(path, how, draw)
    with record.fault(how, "checkpoint read by sft"):
        code, told = broken.start(step).ended()
        assert code == 0, told
        assert f"tsr: {path.parent}: " in told or f"tsr: {path.parent.relative_to(broken.folder)}: " in told, told
        assert "; it is removed\n" in told
        assert "(40 reused)" in told
        broken.check(step)


@pytest.mark.parametrize("how", ["truncated", "flipped bit"])
@pytest.mark.parametrize("kind", SEES)
def test_a_damaged_shard_is_named_and_its_rows_are_made_again(
    broken: Broken, record: Record, kind: str, how: str
) -> None:
    step, draw = broken.step(kind), drawn("shard", kind, how)
    for _ in range(2):
        broken.forget()
        broken.run(step)
        shards = sorted((broken.folder / ".tsr/rows").rglob("*.rows"))
        shard = draw.choice(shards)
        damage(shard, how, draw)
        torn = [line for line in shard.read_bytes().splitlines(keepends=True) if not rowstore._is_sound(line)]
        broken.remove(step)
        with record.fault(how, f"shard read by {kind}"):
            code, told = broken.start(step).ended()
            assert code == 0, told
            assert (f"{shard.name}: {len(torn)} torn or damaged rows are made again" in told) == bool(torn), told
            broken.check(step)


def test_dvc_makes_a_damaged_output_anew(broken: Broken, record: Record) -> None:
    """Where the time has changed too, DVC sees it by itself."""
    step = broken.step("score")
    (out,) = step.outs
    assert broken.lock[out] == broken.whole[out]
    with record.fault("flipped bit", "an output, seen by dvc"):
        damage(broken.folder / out, "flipped bit", drawn("dvc"))
        os.utime(broken.folder / out)
        assert step.name in broken.project.changed()
        broken.project.run("dvc", "repro", "-q", "-s", step.name)
        broken.check(step)
