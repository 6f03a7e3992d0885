"""A result as a table on the screen, or as CSV, JSON or Parquet."""

import json
import shutil
import sys
from pathlib import Path

import duckdb
import polars as pl

from stages import paths
from stages.errors import TsrError
from stages.files import replacing

FORMATS = ("table", "csv", "json", "parquet")
ROWS = 40  # on the screen
WIDTH = 160  # characters, where the output is no screen


def put(rows: pl.DataFrame, form: str = "", out: Path | None = None) -> None:
    """Print a result, or write it to `out`; without a format, the file's ending says which.

    Raises TsrError for an unknown format, one that does not go where it should, and a file among the dataset's own.
    """
    form = form or (out.suffix.removeprefix(".").replace("jsonl", "json") if out else "table")
    if form not in FORMATS:
        raise TsrError(f"--format {form}: expected one of {', '.join(FORMATS)}")
    if out is None:
        _show(rows, form)
    elif form == "table":
        raise TsrError(f"--out {out}: a table is for the screen; expected --format csv, json or parquet")
    elif out.resolve().is_relative_to(paths.data().resolve()):
        raise TsrError(f"--out {out}: lies in {paths.data()}, whose tables are read-only; expected a file elsewhere")
    else:
        _write(rows, form, out)


def _show(rows: pl.DataFrame, form: str) -> None:
    if form == "parquet":
        raise TsrError("--format parquet: expected --out FILE, for bytes are not for the screen")
    if form != "table":
        sys.stdout.write(_text(rows, form))
        return
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else WIDTH
    with duckdb.connect() as db:
        db.from_arrow(rows.to_arrow()).show(max_rows=ROWS, max_width=width)


def _write(rows: pl.DataFrame, form: str, out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as beside:
        if form == "parquet":
            rows.write_parquet(beside, compression="zstd")
        else:
            beside.write_text(_text(rows, form), encoding="utf-8")
    print(f"{out}: {rows.height} rows", file=sys.stderr)


def _text(rows: pl.DataFrame, form: str) -> str:
    """Return CSV, or JSON with one object a line; nested values are JSON in CSV."""
    if form == "json":
        return "".join(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows.iter_rows(named=True))
    nested = [name for name, kind in rows.schema.items() if kind.is_nested()]
    flat = [pl.Series(name, [json.dumps(v, ensure_ascii=False) for v in rows[name].to_list()]) for name in nested]
    return rows.with_columns(flat).write_csv()
