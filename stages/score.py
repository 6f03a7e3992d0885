"""Stage score: raw judgments to scores. Separate from judging, so that mending a parser judges nothing again."""

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import duckdb
import polars as pl

from stages import paths, tables
from stages.errors import TsrError
from stages.params import Profile
from stages.parsing import Reading, load_rubric
from stages.progress import progress
from stages.slices import Slice, in_order, slices
from stages.sqlrun import SQL, connect, parquet, run_query, view_query


def run(profile: Profile, judge: str, model: str, split: str) -> None:
    """Write `data/scores/<judge>/<model>/<split>.parquet`."""
    generations, judgments = paths.generations(model, split), paths.judgments(judge, model, split)
    reading = Reading(profile.judge.rubric, profile.score.least_mass)
    scored = score_files(reading, profile.judge.way, profile.judge.votes, judge, generations, judgments)
    tables.write_parts("scores", scored, paths.scores(judge, model, split))


def score_files(
    reading: Reading, way: str, votes: int, judge: str, generations: Path, judgments: Path
) -> Iterator[pl.DataFrame]:
    """Yield `scores` rows by slices of generation_id, out of core: one for every generation, judged or not.

    Raises TsrError, at the latest in place of the end, where the votes are not as `check_votes` wants them.
    """
    tables.check_file("generations", generations)
    tables.check_file("judgments", judgments)
    way, count = _expected(tables.head("judgments", judgments), way, votes)

    def work(part: Slice) -> tuple[pl.DataFrame, pl.DataFrame]:
        with connect() as db:
            for name, path in (("generations", generations), ("judgments", judgments)):
                parquet(db, [path], "generation_id", part.low, part.high).create_view(name)
            return _score(db, reading, judge), _faults(db, way, count)

    faults, parts = [], slices(judgments, "generation_id")
    with progress(f"score {judgments}", len(parts), "slices") if len(parts) > 1 else nullcontext(_silent) as advance:
        for scored, wrong in in_order(work, parts):
            faults.append(wrong)
            yield scored
            advance()
    _refuse(pl.concat(faults), str(judgments))


def _silent() -> None:
    """Tell nothing of a small table."""


def score(reading: Reading, judge: str, generations: pl.DataFrame, judgments: pl.DataFrame) -> pl.DataFrame:
    """Return `scores` rows, one for every generation, judged or not.

    A reply that was cut off, has no score, or has one outside the rubric's range, is a vote that was not parsed.
    """
    with connect() as db:
        db.register("generations", generations.to_arrow())
        db.register("judgments", judgments.sort("generation_id", "vote_id").to_arrow())
        return _score(db, reading, judge)


def _score(db: duckdb.DuckDBPyConnection, reading: Reading, judge: str) -> pl.DataFrame:
    """Score the connection's `generations` by its `judgments`; leaves the view `votes` in it."""
    load_rubric(db, reading.rubric)
    view_query(db, "votes", SQL / "votes.sql", {"least_mass": reading.least_mass})
    return run_query(db, SQL / "scores.sql", {"judge": judge})


def check_votes(way: str, votes: int, generations: pl.DataFrame, judgments: pl.DataFrame, where: str) -> None:
    """Raise TsrError unless every generation that did not fail has the votes 0 .. votes-1, and nothing else has any.

    Of imported votes, whose way is given, there may be any number.
    """
    with connect() as db:
        db.register("generations", generations.to_arrow())
        db.register("votes", judgments.select("generation_id", "way", "vote_id").to_arrow())
        _refuse(_faults(db, *_expected(judgments, way, votes)), where)


def _expected(judgments: pl.DataFrame, way: str, votes: int) -> tuple[str, int | None]:
    """Return the way of judging and the number of votes that `judgments` should have, by their first row."""
    return ("given", None) if judgments["way"].head(1).to_list() == ["given"] else (way, votes)


def _faults(db: duckdb.DuckDBPyConnection, way: str, votes: int | None) -> pl.DataFrame:
    return run_query(db, SQL / "wrong_votes.sql", {"way": way, "votes": votes})


def _refuse(faults: pl.DataFrame, where: str) -> None:
    """Raise TsrError for the first fault, with how many votes have it; `faults` are rows of wrong_votes.sql."""
    if not faults.height:
        return
    fault, gid, vote, _ = faults.sort("fault", "generation_id").row(0)
    count = faults.filter(pl.col("fault") == fault)["n_votes"].sum()
    raise TsrError(f"{where}: vote {vote} on generation {gid} {fault}; {count} votes are like that")
