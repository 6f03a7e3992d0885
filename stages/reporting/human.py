"""Ratings that came with the fixed responses: what judges are held against where no verifier knows the truth."""

import json

import polars as pl

from stages import paths, tables
from stages.parsing import load_rubric
from stages.sqlrun import connect


def with_ratings(truth: pl.DataFrame, prompts: pl.DataFrame, fixed: pl.DataFrame, rubric: str) -> pl.DataFrame:
    """Return `truth` (generation_id, truth), with people's ratings where the source has no verifier.

    A rating is stretched from its source's range to the rubric's: 1 .. 10 becomes 0 .. 5. Where nobody rated, the truth
    stays null.
    """
    path = paths.scores(paths.HUMAN, paths.WORLD, "fixed")
    if not path.is_file():
        return truth
    low, high = score_range(rubric)
    scales = pl.DataFrame(
        [(pid, *scale) for pid, meta in prompts["prompt_id", "meta"].rows() if (scale := _range(meta))],
        schema={"prompt_id": pl.String, "least": pl.Float64, "most": pl.Float64},
        orient="row",
    )
    rated = fixed.select("generation_id", "prompt_id").join(scales, on="prompt_id")
    rated = rated.join(tables.read("scores", path).select("generation_id", "score"), on="generation_id")
    share = (pl.col("score") - pl.col("least")) / (pl.col("most") - pl.col("least"))
    told = rated.select("generation_id", rating=low + share * (high - low))
    both = truth.join(told, on="generation_id", how="left")
    return both.select("generation_id", truth=pl.coalesce("truth", "rating")).sort("generation_id")


def score_range(rubric: str) -> tuple[float, float]:
    """Return the lowest and the highest score of a rubric."""
    with connect() as db:
        load_rubric(db, rubric)
        low, high = db.sql("select low(), high()").fetchall()[0]
        return low, high


def _range(meta: str) -> list[float] | None:
    found: list[float] | None = json.loads(meta).get("rating_range")
    return found
