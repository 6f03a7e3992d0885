"""DuckDB on views over a dataset's files: what `tsr sql`, `tsr query` and `tsr show` look at. Nothing can be written.

`stages/sql/views/all.sql` opens the same views in any DuckDB.
"""

import glob
import os
import secrets
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import TypeVar

import duckdb
import polars as pl

from stages import paths, tables
from stages.errors import TsrError
from stages.sqlrun import SQL, complaint, fetch, refuse_writing

VIEWS = SQL / "views"
PARTS = ("files", "rounds", "candidates", "pairs", "models")  # each a file, over the views of files.sql
TABLES = ("prompts", "generations", "judgments", "scores", "pairs", "dropped", "measures", "games", "benchmarks")
T = TypeVar("T")


def open_views(beside: Sequence[Path] = ()) -> duckdb.DuckDBPyConnection:
    """Return a DuckDB in memory with all views over the dataset in `paths.data()`; a table without files is empty.

    It reads that folder, what links in it lead to, and the folders `beside`, and nothing else on disk or in the net: a
    query may be somebody else's.
    Raises TsrError for a folder that is not there or has no table at all, and for a file that is no table.
    """
    root = paths.data()
    if not root.is_dir():
        raise TsrError(f"{root}: no such folder; expected the tables of a dataset")
    found = [(table, path) for table in TABLES for path in _files(root / table)]
    if not found:
        raise TsrError(f"{root}: no tables yet; `dvc repro` makes them, `dvc pull` fetches them")
    for folder in beside:
        if not folder.is_dir():
            raise TsrError(f"--read {folder}: no such folder")
    for table, path in found:
        tables.check_file(table, path)
    # Made when it is needed, and gone with the connection. DuckDB lets queries read it, so it is a folder of its own.
    spilled = Path(tempfile.gettempdir()) / f"tsr-{secrets.token_hex(8)}"
    db = duckdb.connect(config={"temp_directory": str(spilled)})
    db.execute("set variable data = $data", {"data": glob.escape(str(root))})
    for name in PARTS:
        _run(db, VIEWS / f"{name}.sql")
    _shut_in(db, [root, *beside], [path for _, path in found])
    return db


def _shut_in(db: duckdb.DuckDBPyConnection, folders: list[Path], files: list[Path]) -> None:
    """Let a connection read these folders and files and nothing else, for good. A link counts as what it leads to."""
    whole = [folder.resolve() for folder in folders]
    linked = [file for file in files if not any(file.resolve().is_relative_to(folder) for folder in whole)]
    linked += [Path(plan) for (plan,) in db.sql("select getvariable('plan')").fetchall()]
    for setting, allowed in (("allowed_directories", folders), ("allowed_paths", linked)):
        names = {
            name for path in allowed for name in (str(path), glob.escape(str(path)))
        }  # patterns are held to it too
        db.execute("set variable allowed = $allowed", {"allowed": sorted(names)})
        db.execute(f"set {setting} = getvariable('allowed')")
    db.execute("set enable_external_access = false")
    db.execute("set python_enable_replacements = false")
    db.execute("set allow_persistent_secrets = false")
    db.execute("set autoinstall_known_extensions = false")
    db.execute("set lock_configuration = true")


def _files(folder: Path) -> Iterator[Path]:
    """Yield what is called a Parquet file in a folder and those in it. Raises TsrError where it cannot be read."""

    def refuse(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            raise TsrError(f"{error.filename}: cannot be read: {error.strerror}") from error

    for place, folders, files in os.walk(folder, onerror=refuse, followlinks=True):
        yield from (Path(place, name) for name in sorted([*folders, *files]) if name.endswith(".parquet"))


def _run(db: duckdb.DuckDBPyConnection, path: Path) -> None:
    try:
        db.execute(path.read_text())
    except duckdb.Error as error:
        raise TsrError(f"{path}{complaint(error, where=True)}") from error


def ask(db: duckdb.DuckDBPyConnection, text: str, where: str) -> pl.DataFrame | None:
    """Run statements that only read; return the last one's rows, None where there is none.

    Raises TsrError naming `where` and the line, for what DuckDB refuses and for a statement that would write.
    """
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise TsrError(f"{where}: is no UTF-8 text")
    rows, before, at = pl.DataFrame(), 0, 0
    try:
        statements = db.extract_statements(text)
        for statement in statements:
            refuse_writing(statement, where)
        for statement in statements:
            at = text.index(statement.query, at)
            before = text.count("\n", 0, at)
            at += len(statement.query)
            rows = interruptible(db, lambda query=statement.query: fetch(db, query, {}))  # type: ignore[misc]
    except (duckdb.Error, pl.exceptions.PolarsError) as error:
        raise TsrError(f"{where}{complaint(error, where=True, before=before)}") from error
    return rows if rows.width else None


def interruptible(db: duckdb.DuckDBPyConnection, work: Callable[[], T]) -> T:
    """Return what `work` returns; Ctrl-C ends the query that it runs, which DuckDB by itself does not always see."""
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(work)
        try:
            while not wait([future], timeout=0.1).done:  # a signal that comes to DuckDB's threads wakes nobody
                pass
            return future.result()
        except KeyboardInterrupt:
            db.interrupt()
            raise
