"""Judgments become numbers: by a rubric's `parse.sql`, `sql/votes.sql` for every way of judging, `sql/scores.sql`."""

from dataclasses import dataclass
from pathlib import Path

import duckdb
import polars as pl

from stages.errors import TsrError
from stages.sqlrun import SQL, complaint, connect, read_text, run_file, run_query, view_query

RUBRICS = Path(__file__).parent / "rubrics"
SCORE_LINE = RUBRICS / "score_line.sql"
_TEMPORARY = "select function_name from duckdb_functions() where database_name = 'temp' and not internal"


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
    text = read_text(path)
    db.execute(SCORE_LINE.read_text())
    try:
        db.execute(text)
    except duckdb.Error as error:
        raise TsrError(f"{path}{complaint(error, where=True)}") from error
    if "temp" in text.lower() and db.sql(_TEMPORARY).fetchall():  # asked only where it may be, for it takes 20 ms
        raise TsrError(f"{path}: has a temp macro; expected `create or replace macro`, which all connections see")


def read_votes(reading: Reading, judgments: pl.DataFrame) -> pl.DataFrame:
    """Return (generation_id, way, vote_id, value) of `judgments`, in their order; `value` is null where none counts."""
    with connect() as db:
        load_rubric(db, reading.rubric)
        return run_file(db, SQL / "votes.sql", {"judgments": judgments}, {"least_mass": reading.least_mass})


def score(reading: Reading, judge: str, generations: pl.DataFrame, judgments: pl.DataFrame) -> pl.DataFrame:
    """Return `scores` rows, one for every generation, judged or not.

    A reply that was cut off, has no score, or has one outside the rubric's range, is a vote that was not parsed.
    """
    with connect() as db:
        db.register("generations", generations.to_arrow())
        db.register("judgments", judgments.sort("generation_id", "vote_id").to_arrow())
        view_votes(db, reading)
        return run_query(db, SQL / "scores.sql", {"judge": judge, "way": None, "votes": None}).drop("is_whole")


def view_votes(db: duckdb.DuckDBPyConnection, reading: Reading) -> None:
    """Give a connection the view `votes`: what its `judgments` say, read when it is asked."""
    load_rubric(db, reading.rubric)
    view_query(db, "votes", SQL / "votes.sql", {"least_mass": reading.least_mass})
