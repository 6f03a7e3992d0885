"""Run a SQL file on frames or files with bound parameters. No SQL text is ever built from values."""

import glob
import re
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from stages.errors import TsrError

SQL = Path(__file__).parent / "sql"


def connect() -> duckdb.DuckDBPyConnection:
    """Return an in-memory DuckDB that uses one thread, so that floating sums have one order."""
    connection = duckdb.connect()
    connection.execute("set threads to 1")
    return connection


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
    text, bound = _bound(path, values)
    try:
        return fetch(connection, text, bound)
    except duckdb.Error as error:
        raise TsrError(f"{path}{complaint(error, where=True)}") from error


def keep_query(connection: duckdb.DuckDBPyConnection, name: str, path: Path, values: dict[str, Any]) -> None:
    """Make the result of the query in `path` the temporary table `name` of the connection; else as `run_query`."""
    text, bound = _bound(path, values)
    try:
        connection.execute(f"create or replace temp table {name} as {text}", bound)
    except duckdb.Error as error:
        raise TsrError(f"{path}{complaint(error, where=True)}") from error


def view_file(
    connection: duckdb.DuckDBPyConnection, name: str, path: Path, column: str, low: str = "", high: str | None = None
) -> None:
    """Make the rows of a Parquet file with low <= column < high the view `name` of the connection; none is read yet."""
    rows = connection.read_parquet(glob.escape(str(path)), hive_partitioning=False)
    if low:
        rows = rows.filter(duckdb.ColumnExpression(column) >= duckdb.ConstantExpression(low))
    if high is not None:
        rows = rows.filter(duckdb.ColumnExpression(column) < duckdb.ConstantExpression(high))
    rows.create_view(name, replace=True)


def _bound(path: Path, values: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return a file's text, and of the values those that it names."""
    if not path.exists():
        raise TsrError(
            f"{path}: no such SQL file; there are: {', '.join(sorted(p.stem for p in path.parent.glob('*.sql')))}"
        )
    text = path.read_text()
    named = set(re.findall(r"\$(\w+)", re.sub(r"--.*", "", text)))
    if missing := named - set(values):
        raise TsrError(f"{path}: no value for parameter ${sorted(missing)[0]}; there are: {', '.join(sorted(values))}")
    return text, {k: values[k] for k in named}


def fetch(connection: duckdb.DuckDBPyConnection, text: str, values: dict[str, Any]) -> pl.DataFrame:
    """Return the result of one query. Raises duckdb.Error, with the line that is wrong."""
    try:
        return pl.DataFrame(connection.sql(text, params=values).to_arrow_table())
    except duckdb.Error:
        connection.execute(text, values)  # DuckDB names the line here, and not there
        raise


def complaint(error: duckdb.Error, *, where: bool = False) -> str:
    """Return what DuckDB says in one line; with `where`, to be put behind a file's name: `:LINE: what is wrong`."""
    text = str(error)
    line = re.search(r"^LINE (\d+):", text, re.MULTILINE)
    said = " ".join(text[: line.start() if line else None].split())
    if not where:
        return said
    return f":{line.group(1)}: {said}" if line else f": {said}"
