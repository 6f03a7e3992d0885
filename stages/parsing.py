"""Judgments become numbers: by the rubric's `parse.sql`, and by `sql/votes.sql` for all ways of judging."""

from dataclasses import dataclass
from pathlib import Path

import duckdb
import polars as pl

from stages.errors import TsrError
from stages.sqlrun import SQL, complaint, connect, run_file

RUBRICS = Path(__file__).parent / "rubrics"
SCORE_LINE = RUBRICS / "score_line.sql"


@dataclass(frozen=True)
class Reading:
    """How judgments become numbers: the rubric, and the mass that a distribution over scores must have."""

    rubric: str
    least_mass: float


def load_rubric(db: duckdb.DuckDBPyConnection, rubric: str) -> None:
    """Give a connection the macros `parse(raw)`, `low()` and `high()` of a rubric, which may use `score_line`.

    Raises TsrError naming the file if it is absent or no SQL.
    """
    path = RUBRICS / rubric / "parse.sql"
    if not path.exists():
        raise TsrError(f"{path}: no such file; expected the macros parse(raw), low() and high()")
    db.execute(SCORE_LINE.read_text())
    try:
        db.execute(path.read_text())
    except duckdb.Error as error:
        raise TsrError(f"{path}{complaint(error, where=True)}") from error


def read_votes(reading: Reading, judgments: pl.DataFrame) -> pl.DataFrame:
    """Return (generation_id, way, vote_id, value) of `judgments`, in their order; `value` is null where none counts."""
    with connect() as db:
        load_rubric(db, reading.rubric)
        return run_file(db, SQL / "votes.sql", {"judgments": judgments}, {"least_mass": reading.least_mass})
