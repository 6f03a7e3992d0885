"""`tsr sql` without a query: a prompt for SQL on the views."""

import sys

import duckdb
import polars as pl

from stages import output, paths
from stages.errors import printable
from stages.views import ask

_HELP = "End a query with a semicolon. `show tables;` lists the views, `describe pairs;` the columns. Ctrl-D ends."


def shell(db: duckdb.DuckDBPyConnection) -> None:
    """Read queries from the terminal until its end, and print what they give; a wrong one is told and forgotten."""
    import readline  # noqa: F401 (arrow keys and history)

    print(f"DuckDB {duckdb.__version__} on {paths.data()}, read-only. {_HELP}")
    lines: list[str] = []
    while True:
        try:
            lines.append(input("   ...> " if lines else "tsr> "))
        except KeyboardInterrupt:
            print()
            lines = []
            continue
        except EOFError:
            print()
            return
        text = "\n".join(lines)
        if text.rstrip().endswith(";"):
            lines = []
            _answer(db, text)
        elif not text.strip():
            lines = []


def _answer(db: duckdb.DuckDBPyConnection, text: str) -> None:
    try:
        rows = ask(db, text, "sql")
        if rows is not None:
            output.put(rows)
    except KeyboardInterrupt:
        print("tsr: interrupted", file=sys.stderr)
    except (Exception, pl.exceptions.PanicException) as error:  # no query may end the prompt
        print(f"tsr: {printable(' '.join(str(error).split())) or type(error).__name__}", file=sys.stderr)
