"""Stage score: raw judgments to scores. Separate from judging, so that mending a parser judges nothing again."""

import polars as pl

from stages import paths, tables
from stages.errors import TsrError
from stages.params import Profile
from stages.parsing import Reading, load_parser, read_votes
from stages.sqlrun import SQL, connect, run_file


def run(profile: Profile, judge: str, model: str, split: str) -> None:
    """Write `data/scores/<judge>/<model>/<split>.parquet`."""
    generations = tables.read("generations", paths.generations(model, split))
    judgments = tables.read("judgments", paths.judgments(judge, model, split))
    check_votes(
        profile.judge.way, profile.judge.votes, generations, judgments, str(paths.judgments(judge, model, split))
    )
    reading = Reading(load_parser(profile.judge.rubric), profile.score.least_mass)
    scored = score(reading, judge, generations, judgments)
    tables.write("scores", scored, paths.scores(judge, model, split))


def score(reading: Reading, judge: str, generations: pl.DataFrame, judgments: pl.DataFrame) -> pl.DataFrame:
    """Return `scores` rows, one for every generation, judged or not.

    A reply that was cut off, has no score, or has one outside the rubric's range, is a vote that was not parsed.
    """
    frames = {"generations": generations.select("generation_id", "model"), "votes": read_votes(reading, judgments)}
    return run_file(connect(), SQL / "scores.sql", frames, {"judge": judge})


def check_votes(way: str, votes: int, generations: pl.DataFrame, judgments: pl.DataFrame, where: str) -> None:
    """Raise TsrError unless every generation that did not fail has the votes 0 .. votes-1, and nothing else has any."""
    if others := set(judgments["way"]) - {way}:
        raise TsrError(f"{where}: column 'way' holds {min(others)!r}; expected {way!r} in every row")
    answered = generations.filter(pl.col("finish_reason") != "error")
    wanted = {(gid, vote) for gid in answered["generation_id"] for vote in range(votes)}
    found = set(judgments.select("generation_id", "vote_id").rows())
    for rows, what in ((wanted - found, "is missing"), (found - wanted, "should not be there")):
        if rows:
            gid, vote = min(rows)
            raise TsrError(f"{where}: vote {vote} on generation {gid} {what}; {len(rows)} votes are like that")
