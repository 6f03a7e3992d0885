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
MEMORY = "2GiB"  # of a connection out of core; what needs more goes to disk


def connect() -> duckdb.DuckDBPyConnection:
    """Return an in-memory DuckDB that uses one thread, so that floating sums have one order."""
    connection = duckdb.connect()
    connection.execute("set threads to 1")
    return connection


@contextmanager
def out_of_core(beside: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """Yield a DuckDB of bounded memory on all cores; what does not fit lies beside a file, and goes with the block."""
    beside.parent.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(dir=beside.parent, prefix=f".{beside.name}.") as folder,
        duckdb.connect(config={"temp_directory": folder, "memory_limit": MEMORY}) as connection,
    ):
        yield connection


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
    text, bound = _bound(path, values)
    try:
        return fetch(connection, text, bound)
    except duckdb.Error as error:
        raise TsrError(f"{path}{complaint(error, where=True)}") from error


def keep_query(
    connection: duckdb.DuckDBPyConnection, name: str, path: Path, values: dict[str, Any], *, more: bool = False
) -> None:
    """Make the result of the query in `path` the table `name` of the connection, or add it; else as `run_query`."""
    text, bound = _bound(path, values)
    start = f"insert into {name}" if more else f"create or replace table {name} as"
    try:
        connection.execute(f"{start} {text}", bound)
    except duckdb.Error as error:
        raise TsrError(f"{path}{complaint(error, where=True)}") from error


def view_query(connection: duckdb.DuckDBPyConnection, name: str, path: Path, values: dict[str, Any]) -> None:
    """Make the query in `path` the view `name` of the connection, to run when it is asked; else as `run_query`."""
    text, bound = _bound(path, values)
    try:
        connection.sql(text, params=bound).create_view(name, replace=True)
    except duckdb.Error as error:
        raise TsrError(f"{path}{complaint(error, where=True)}") from error


def parquet(
    connection: duckdb.DuckDBPyConnection, files: list[Path], column: str = "", low: str = "", high: str | None = None
) -> duckdb.DuckDBPyRelation:
    """Return the rows of Parquet files, those with low <= column < high where limits are given; none is read yet."""
    rows = connection.read_parquet([glob.escape(str(path)) for path in files], hive_partitioning=False)
    if low:
        rows = rows.filter(duckdb.ColumnExpression(column) >= duckdb.ConstantExpression(low))
    if high is not None:
        rows = rows.filter(duckdb.ColumnExpression(column) < duckdb.ConstantExpression(high))
    return rows


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
