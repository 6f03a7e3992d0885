"""Stage score: raw judgments to scores. Separate from judging, so that mending a parser judges nothing again."""

import polars as pl

from stages import paths, tables
from stages.params import Judge
from stages.parsing import Parser, load_parser, parse_all
from stages.sqlrun import SQL, connect, run_file


def run(settings: Judge, judge: str, model: str, split: str) -> None:
    """Write `data/scores/<judge>/<model>/<split>.parquet`."""
    generations = tables.read("generations", paths.generations(model, split))
    judgments = tables.read("judgments", paths.judgments(judge, model, split))
    scored = score(load_parser(settings.rubric), judge, generations, judgments)
    tables.write("scores", scored, paths.scores(judge, model, split))


def score(parser: Parser, judge: str, generations: pl.DataFrame, judgments: pl.DataFrame) -> pl.DataFrame:
    """Return `scores` rows, one for every generation, judged or not.

    A reply without a score, or with one outside the rubric's range, counts as a vote that was not parsed.
    """
    votes = judgments.select("generation_id", "vote_id", value=parse_all(parser, judgments["raw"]))
    frames = {"generations": generations.select("generation_id", "model"), "votes": votes}
    return run_file(connect(), SQL / "scores.sql", frames, {"judge": judge})
