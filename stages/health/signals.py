"""The signals of each round of the plan's run, as far as it has come.

One row a run, arm and round, one column a signal. What is not there, or not known, is null.
"""

from typing import Any

import polars as pl

from stages import paths, tables
from stages.parsing import load_rubric
from stages.reporting.lineage import Step, steps
from stages.sqlrun import SQL, connect, run_file
from stages.truth import true_scores

QUERIES = SQL / "health"
KEY = ("run", "arm", "round", "model", "judge")
OF_PAIRS = ("yield", "gap", "upside_down", "length_delta")
OF_OWN = ("at_top", "tied", "unscored", "own_tokens")
OF_JUDGE = ("fixed_score", "fixed_agreement")
SIGNALS = (
    *("gap", "yield", "gap_per_prompt", "upside_down", "at_top", "tied", "unscored"),
    *(*OF_JUDGE, "tokens", "length_delta"),
)
_FLOATS = dict.fromkeys((*OF_PAIRS, *OF_OWN, *OF_JUDGE), pl.Float64)
NEEDS_TRUTH = ("upside_down", "fixed_agreement")
SCHEMA = {"run": pl.String, "arm": pl.String, "round": pl.Int64, "model": pl.String, "judge": pl.String} | _FLOATS
NOT_JUDGED = pl.DataFrame(
    schema=dict.fromkeys(("judge", "generation_id"), pl.String) | dict.fromkeys(("score", "truth"), pl.Float64)
)
HERE = "here"  # the run of the plan


def of_plan(planned: dict[str, Any], rubric: str, fixed: pl.DataFrame) -> pl.DataFrame:
    """Return the signals of every round whose pairs are made, trained on or not.

    `fixed` has the scores of the fixed responses under those judges that have scored them: judge, generation_id,
    score, truth.
    """
    with connect() as db:
        judged = run_file(db, QUERIES / "fixed.sql", {"judged": fixed}, {}).rows_by_key(
            "judge", named=True, unique=True
        )
    made = [step for step in steps(planned) if paths.pairs(step.model).is_file()]
    of_model = {step.model: _pairs(step) | _own(step, rubric) for step in made}
    return finished([_key(s) | of_model[s.model] | judged.get(s.row["judge"], {}) for s in made])


def _key(step: Step) -> dict[str, Any]:
    return {"run": HERE, "arm": step.arm, "round": step.round, "model": step.model, "judge": step.row["judge"]}


def _pairs(step: Step) -> dict[str, Any]:
    """Return what sql/health/round.sql says of a round; nothing where the dropped prompts are not there."""
    if not paths.dropped(step.model).is_file():
        return {}
    pairs = tables.read("pairs", paths.pairs(step.model))
    frames = {
        "pairs": pairs.select("chosen_id", "rejected_id", "gap", "length_delta"),
        "dropped": tables.read("dropped", paths.dropped(step.model)).select("prompt_id"),
        "truth": _truth(pairs, step.row["split"]),
    }
    with connect() as db:
        return run_file(db, QUERIES / "round.sql", frames, {}).row(0, named=True)


def _truth(pairs: pl.DataFrame, split: str) -> pl.DataFrame:
    """Return the true scores of both sides, of their texts: they are known before stage `measure` has run."""
    if not paths.prompts(split).is_file():
        return pl.DataFrame(schema={"generation_id": pl.String, "truth": pl.Float64})
    sides = [
        pairs.select(
            "prompt_id",
            generation_id=f"{side}_id",
            response=pl.col(side).list.last().struct.field("content"),
            finish_reason=pl.lit("stop"),  # a request that failed is in no pair
        )
        for side in ("chosen", "rejected")
    ]
    return true_scores(tables.read("prompts", paths.prompts(split)), pl.concat(sides))


def _own(step: Step, rubric: str) -> dict[str, Any]:
    """Return what sql/claims/own.sql says of the current model's responses; nothing where they are not there."""
    own, judge, split = step.row["own"], step.row["judge"], step.row["split"]
    answered, scored = paths.generations(own, split), paths.scores(judge, own, split)
    if not (answered.is_file() and scored.is_file()):
        return {}
    answers = tables.read("generations", answered)
    joined = answers.join(
        tables.read("scores", scored).select("generation_id", "score"), on="generation_id", how="left"
    )
    rows = joined.sort("generation_id").select("prompt_id", "score", "response_tokens", truth=pl.lit(None, pl.Float64))
    with connect() as db:
        load_rubric(db, rubric)
        return run_file(db, SQL / "claims" / "own.sql", {"own": rows}, {}).row(0, named=True)


def finished(rows: list[dict[str, Any]]) -> pl.DataFrame:
    """Return the table of signals of rows with `SCHEMA`'s keys; a key that is left out is not known.

    The scores of the judge `origin` say where a response comes from: they are no measure of a gap, and no top.
    """
    found = pl.DataFrame([{name: row.get(name) for name in SCHEMA} for row in rows], schema=SCHEMA)
    knows = pl.col("judge") != paths.ORIGIN
    scores = [pl.when(knows).then(pl.col(name)).alias(name) for name in ("gap", "at_top", "tied")]
    more = {
        # Without pairs there is no gap, and an average prompt teaches nothing.
        "gap_per_prompt": pl.when(pl.col("yield") == 0).then(0.0).otherwise(pl.col("gap") * pl.col("yield")),
        "length_delta": pl.col("length_delta") / pl.col("own_tokens"),
        "tokens": pl.col("own_tokens"),
    }
    return found.with_columns(scores).with_columns(**more).select(*KEY, *SIGNALS).sort("run", "arm", "round")
