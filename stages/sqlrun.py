"""Run a SQL file on frames with bound parameters. No SQL text is ever built from values."""

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
    if not path.exists():
        raise TsrError(
            f"{path}: no such SQL file; there are: {', '.join(sorted(p.stem for p in path.parent.glob('*.sql')))}"
        )
    for name, rows in frames.items():
        connection.register(name, rows.to_arrow())
    return run_query(connection, path, values)


def run_query(connection: duckdb.DuckDBPyConnection, path: Path, values: dict[str, Any]) -> pl.DataFrame:
    """Return the result of the query in `path` on what the connection has; `values` are its $parameters.

    Raises TsrError as `run_file` does.
    """
    text = path.read_text()
    named = set(re.findall(r"\$(\w+)", re.sub(r"--.*", "", text)))
    if missing := named - set(values):
        raise TsrError(f"{path}: no value for parameter ${sorted(missing)[0]}; there are: {', '.join(sorted(values))}")
    try:
        return fetch(connection, text, {k: values[k] for k in named})
    except duckdb.Error as error:
        raise TsrError(f"{path}{complaint(error, where=True)}") from error


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
