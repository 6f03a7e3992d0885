"""Where tables come from, as dvc.lock and the plan have it.

What is told holds wherever the tables are: no clock, no host, no path outside the repository. Settings of engines are
left out for that (`backends` names servers); the column `backend` says which engine completed a row.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stages import lockfile, paths, plan
from stages.errors import TsrError


@dataclass(frozen=True)
class Lock:
    """dvc.lock with its stages found by what they write; empty where there is none, as beside tables sent alone."""

    md5: str | None = None
    by_out: dict[Path, lockfile.Ran] = field(default_factory=dict)
    tables: dict[Path, str] = field(default_factory=dict)  # md5 of each, as written or, in a folder, as read

    def stage_of(self, path: Path) -> lockfile.Ran | None:
        """Return the stage that wrote a table or the folder it lies in, or None for one from elsewhere."""
        return next((self.by_out[place] for place in (path, *path.parents) if place in self.by_out), None)

    def upstream(self, path: Path) -> list[lockfile.Ran]:
        """Return the stage that wrote a table and the stages of tables that it rests on, weights left out."""
        found: dict[str, lockfile.Ran] = {}
        ahead = [path]
        while ahead:
            stage = self.stage_of(ahead.pop())
            if stage and stage.stage not in found:
                found[stage.stage] = stage
                ahead += [dep for dep in stage.deps if _is_table(dep)]
        return [found[name] for name in sorted(found)]


def _is_table(path: Path) -> bool:
    return path.parts[0] == "data" and path.suffix == ".parquet"


def read_lock() -> Lock:
    """Return dvc.lock of the current folder."""
    if not lockfile.LOCK_FILE.is_file():
        return Lock()
    stages = lockfile.ran().values()
    outs = {out.path: (stage, out.md5) for stage in stages for out in stage.outs}
    read = {path: md5 for stage in stages for path, md5 in stage.deps.items() if _is_table(path)}
    written = {path: md5 for path, (_, md5) in outs.items()}
    by_out = {path: stage for path, (stage, _) in outs.items()}
    return Lock(lockfile.actual_md5(lockfile.LOCK_FILE), by_out, read | written)


def checked_md5(lock: Lock, path: Path, copy: Path) -> str:
    """Return the md5 of a table's copy. Raises TsrError where dvc.lock says another of the table."""
    actual = lockfile.actual_md5(copy)
    if (wanted := lock.tables.get(path, actual)) != actual:
        raise TsrError(f"{path}: md5 {actual}; {lockfile.LOCK_FILE} says {wanted}: run `dvc repro` or `dvc checkout`")
    return actual


def behind(lock: Lock, path: Path) -> dict[str, Any] | None:
    """Return what a table rests on: stages with their tables' md5, params, weights; None for one from elsewhere."""
    stages = lock.upstream(path)
    if not stages:
        return None
    weights = {dep.name: md5 for stage in stages for dep, md5 in stage.deps.items() if dep.parent == paths.MODELS}
    return {
        "stages": {stage.stage: {str(out.path): out.md5 for out in stage.outs} for stage in stages},
        "params": _params(stages),
        "weights": weights,
    }


def _params(stages: list[lockfile.Ran]) -> dict[str, Any]:
    """Return the params in force. Raises TsrError where stages ran under different ones: the tables are a mixture."""
    found: dict[str, tuple[Any, str]] = {}
    for stage in stages:
        for key, value in stage.params.items():
            if key.endswith(".backends"):
                continue
            known, where = found.setdefault(key, (value, stage.stage))
            if known != value:
                raise TsrError(
                    f"{lockfile.LOCK_FILE}: {key} differs between {where} and {stage.stage}: run `dvc repro`"
                )
    return {key: value for key, (value, _) in found.items()}


def plan_row(name: str) -> dict[str, Any] | None:
    """Return the plan's row of a training in this project's own tables, else None."""
    if not paths.of_the_plan() or not plan.PLAN_FILE.is_file():
        return None
    row: dict[str, Any] | None = plan.read()["learns"].get(name)
    return row


def import_note() -> dict[str, Any] | None:
    """Return what `tsr import` left beside the tables of an imported dataset, or None."""
    path = paths.data() / "import.json"
    if not path.is_file():
        return None
    try:
        note: dict[str, Any] = json.loads(path.read_text())
    except (ValueError, UnicodeDecodeError) as error:
        raise TsrError(f"{path}: not valid JSON: {error}") from error
    return note
