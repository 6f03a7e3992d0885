"""Rows of a data set: from the Hugging Face hub by a pinned revision, or from local files of the same schema."""

import glob
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import duckdb

from stages.errors import TsrError
from stages.hub import out_of_reach
from stages.sqlrun import complaint

_COMMIT = re.compile(r"[0-9a-f]{40}")
_ON_HUB = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_ENDINGS = (".parquet", ".jsonl", ".jsonl.gz", ".ndjson", ".json")


@dataclass(frozen=True)
class Wanted:
    """Columns of a data set with their DuckDB types, JSON for what is nested; `needed` must hold something.

    Of several names in one entry of `needed`, one will do.
    """

    columns: dict[str, str]
    needed: tuple[tuple[str, ...], ...]

    def words(self) -> str:
        """Return the columns that are needed, for messages."""
        return ", ".join(" or ".join(names) for names in self.needed)


def load(db: duckdb.DuckDBPyConnection, view: str, given: list[str], wanted: Wanted) -> None:
    """Make the rows of all of `given` the view `view` of the connection; `place` says which of them a row is from.

    Each is a file, a folder of files, or `NAME@COMMIT` on the hub. No table is read into memory. Raises TsrError naming
    what cannot be had, has no rows or lacks a column.
    """
    parts = [
        _checked(relation, wanted, where).project(
            duckdb.ConstantExpression(place).alias("place"), *map(duckdb.ColumnExpression, wanted.columns)
        )
        for place, one in enumerate(given)
        for where, relation in _relations(db, one, wanted)
    ]
    reduce(duckdb.DuckDBPyRelation.union, parts).create_view(view, replace=True)


def _relations(
    db: duckdb.DuckDBPyConnection, given: str, wanted: Wanted
) -> Iterator[tuple[str, duckdb.DuckDBPyRelation]]:
    """Yield what to call each part of a data set, and its rows."""
    name, at, commit = given.partition("@")
    if Path(given).exists():
        yield from ((str(path), _of_file(db, path, wanted)) for path in _files(Path(given)))
    elif not _ON_HUB.fullmatch(name):
        raise TsrError(f"{given}: no such file or folder; expected one, or NAME@COMMIT of a data set on the hub")
    elif not _COMMIT.fullmatch(commit):
        told = f"{commit!r} is no pinned revision" if at else "no such file or folder, and no revision"
        raise TsrError(f"{given}: {told}; expected {name}@COMMIT, a commit of 40 hex digits")
    else:
        yield given, db.from_arrow(_from_hub(name, commit))


def _from_hub(name: str, commit: str) -> Any:
    """Return all splits of a data set on the hub as one memory-mapped Arrow table. Code in it is never run.

    Where the hub cannot be reached, the library takes the latest commit that its cache holds, whichever was asked for:
    what is not of the pinned one is refused.
    """
    import datasets

    try:
        if not _whole(name, commit) and (lost := out_of_reach()):
            raise LookupError(lost)
        builder = _kept(name, commit) or datasets.load_dataset_builder(name, revision=commit)
        if builder.hash != commit:
            raise LookupError(f"it is out of reach, and the cache holds {builder.hash} in place of this commit")
        builder.download_and_prepare()
        loaded = builder.as_dataset()
        return datasets.concatenate_datasets([loaded[split] for split in sorted(loaded)]).data.table
    except Exception as error:  # whatever the hub, the network or the cache may raise
        told = (str(error).strip().splitlines() or ["no reason given"])[0][:200]
        raise TsrError(
            f"{name}@{commit}: cannot be had from the hub: {told}; expected it there or in the cache, "
            "or a file or folder of the same schema in its place"
        ) from error


def _kept(name: str, commit: str) -> Any:
    """Return the builder of a commit that is in the cache, or None."""
    from datasets.packaged_modules.cache.cache import Cache

    folder = in_cache(name, commit)
    if folder is None:
        return None
    config, version, _ = folder.parts[-3:]
    own = name.rpartition("/")[2]
    return Cache(dataset_name=own, repo_id=name, config_name=config, version=version, hash=commit)


def in_cache(name: str, commit: str) -> Path | None:
    """Return the folder in which the library datasets keeps a whole commit; None where there is none, or several.

    A part of a data set, loaded by the name of some of its files, lies in a folder that is not called as its
    configuration is.
    """
    whole = _whole(name, commit)
    return whole[0] if len(whole) == 1 else None


def _whole(name: str, commit: str) -> list[Path]:
    from datasets import config
    from datasets.naming import camelcase_to_snakecase

    owner, _, own = name.partition("/")
    kept = Path(config.HF_DATASETS_CACHE).expanduser() / f"{owner}___{camelcase_to_snakecase(own)}"
    told = {info.parent: json.loads(info.read_text()) for info in kept.glob(f"*/*/{commit}/dataset_info.json")}
    return [folder for folder, said in told.items() if said.get("config_name") == folder.parts[-3]]


def _files(path: Path) -> list[Path]:
    found = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.name.endswith(_ENDINGS))
    if not found:
        raise TsrError(f"{path}: no files in this folder that end in {', '.join(_ENDINGS)}")
    return found


def _of_file(db: duckdb.DuckDBPyConnection, path: Path, wanted: Wanted) -> duckdb.DuckDBPyRelation:
    if not path.name.endswith(_ENDINGS):
        raise TsrError(f"{path}: unknown ending; expected {', '.join(_ENDINGS)}")
    if path.stat().st_size == 0:
        raise TsrError(f"{path}: no rows")
    name = glob.escape(str(path))
    try:
        if path.suffix == ".parquet":
            return db.read_parquet(name, hive_partitioning=False)
        return db.read_json(name, columns=wanted.columns)
    except duckdb.Error as error:
        raise TsrError(f"{path}: cannot be read: {complaint(error)}") from error


def _checked(relation: duckdb.DuckDBPyRelation, wanted: Wanted, where: str) -> duckdb.DuckDBPyRelation:
    """Return the wanted columns in their types, null where there is no such column.

    Raises TsrError if there are no rows, or a column that is needed holds nothing in any of them.
    """
    held = set(relation.columns)
    columns = [
        (duckdb.ColumnExpression(name) if name in held else duckdb.ConstantExpression(None)).cast(kind).alias(name)
        for name, kind in wanted.columns.items()
    ]
    rows = relation.project(*columns)
    counts = [duckdb.FunctionExpression("count", duckdb.ColumnExpression(name)) for name in wanted.columns]
    try:
        total, *filled = rows.aggregate([duckdb.FunctionExpression("count_star"), *counts]).fetchall()[0]
    except duckdb.Error as error:
        raise TsrError(f"{where}: cannot be read: {complaint(error)}") from error
    if not total:
        raise TsrError(f"{where}: no rows")
    there = {name for name, count in zip(wanted.columns, filled, strict=True) if count}
    for one_of in wanted.needed:
        if not there.intersection(one_of):
            names = " or ".join(map(repr, one_of))
            raise TsrError(
                f"{where}: column {names} is missing, or null in all of {total} rows; expected {wanted.words()}"
            )
    return rows
