"""A result as a table on the screen, or as CSV, JSON or Parquet."""

import io
import json
import math
import shutil
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from stages import paths
from stages.errors import TsrError, printable
from stages.files import replacing

FORMATS = ("table", "csv", "json", "parquet")
ROWS = 40  # on the screen
WIDTH = 160  # characters, where the output is no screen


def put(rows: pl.DataFrame, form: str | None = None, out: Path | None = None, *, replace: bool = False) -> None:
    """Print a result, or write it to `out`; without a format, the file's ending says which.

    Raises TsrError for an unknown format, one that does not go where it should, a file that is there already, unless it
    is to be replaced, and a file among the tables.
    """
    if form is not None:
        given = f"--format {form!r}"
    else:
        given = f"--out {out}: its ending {out.suffix!r}" if out else "table"
        form = out.suffix.removeprefix(".").replace("jsonl", "json") if out else "table"
    if form not in FORMATS:
        raise TsrError(f"{given}: expected one of {', '.join(FORMATS)}")
    if out is not None and form == "table":
        raise TsrError(f"--out {out}: a table is for the screen; expected --format csv, json or parquet")
    try:
        if out is None:
            _show(rows, form)
        else:
            _write(rows, form, _allowed(out, replace=replace))
    except (duckdb.Error, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        said = " ".join(str(error).split())
        raise TsrError(f"{given}: this result cannot be told so: {said}") from error


def _allowed(out: Path, *, replace: bool) -> Path:
    """Return where `out` leads. Raises TsrError for what must stay as it is."""
    target = out.resolve()
    for root in {paths.data(), Path("data")}:
        if target.is_relative_to(root.resolve()):
            raise TsrError(f"--out {out}: lies in {root}, whose tables are read-only; expected a file elsewhere")
    if target.exists() and not target.is_file():
        raise TsrError(f"--out {out}: is there and no file; expected a file")
    if target.exists() and not replace:
        raise TsrError(f"--out {out}: is there already; --replace puts another in its place")
    return target


def _show(rows: pl.DataFrame, form: str) -> None:
    if form == "parquet":
        raise TsrError("--format parquet: expected --out FILE, for bytes are not for the screen")
    if form != "table":
        text = _text(rows, form)
        sys.stdout.write(printable(text, keep="\n\t") if sys.stdout.isatty() else text)  # a file gets it as it is
        return
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else WIDTH
    with duckdb.connect() as db, redirect_stdout(io.StringIO()) as drawn:
        db.from_arrow(rows.to_arrow()).show(max_rows=ROWS, max_width=width)
    sys.stdout.write(printable(drawn.getvalue(), keep="\n"))


def _write(rows: pl.DataFrame, form: str, out: Path) -> None:
    with replacing(out) as beside:
        if form == "parquet":
            rows.write_parquet(beside, compression="zstd")
        else:
            beside.write_text(_text(rows, form), encoding="utf-8")
    print(f"{out}: {rows.height} rows", file=sys.stderr)


def _text(rows: pl.DataFrame, form: str) -> str:
    """Return CSV, or JSON with one object a line; nested values are JSON in CSV."""
    if form == "json":
        return "".join(as_json(row) + "\n" for row in rows.iter_rows(named=True))
    nested = [name for name, kind in rows.schema.items() if kind.is_nested()]
    flat = [pl.Series(name, [None if v is None else as_json(v) for v in rows[name].to_list()]) for name in nested]
    return rows.with_columns(flat).write_csv()


def as_json(value: Any) -> str:
    """Return a value as JSON on one line, which has no word for what is no finite number: null stands for it."""
    return json.dumps(_finite(value), ensure_ascii=False, default=str)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    return [_finite(one) for one in value] if isinstance(value, list) else value
