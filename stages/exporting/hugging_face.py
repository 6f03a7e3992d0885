"""A Hugging Face dataset folder of pairs files: the tables as they are, a card, and where the rows come from.

The folder is laid out as `data/` is, so it is also a folder for `tsr --data`. Each pairs file is a config of its name;
tables that were asked for besides are a config each, and joined to the pairs by ids.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from stages import paths, tables
from stages.errors import TsrError
from stages.exporting import card
from stages.exporting.folder import made_by, new_folder, write_provenance
from stages.exporting.provenance import Lock, behind, checked_md5, import_note, plan_row, read_lock
from stages.progress import progress

EXTRA = ("prompts", "generations", "judgments", "scores", "dropped")


@dataclass(frozen=True)
class Pairs:
    """One pairs file with what is known of it; `row` and `behind` are None for pairs made elsewhere."""

    name: str
    pairs: pl.DataFrame
    dropped: pl.DataFrame
    row: dict[str, Any] | None
    behind: dict[str, Any] | None


def export(names: Sequence[str], target: Path, *, extra: Sequence[str], licence: str, replace: bool) -> None:
    """Write the dataset folder `target`. Raises TsrError, with nothing written, where a table is not in order."""
    _check_names(names, extra)
    lock = read_lock()
    pairs = [_read(lock, name) for name in names]
    files = {table: _files(lock, table, names) for table in extra}
    every = [("pairs", paths.pairs(name)) for name in names] + [(t, path) for t in files for path in files[t]]
    with new_folder(target, replace=replace) as folder:
        md5 = {}
        with progress("export", len(every), "tables") as advance:
            for table, path in every:
                copy = folder / path.relative_to(paths.data())
                copy.parent.mkdir(parents=True, exist_ok=True)
                tables.read(table, path)
                shutil.copyfile(path, copy)
                md5[copy.relative_to(folder).as_posix()] = checked_md5(lock, path, copy)
                advance()
        told = _provenance(lock, pairs, md5)
        write_provenance(told, folder)
        inside = {table: [path.relative_to(paths.data()).as_posix() for path in files[table]] for table in files}
        card.write([(p.name, p.pairs, p.dropped) for p in pairs], inside, told, licence, folder)
    rows = sum(p.pairs.height for p in pairs)
    print(f"export: {rows} pairs of {', '.join(names)} in {target}, {len(every)} tables")
    if licence == card.UNKNOWN:
        print("export: the card says that the licence is unknown; name it with --license")


def _check_names(names: Sequence[str], extra: Sequence[str]) -> None:
    for given in (names, extra):
        if twice := [name for name in given if given.count(name) > 1]:
            raise TsrError(f"export: {twice[0]!r} is named twice")
    if wrong := [table for table in extra if table not in EXTRA]:
        raise TsrError(f"export: --with {wrong[0]!r}: expected some of {', '.join(EXTRA)}")
    if taken := [name for name in names if name in EXTRA]:
        raise TsrError(f"export: pairs {taken[0]!r} would share a config with the table of that name")


def _read(lock: Lock, name: str) -> Pairs:
    path = paths.pairs(name)
    pairs, dropped = tables.read("pairs", path), tables.read("dropped", paths.dropped(name))
    return Pairs(name, pairs, dropped, plan_row(name), behind(lock, path))


def _files(lock: Lock, table: str, names: Sequence[str]) -> list[Path]:
    """Return the files of a table that the pairs rest on, by dvc.lock; all files of a dataset that is not in it."""
    if table == "dropped":
        return [paths.dropped(name) for name in names]
    folder, found = paths.data() / table, set()
    for name in names:
        stages = lock.upstream(paths.pairs(name))
        read = {dep for stage in stages for dep in stage.deps} if stages else set(folder.rglob("*.parquet"))
        found |= {path for path in read if path.suffix == ".parquet" and path.is_relative_to(folder)}
    if not found:
        raise TsrError(f"{folder}: no table of {table} that the pairs rest on; leave --with {table} out")
    return sorted(found)


def _provenance(lock: Lock, pairs: Sequence[Pairs], md5: dict[str, str]) -> dict[str, Any]:
    return {
        "made_by": made_by(),
        "format": "hf",
        "dvc_lock_md5": lock.md5 if any(p.behind for p in pairs) else None,
        "files": md5,
        "imported": import_note(),
        "pairs": {p.name: {"plan": p.row, "rests_on": p.behind} for p in pairs},
    }
