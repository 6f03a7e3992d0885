"""Finished tasks, kept by the hash of all that they rest on: no seed and no setting pays for the same work twice.

`.tsr/claims/kept/<hash>/` holds what a task made, under the paths it made it at, and `task.json`: what it cost. Files
are hard links: stages replace their outputs and never write into them.
"""

import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from stages.files import replacing_folder
from stages.ids import content_id, file_sha256

NOTE = "task.json"


@dataclass(frozen=True)
class Cost:
    """What a task took: seconds by the clock, and of processor time of this process."""

    seconds: float
    cpu_seconds: float


class Kept:
    """The kept tasks of a project."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def cost(self, key: str) -> Cost | None:
        """Return what a kept task took; None for one that is not kept."""
        note = self._folder / key / NOTE
        return Cost(**json.loads(note.read_text())["cost"]) if note.is_file() else None

    def restore(self, key: str, outs: Iterable[str], run: Path) -> None:
        """Put a kept task's outputs into a run's folder."""
        for out in outs:
            _link(self._folder / key / out, run / out)

    def keep(self, key: str, name: str, outs: Iterable[str], run: Path, cost: Cost) -> None:
        """Keep what a task has made in a run's folder."""
        with replacing_folder(self._folder / key, replace=True) as beside:
            for out in outs:
                _link(run / out, beside / out)
            (beside / NOTE).write_text(json.dumps({"task": name, "cost": asdict(cost)}))

    def drop(self, keys: Iterable[str]) -> None:
        """Forget kept tasks."""
        for key in keys:
            shutil.rmtree(self._folder / key, ignore_errors=True)


def _link(source: Path, target: Path) -> None:
    """Put a file or a folder at `target`, in place of what is there, as hard links."""
    if target.is_dir():
        shutil.rmtree(target)
    else:
        target.unlink(missing_ok=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, copy_function=os.link)
    else:
        os.link(source, target)


def hash_of(path: Path) -> str:
    """Return the hash of a file, or of all files in a folder; bytecode does not count."""
    if not path.is_dir():
        return file_sha256(path)
    files = sorted(file for file in path.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    return content_id("folder", [[str(file.relative_to(path)), file_sha256(file)] for file in files])


@cache
def code_hash(path: Path) -> str:
    """Return the hash of code, which does not change while a run goes on."""
    return hash_of(path)
