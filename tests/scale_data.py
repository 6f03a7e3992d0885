"""Contract tables as large as wanted, made up and the same each time: `build(folder, prompts)`.

A round of TSR: a current, a past and a future model with 7 responses a prompt each, and 3 votes of the current one on
every response. The texts are as long as real ones and compress about as they do; what is wrong with real tables is
wrong with these too (see the SQL files in tests/scale).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from stages import tables
from stages.sqlrun import connect, run_file

SQL = Path(__file__).parent / "scale"
MODELS = {"M0": 0, "tsr-1": 1, "tsr-f2": 2}  # anchor, own, future: better from one to the next
JUDGE = "tsr-1"
SPLIT = "r0"
PIECES = 6000  # of text; more of them compress less
ROWS = 150_000  # at a time


def build(data: Path, prompts: int) -> None:
    """Write prompts, generations and judgments for `prompts` prompts under `data`."""
    with connect() as db:
        db.execute("set threads to 2")
        values: dict[str, Any] = {"n": prompts, "pieces": PIECES, "judge": JUDGE}
        bank = run_file(db, SQL / "bank.sql", {}, values)
        db.register("bank", bank.to_arrow())
        tables.write_parts("prompts", _parts(db, "prompts", prompts, values), data / "prompts" / f"{SPLIT}.parquet")
        for model, place in MODELS.items():
            made = data / "generations" / model / f"{SPLIT}.parquet"
            told = values | {"model": model, "place": place}
            tables.write_parts("generations", _parts(db, "generations", 7 * prompts, told), made)
            judged = data / "judgments" / JUDGE / model / f"{SPLIT}.parquet"
            tables.write_parts("judgments", _judgments(db, made, told), judged)


def _parts(db: duckdb.DuckDBPyConnection, table: str, rows: int, values: dict[str, Any]) -> Iterator[pl.DataFrame]:
    for low in range(0, rows, ROWS):
        bounds = {"low": low, "high": min(low + ROWS, rows)}
        yield _typed(table, run_file(db, SQL / f"{table}.sql", {}, values | bounds))


def _judgments(db: duckdb.DuckDBPyConnection, generations: Path, values: dict[str, Any]) -> Iterator[pl.DataFrame]:
    ids = pl.scan_parquet(generations).filter(pl.col("finish_reason") != "error").select("generation_id").collect()
    for part in ids.iter_slices(ROWS // 3):
        yield _typed("judgments", run_file(db, SQL / "judgments.sql", {"answered": part}, values))


def _typed(table: str, rows: pl.DataFrame) -> pl.DataFrame:
    return rows.cast(tables.schema(table))
