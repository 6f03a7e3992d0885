"""A disk that is full, at every writer: one clear line, exit code 2, the former files whole, no half file beside.

On a real file system, mounted in a namespace of its own and filled up to a drawn number of free bytes.
"""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from broken_project import Broken
from pipeline_file import STAGES
from record import Record, drawn
from zygote import Zygote

from stages import ids

TOOLS = {
    "plan": ("plan",),
    "import": ("import", "own", "outputs.json", "--mapping", "alpaca_eval", "--replace"),
    "export": ("export", "tsr-1", "--to", "dataset", "--replace", "--with", "prompts,generations,judgments,scores"),
    "export alpaca_eval": ("export", "M0", "--format", "alpaca_eval", "--split", "eval", "--to", "best", "--replace"),
    "tournament": ("tournament", "M0", "tsr-1", "spin-1"),
    "sql": ("sql", "select * from pairs order by all", "--out", "pairs.csv", "--replace"),
    "claims": ("claims", "--seeds", "1", "--arms", "sft", "--workers", "1", "--keep"),
}
WRITERS = [*STAGES, *TOOLS]
SHARES = (0.0, 0.3, 0.8)  # of what a writer wrote last time: how much is free


class Disk:
    """A disk of its own with the small project on it."""

    def __init__(self, zygote: Zygote, place: Path) -> None:
        self.zygote, self.place = zygote, place
        self.seen = Path(f"/proc/{zygote.process.pid}/root{place}")  # from outside its namespace
        self.folder = self.seen / "run"

    def run(self, *words: str, **env: str) -> tuple[int, str]:
        """Run `tsr WORDS` on it."""
        return self.zygote.run(*words, folder=self.place / "run", **env)

    def fill(self, free: int) -> None:
        """Leave so many bytes free."""
        self.empty()
        there = os.statvfs(self.seen)
        with (self.seen / "ballast").open("wb") as ballast:
            os.posix_fallocate(ballast.fileno(), 0, max(1, there.f_bavail * there.f_bsize - free))

    def empty(self) -> None:
        """Make room again."""
        (self.seen / "ballast").unlink(missing_ok=True)

    def files(self) -> dict[str, str]:
        """The hash of every file that is no finished row."""
        found = {}
        for path, folders, names in os.walk(self.folder):
            folders[:] = [name for name in folders if name not in (".tsr", ".git", "__pycache__")]
            for file in (Path(path, name) for name in names):
                found[str(file.relative_to(self.folder))] = ids.file_sha256(file)
        return found


@pytest.fixture(scope="module")
def disk(once_whole: Broken, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Disk]:
    once_whole.mend()
    place = tmp_path_factory.mktemp("disk")
    zygote = Zygote(tmp_path_factory.mktemp("logs"), once_whole.folder, alone=True)
    if zygote.shell("mount", "-t", "tmpfs", "-o", "size=300m", "none", str(place)):
        zygote.close()
        pytest.skip("this machine lets nobody mount a file system")
    made = Disk(zygote, place)
    shutil.copytree(once_whole.folder, made.folder, ignore=shutil.ignore_patterns(".tsr"))
    rows = [{"instruction": f"question {n}", "output": f"answer {n}", "generator": "g"} for n in range(200)]
    (made.folder / "outputs.json").write_text(json.dumps(rows))
    yield made
    zygote.close()


def wrote(disk: Disk, start: int) -> int:
    """How many bytes the files have that were written since."""
    paths = [disk.folder / name for name in disk.files()]
    return sum(path.stat().st_size for path in paths if path.stat().st_mtime_ns >= start)


@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk_is_one_line_and_leaves_what_was_there(
    disk: Disk, broken: Broken, record: Record, writer: str
) -> None:
    env = {}
    if writer in STAGES:
        step = broken.step(writer)
        words, env = step.words, {"DVC_STAGE": step.name}
    else:
        words = TOOLS[writer]
    disk.empty()
    mark = disk.seen / "mark"
    mark.touch()
    code, told = disk.run(*words, **env)
    assert code == 0, told
    whole, size = disk.files(), wrote(disk, mark.stat().st_mtime_ns)
    assert size > 0
    for share in SHARES:
        shutil.rmtree(disk.folder / ".tsr/rows", ignore_errors=True)
        free = int(size * share * drawn("disk", writer, share).uniform(0.5, 1.0))
        while True:  # where so little room is enough after all, there is less
            disk.fill(free)
            code, told = disk.run(*words, **env)
            disk.empty()
            if code or not free:
                break
            free //= 3
        with record.fault("disk full", writer):
            lines = [line for line in told.splitlines() if line.startswith("tsr: ")]
            assert code == 2, f"{free} bytes free, exit code {code}: {told}"
            assert "Traceback" not in told, f"{free} bytes free: {told}"
            assert len(lines) == 1 and lines[0] == told.splitlines()[-1], told
            assert "No space left on device" in lines[0], told
            now = disk.files()
            assert now == whole, f"{free} bytes free: {sorted(dict(set(now.items()) ^ set(whole.items())))}"
            code, told = disk.run(*words, **env)
            assert code == 0, told
            assert disk.files() == whole
