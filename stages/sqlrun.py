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
    text = path.read_text()
    for name, rows in frames.items():
        connection.register(name, rows.to_arrow())
    named = set(re.findall(r"\$(\w+)", re.sub(r"--.*", "", text)))
    if missing := named - set(values):
        raise TsrError(f"{path}: no value for parameter ${sorted(missing)[0]}; there are: {', '.join(sorted(values))}")
    try:
        table = connection.sql(text, params={k: values[k] for k in named}).to_arrow_table()
    except duckdb.Error as error:
        raise TsrError(f"{path}: {' '.join(str(error).split())}") from error
    return pl.DataFrame(table)
