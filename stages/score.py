"""Stage score: raw judgments to scores. Separate from judging, so that mending a parser judges nothing again."""

from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from stages import paths, tables
from stages.asking import rubric_hash
from stages.errors import TsrError
from stages.params import Profile
from stages.parsing import Reading, view_votes
from stages.progress import progress
from stages.slices import Slice, in_order, slices
from stages.sqlrun import SQL, connect, parquet, run_query

WRONG_VOTES = SQL / "wrong_votes.sql"
# Of a view's rows those of the slice that a connection is at: its variables are constants when a query is planned.
IN_SLICE = """
    generation_id >= getvariable('low') and (getvariable('high') is null or generation_id < getvariable('high'))
"""


def run(profile: Profile, judge: str, model: str, split: str) -> None:
    """Write `data/scores/<judge>/<model>/<split>.parquet`. Raises TsrError where another rubric was asked for."""
    generations, judgments = paths.generations(model, split), paths.judgments(judge, model, split)
    _check_rubric(judgments, profile.judge.rubric)
    reading = Reading(profile.judge.rubric, profile.score.least_mass)
    scored = score_files(reading, profile.judge.way, profile.judge.votes, judge, generations, judgments)
    tables.write_parts("scores", scored, paths.scores(judge, model, split))


def _check_rubric(judgments: Path, rubric: str) -> None:
    """Raise TsrError where votes answer another question than the rubric's: its parser would read them all the same.

    The first vote tells: a stage asks one question.
    """
    tables.check_file("judgments", judgments)
    for way, asked in tables.head("judgments", judgments, ["way", "rubric_hash"]).iter_rows():
        if way != "given" and asked != rubric_hash(rubric):
            told = f"expected {rubric_hash(rubric)}, rubric {rubric!r} as it is now; judge again"
            raise TsrError(f"{judgments}: its votes were asked for by rubric_hash {asked}; {told}")


def score_files(
    reading: Reading, way: str, votes: int, judge: str, generations: Path, judgments: Path
) -> Iterator[pl.DataFrame]:
    """Yield `scores` rows by slices of generation_id, out of core: one for every generation, judged or not.

    Raises TsrError, at the latest in place of the end, where the votes are not as `check_votes` wants them.
    """
    tables.check_file("generations", generations)
    tables.check_file("judgments", judgments)
    way, count = _expected(tables.head("judgments", judgments, ["way"]), way, votes)
    is_whole, left, parts = True, tables.height(judgments), slices(judgments, "generation_id")
    with connect() as db:
        for name, path in (("generations", generations), ("judgments", judgments)):
            parquet(db, [path]).filter(IN_SLICE).create_view(name)
        view_votes(db, reading)
        work = partial(_in_slice, db, SQL / "scores.sql", {"judge": judge, "way": way, "votes": count})
        shown = progress(f"score {judgments}", len(parts), "slices") if len(parts) > 1 else nullcontext(_silent)
        with shown as advance:
            for scored in in_order(work, parts):
                is_whole &= scored["is_whole"].all()
                left -= int(scored["n_votes"].sum())
                yield scored.drop("is_whole")
                advance()
        if left or not is_whole:  # some votes are on nothing that is there, or are not as they should be
            look = partial(_in_slice, db, WRONG_VOTES, {"way": way, "votes": count})
            _refuse(pl.concat(in_order(look, parts)), str(judgments))


def _in_slice(db: duckdb.DuckDBPyConnection, path: Path, values: dict[str, Any], part: Slice) -> pl.DataFrame:
    """Return the result of a query on the rows of a slice; what is opened and planned once serves all slices."""
    with db.cursor() as own:  # a connection serves one thread
        own.execute("set variable low = $low", {"low": part.low})
        own.execute("set variable high = $high", {"high": part.high})
        return run_query(own, path, values)


def _silent() -> None:
    """Tell nothing of a small table."""


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
    return run_query(db, WRONG_VOTES, {"way": way, "votes": votes})


def _refuse(faults: pl.DataFrame, where: str) -> None:
    """Raise TsrError for the first fault, and say how many votes have it and others; `faults`: of wrong_votes.sql."""
    if not faults.height:
        return
    kinds = faults.sort("generation_id").group_by("fault", maintain_order=True)
    first, *others = kinds.agg(pl.col("generation_id", "vote_id").first(), pl.col("n_votes").sum()).sort("fault").rows()
    fault, gid, vote, count = first
    told = f"{count} {'vote is' if count == 1 else 'votes are'} like that"
    if others:
        told += f"; besides: {', '.join(f'{other} ({more})' for other, _, _, more in others)}"
    raise TsrError(f"{where}: vote {vote} on generation {gid} {fault}; {told}")
