"""Stage eft: of a judge's judgments of rated responses, those to learn judging from.

Kept are the judgments, in the judge's own words, of prompts on which the judge orders the responses as people did, as
in Self-Rewarding (arXiv 2401.10020, section 3). The rule for ties and the reasons stand in `stages/sql/eft.sql`.
"""

import json
from typing import Annotated, Any, Literal

import polars as pl
from pydantic import Field

from stages import paths, tables
from stages.asking import load_ask
from stages.block import Block
from stages.errors import TsrError
from stages.ids import prompt_id, seed_for
from stages.metrics import write_json
from stages.parsing import Reading, read_votes
from stages.sqlrun import SQL, connect, run_file

RATED = "rated"  # split of the responses that people rated
Row = dict[str, Any]


class Eft(Block):
    """Which judgments are kept."""

    ties: Literal["disagree", "agree"]
    most_per_score: Annotated[int, Field(ge=0)]


def run(seed: int, settings: Eft, rubric: str, judge: str) -> None:
    """Write `data/eft/eft.parquet`: judgments that came with the data, and those of rated responses that agree.

    Beside it, the counts of what became of the rest. Raises TsrError where responses were
    rated, and none gives any.
    """
    given = tables.read("prompts", paths.prompts("eft"))
    made, steps = kept(seed, settings, rubric, judge)
    if steps and not given.height + made.height:
        told = ", ".join(f"{row['count']} {row['outcome']}" for row in steps) or "none is there"
        where = paths.judgments(judge, paths.WORLD, RATED)
        raise TsrError(f"{where}: no judgment agrees with the human order: {told}")
    tables.write("prompts", pl.concat([given, made]), paths.eft())
    came = {"step": "judgments", "source": "prepare", "outcome": "given", "kept": True, "count": given.height}
    write_json({"steps": [came] * bool(given.height) + steps}, paths.funnel("eft"))


def kept(seed: int, settings: Eft, rubric: str, judge: str) -> tuple[pl.DataFrame, list[Row]]:
    """Return the judgments of rated responses that agree with people's order, as `prompts` rows, and the counts.

    Raises TsrError where the judge gave no replies in words.
    """
    prompts = tables.read("prompts", paths.prompts(RATED))
    responses = tables.read("generations", paths.generations(paths.WORLD, RATED))
    judged = paths.judgments(judge, paths.WORLD, RATED)
    judgments = tables.read("judgments", judged)
    if silent := set(judgments["way"]) - {"votes", "given"}:
        raise TsrError(f"{judged}: way {min(silent)}; expected judgments in words, of judge.way votes, to learn from")
    scores = {name: tables.read("scores", paths.scores(name, paths.WORLD, RATED)) for name in (judge, paths.HUMAN)}
    asked = ask_again(rubric, prompts, responses)
    found = verdicts(seed, settings, rubric, asked, judgments, scores[judge], scores[paths.HUMAN])
    return to_examples(judge, asked, found, judgments), funnel(found)


def ask_again(rubric: str, prompts: pl.DataFrame, responses: pl.DataFrame) -> pl.DataFrame:
    """Return each response with its prompt's source and what the judge was asked: (asked_id, asked) and ids.

    Raises TsrError for a response without its prompt.
    """
    ask = load_ask(rubric)
    joined = responses.join(prompts.select("prompt_id", "source", "messages"), on="prompt_id", how="left")
    if lost := joined.filter(pl.col("messages").is_null())["generation_id"].to_list():
        raise TsrError(f"generation {min(lost)}: its prompt is not in the split; {len(lost)} rows are like that")
    asked = [ask.judge_prompt(messages, text) for messages, text in joined.select("messages", "response").iter_rows()]
    return joined.select("generation_id", "prompt_id", "source").with_columns(
        asked=pl.Series(asked, dtype=tables.TYPES["messages"]),
        asked_id=pl.Series([prompt_id(one) for one in asked], dtype=pl.String),
    )


def verdicts(
    seed: int,
    settings: Eft,
    rubric: str,
    asked: pl.DataFrame,
    judgments: pl.DataFrame,
    scores: pl.DataFrame,
    human: pl.DataFrame,
) -> pl.DataFrame:
    """Return (generation_id, prompt_id, human, score, vote_id, value, reason), one row a response; null: kept."""
    frames = {
        "responses": asked.select("generation_id", "prompt_id", "asked_id"),
        "human": human.select("generation_id", "score"),
        "scores": scores.select("generation_id", "score"),
        "votes": read_votes(Reading(rubric, 0.0), judgments),
    }
    values = settings.model_dump() | {"draw": f"{seed_for(seed, 'eft'):x}"}
    with connect() as db:
        return run_file(db, SQL / "eft.sql", frames, values).sort("generation_id")


def to_examples(judge: str, asked: pl.DataFrame, found: pl.DataFrame, judgments: pl.DataFrame) -> pl.DataFrame:
    """Return `prompts` rows: what the judge was asked, and as reference what it replied."""
    raw = judgments.select("generation_id", "vote_id", "raw")
    kept = (
        found.filter(pl.col("reason").is_null())
        .join(raw, on=["generation_id", "vote_id"])
        .join(asked.drop("prompt_id"), on="generation_id")
    )
    rows = []
    for row in kept.iter_rows(named=True):
        told = {"generation_id": row["generation_id"], "judge": judge, "score": row["value"], "human": row["human"]}
        rows.append(
            {
                "prompt_id": row["asked_id"],
                "split": "eft",
                "source": row["source"],
                "messages": row["asked"],
                "reference": row["raw"],
                "meta": json.dumps(told, sort_keys=True),
            }
        )
    return tables.frame("prompts", rows)


def funnel(found: pl.DataFrame) -> list[Row]:
    """Return the judgments counted by what became of them, the kept ones first and by score."""
    kept = pl.col("reason").is_null()
    outcome = pl.when(kept).then(pl.format("score {}", pl.col("value"))).otherwise(pl.col("reason"))
    counts = found.group_by(outcome=outcome, kept=kept).len("count").sort("kept", "outcome", descending=[True, False])
    return [{"step": "judgments", "source": "eft"} | row for row in counts.to_dicts()]
