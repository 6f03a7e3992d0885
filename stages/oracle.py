"""Stage oracle: scores by a judge that knows and is no model, in the tables that every judge fills.

`truth` gives the true score, as the source's verifier knows it: what a perfect judge would do. `origin` knows where a
response comes from and nothing else: 1 for the reference answer, 0 for a model's own, which is how SPIN pairs.
"""

from collections.abc import Callable

import polars as pl

from stages import paths, score, tables
from stages.errors import TsrError
from stages.params import Profile
from stages.paths import ORIGIN, TRUTH
from stages.truth import true_scores


def run(profile: Profile, judge: str, model: str, split: str) -> None:
    """Write `data/judgments/<judge>/<model>/<split>.parquet` and the scores that they say."""
    prompts = tables.read("prompts", paths.prompts(split))
    generations = tables.read("generations", paths.generations(model, split))
    tables.write("judgments", judgments(judge, prompts, generations), paths.judgments(judge, model, split))
    score.run(profile, judge, model, split)


def judgments(judge: str, prompts: pl.DataFrame, generations: pl.DataFrame) -> pl.DataFrame:
    """Return `judgments` rows, one a generation: a score without words. A response that failed gets none.

    Raises TsrError for a name that is no oracle's, and where the truth is not known.
    """
    if judge not in _KNOW:
        raise TsrError(f"oracle {judge!r}: expected {' or '.join(_KNOW)}")
    known = _KNOW[judge](prompts, generations.filter(pl.col("finish_reason") != "error"))
    if lost := known.filter(pl.col("score").is_null())["generation_id"].to_list():
        raise TsrError(f"generation {min(lost)}: its true score is not known; {len(lost)} rows are like that")
    nothing = {"judge_hash": None, "rubric_hash": None, "seed": None, "digit_logprobs": None, "error": None}
    silent = {"raw": "", "finish_reason": "stop", "status": "ok", "backend": "none"}
    told = {"judge": judge, "way": "given", "vote_id": 0, "prompt_tokens": 0, "response_tokens": 0}
    return known.select(
        "generation_id",
        pl.col("score").alias("given_score"),
        *(pl.lit(value, dtype=tables.schema("judgments")[name]).alias(name) for name, value in nothing.items()),
        *(pl.lit(value, dtype=tables.schema("judgments")[name]).alias(name) for name, value in (silent | told).items()),
    ).select(list(tables.schema("judgments")))


def _by_truth(prompts: pl.DataFrame, generations: pl.DataFrame) -> pl.DataFrame:
    return true_scores(prompts, generations).rename({"truth": "score"})


def _by_origin(_: pl.DataFrame, generations: pl.DataFrame) -> pl.DataFrame:
    return generations.select("generation_id", score=(pl.col("model") == paths.REFERENCE).cast(pl.Float64))


_KNOW: dict[str, Callable[[pl.DataFrame, pl.DataFrame], pl.DataFrame]] = {TRUTH: _by_truth, ORIGIN: _by_origin}
