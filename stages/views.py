"""DuckDB on views over a dataset's files: what `tsr sql`, `tsr query` and `tsr show` look at. Nothing can be written.

`stages/sql/views/all.sql` opens the same views in any DuckDB.
"""

import re
import tempfile
from pathlib import Path

import duckdb
import polars as pl

from stages import paths, tables
from stages.errors import TsrError
from stages.plan import PLAN_FILE
from stages.sqlrun import SQL, complaint, fetch

VIEWS = SQL / "views"
JOINED = ("rounds", "candidates", "pairs", "models")  # each a file of its own, over the views of files.sql
_TABLES = {"made_pairs": "pairs"}  # view -> the table whose files it reads, where the names differ
_FROM_PATH = {"generations": ["split"], "games": ["split"], "judgments": ["model", "split"], "scores": ["split"]}
# What a statement may be: it reads, or it makes something in memory.
_HARMLESS = {"SELECT", "EXPLAIN", "CREATE", "MULTI", "DROP"}


def open_views() -> duckdb.DuckDBPyConnection:
    """Return a DuckDB in memory with all views over the dataset in `paths.data()`; a table without files is empty.

    Raises TsrError for a folder that is not there and for a file that is no table.
    """
    root = paths.data()
    if not root.is_dir():
        raise TsrError(f"{root}: no such folder; expected the tables of a dataset")
    db = duckdb.connect(config={"temp_directory": tempfile.gettempdir()})
    db.execute("set variable data = $data", {"data": str(root)})
    own = root == Path("data") and PLAN_FILE.is_file()
    db.execute("set variable plan = $plan", {"plan": str(PLAN_FILE) if own else "/dev/null"})
    for file in ("files.sql", "beside.sql"):
        for statement in db.extract_statements((VIEWS / file).read_text()):
            _open(db, statement)
    for name in JOINED:
        _run(db, VIEWS / f"{name}.sql")
    db.execute("set allow_persistent_secrets = false")
    db.execute("set autoinstall_known_extensions = false")
    db.execute("set lock_configuration = true")
    return db


def _open(db: duckdb.DuckDBPyConnection, statement: duckdb.Statement) -> None:
    try:
        db.execute(statement)
    except duckdb.IOException as error:
        named = re.search(r"create or replace view (\w+)", statement.query)
        if named is None or "No files found" not in str(error):
            raise TsrError(f"{paths.data()}: {complaint(error)}") from error
        _open_empty(db, named.group(1))
    except duckdb.Error as error:
        raise TsrError(f"{paths.data()}: {complaint(error)}") from error


def _open_empty(db: duckdb.DuckDBPyConnection, view: str) -> None:
    """Put an empty table in the place of a view that has no files."""
    nothing = tables.frame(_TABLES.get(view, view), [])
    from_path = [pl.lit(None, dtype=pl.String).alias(name) for name in _FROM_PATH.get(view, [])]
    db.register(view, nothing.with_columns(from_path).to_arrow())


def _run(db: duckdb.DuckDBPyConnection, path: Path) -> None:
    try:
        db.execute(path.read_text())
    except duckdb.Error as error:
        raise TsrError(f"{path}{complaint(error, where=True)}") from error


def ask(db: duckdb.DuckDBPyConnection, text: str, where: str) -> pl.DataFrame | None:
    """Run statements that only read; return the last one's rows, None where there is none.

    Raises TsrError naming `where` and the line, for what DuckDB refuses and for a statement that would write.
    """
    try:
        statements = db.extract_statements(text)
        for statement in statements:
            _refuse_writing(statement, where)
        for statement in statements[:-1]:
            db.execute(statement)
        return fetch(db, statements[-1].query, {}) if statements else None
    except duckdb.Error as error:
        raise TsrError(f"{where}{complaint(error, where=True)}") from error


def read_text(path: Path) -> str:
    """Return a SQL file's text. Raises TsrError for one that is missing or no text."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TsrError(f"{path}: not a readable SQL file: {error}") from error


def _refuse_writing(statement: duckdb.Statement, where: str) -> None:
    kind = statement.type.name
    analysed = kind == "EXPLAIN" and re.match(r"\s*explain\s*\(?\s*analyze", statement.query, re.IGNORECASE)
    secret = kind == "CREATE" and re.search(r"\bsecret\b", statement.query, re.IGNORECASE)
    if kind not in _HARMLESS or analysed or secret:
        raise TsrError(
            f"{where}: a statement of kind {kind.lower()} is refused, the tables are read-only; "
            "write results with --format and --out"
        )
