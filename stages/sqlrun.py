"""Run a SQL file on frames or files with bound parameters. No SQL text is ever built from values."""

import glob
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from stages.errors import TsrError

SQL = Path(__file__).parent / "sql"
# Kinds of statement that read, or make something in memory; and what must stand behind EXPLAIN.
_HARMLESS = {"SELECT", "EXPLAIN", "CREATE", "MULTI", "DROP"}
_READS = "select|from|with|values|table|pivot|unpivot|describe|show|summarize"
_EXPLAINED = re.compile(rf"explain( (analyze|verbose))*( \( [^()]* \))?( \()* ({_READS})\b", re.IGNORECASE)
_LISTS = {"list", "array", "struct", "map"}
_KEPT = {"boolean", "float", "double", "decimal", "varchar", "hugeint", "uhugeint"} | {
    sign + size for sign in ("", "u") for size in ("tinyint", "smallint", "integer", "bigint")
}
MEMORY = "2GiB"  # of a connection out of core; what needs more goes to disk


def connect() -> duckdb.DuckDBPyConnection:
    """Return an in-memory DuckDB that uses one thread, so that floating sums have one order."""
    connection = duckdb.connect()
    connection.execute("set threads to 1")
    return connection


@contextmanager
def out_of_core(beside: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """Yield a DuckDB of bounded memory on all cores; what does not fit lies beside a file, and goes with the block."""
    with (
        scratch(beside) as folder,
        duckdb.connect(config={"temp_directory": str(folder), "memory_limit": MEMORY}) as connection,
    ):
        yield connection


@contextmanager
def scratch(beside: Path) -> Iterator[Path]:
    """Yield an empty folder beside a file; it goes with the block."""
    beside.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=beside.parent, prefix=f".{beside.name}.") as folder:
        yield Path(folder)


@contextmanager
def one_thread(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Let a connection use one thread for a while."""
    before = int(connection.query("select current_setting('threads')").fetchall()[0][0])
    connection.execute("set threads to 1")
    try:
        yield
    finally:
        connection.execute(f"set threads to {before}")


def run_file(
    connection: duckdb.DuckDBPyConnection, path: Path, frames: dict[str, pl.DataFrame], values: dict[str, Any]
) -> pl.DataFrame:
    """Return the result of the query in `path`; `frames` are its tables, `values` its $parameters.

    Only the values that the file names are bound, so a strategy need not use them all.
    Raises TsrError naming the file and, where DuckDB says it, the line.
    """
    for name, rows in frames.items():
        connection.register(name, rows.to_arrow())
    return run_query(connection, path, values)


def run_query(connection: duckdb.DuckDBPyConnection, path: Path, values: dict[str, Any]) -> pl.DataFrame:
    """Return the result of the query in `path` on what the connection has; `values` are its $parameters.

    Raises TsrError as `run_file` does.
    """
    text, bound = _bound(connection, path, values)
    try:
        return fetch(connection, text, bound)
    except duckdb.Error as error:
        raise TsrError(f"{path}{complaint(error, where=True)}") from error


def keep_query(
    connection: duckdb.DuckDBPyConnection, name: str, path: Path, values: dict[str, Any], *, more: bool = False
) -> None:
    """Make the result of the query in `path` the table `name` of the connection, or add it; else as `run_query`."""
    text, bound = _bound(connection, path, values)
    start = f"insert into {name}" if more else f"create or replace table {name} as"
    try:
        connection.execute(f"{start} {text}", bound)
    except duckdb.Error as error:
        raise TsrError(f"{path}{complaint(error, where=True)}") from error


def view_query(connection: duckdb.DuckDBPyConnection, name: str, path: Path, values: dict[str, Any]) -> None:
    """Make the query in `path` the view `name` of the connection, to run when it is asked; else as `run_query`."""
    text, bound = _bound(connection, path, values)
    try:
        connection.sql(text, params=bound).create_view(name, replace=True)
    except duckdb.Error as error:
        raise TsrError(f"{path}{complaint(error, where=True)}") from error


def parquet(connection: duckdb.DuckDBPyConnection, files: list[Path]) -> duckdb.DuckDBPyRelation:
    """Return the rows of Parquet files; none is read yet."""
    return connection.read_parquet([glob.escape(str(path)) for path in files], hive_partitioning=False)


def read_text(path: Path) -> str:
    """Return a SQL file's text. Raises TsrError for one that is missing or no text."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TsrError(f"{path}: not a readable SQL file: {error}") from error


def refuse_writing(statement: duckdb.Statement, where: str) -> None:
    """Raise TsrError naming `where` for a statement that is more than a look, or something made in memory.

    A file is written by COPY, which may hide in an EXPLAIN, before a PIVOT and in a CTE; nothing else can.
    """
    words, kind = _words(statement.query), statement.type.name
    if "copy" in words:
        kind = "copy"
    elif kind == "EXPLAIN" and not _EXPLAINED.match(" ".join(words)):
        kind = "explain of what is no query"
    if kind not in _HARMLESS:
        raise TsrError(
            f"{where}: a statement of kind {kind.lower()} is refused, the tables are read-only; "
            "write results with --format and --out"
        )


def _words(text: str) -> list[str]:
    """Return what a statement consists of, in lower case; comments are left out, and what stands in quotes."""
    told, tokens = text.encode(), duckdb.tokenize(text)
    ends = [start for start, _ in tokens[1:]] + [len(told)]
    words = [(told[start:end].decode().strip().lower(), kind) for (start, kind), end in zip(tokens, ends, strict=True)]
    return [word for word, kind in words if kind != duckdb.token_type.comment and word[:1] not in "'\"$"]


def _bound(connection: duckdb.DuckDBPyConnection, path: Path, values: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the text of a file that holds one query, and of the values those that it names."""
    if not path.exists():
        raise TsrError(
            f"{path}: no such SQL file; there are: {', '.join(sorted(p.stem for p in path.parent.glob('*.sql')))}"
        )
    text = read_text(path)
    try:
        statements = connection.extract_statements(text)
    except duckdb.Error as error:
        raise TsrError(f"{path}{complaint(error, where=True)}") from error
    if len(statements) != 1 or statements[0].type.name not in ("SELECT", "MULTI"):
        found = ", ".join(one.type.name.lower() for one in statements) or "none"
        raise TsrError(f"{path}: expected one query; its statements: {found}")
    refuse_writing(statements[0], str(path))
    named = statements[0].named_parameters
    if missing := named - set(values):
        raise TsrError(f"{path}: no value for parameter ${sorted(missing)[0]}; there are: {', '.join(sorted(values))}")
    return text, {k: values[k] for k in named}


def fetch(connection: duckdb.DuckDBPyConnection, text: str, values: dict[str, Any]) -> pl.DataFrame:
    """Return the result of one statement, without columns where it has none. A name that comes again gets a number.

    Numbers and texts, also in lists and structs, come as they are, and all else as DuckDB writes it: not every
    interval, date or union of DuckDB's can be kept in other libraries.
    Raises duckdb.Error, with the line that is wrong.
    """
    try:
        rows = connection.sql(text, params=values)
        return pl.DataFrame() if rows is None else pl.DataFrame(_plain(rows).to_arrow_table())
    except duckdb.InterruptException:
        raise
    except duckdb.Error:
        connection.execute(text, values)  # DuckDB names the line here, and not there
        raise


def _plain(rows: duckdb.DuckDBPyRelation) -> duckdb.DuckDBPyRelation:
    kept = [_is_plain(kind) for kind in rows.types]
    if all(kept) and len({name.lower() for name in rows.columns}) == len(kept):
        return rows
    names = rows.filter("true").columns  # as a subquery's, they differ
    columns = [duckdb.SQLExpression(f"#{place}") for place in range(1, len(kept) + 1)]
    texts = [column if keep else column.cast("VARCHAR") for column, keep in zip(columns, kept, strict=True)]
    return rows.select(*[text.alias(name) for text, name in zip(texts, names, strict=True)])


def _is_plain(kind: Any) -> bool:
    if kind.id in _LISTS:
        return all(_is_plain(child) for _, child in kind.children if not isinstance(child, int))
    return kind.id in _KEPT


def complaint(error: Exception, *, where: bool = False, before: int = 0) -> str:
    """Return what DuckDB says in one line; with `where`, to be put behind a file's name: `:LINE: what is wrong`.

    `before` lines of the file come before those that DuckDB saw.
    """
    text = str(error)
    line = re.search(r"^LINE (\d+):", text, re.MULTILINE)
    said = " ".join(text[: line.start() if line else None].split())
    if not where:
        return said
    return f":{int(line.group(1)) + before}: {said}" if line else f": {said}"
