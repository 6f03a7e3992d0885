"""Tool arena-hard: a model version's answers against a baseline's, by a judge, in both orders.

The score is the published one: the weighted share of verdicts for the model, a clear one counting three times.
"""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from stages.backends import SamplingParams
from stages.chat_bench import prompts as asking
from stages.chat_bench import questions as reading
from stages.chat_bench.asking import answering, judging
from stages.chat_bench.keeping import interval, keep
from stages.chat_bench.questions import Question
from stages.errors import TsrError
from stages.ids import content_id
from stages.params import Params
from stages.sqlrun import SQL, connect, run_file

TASK = "arena_hard"


def run(
    params: Params,
    model: str,
    *,
    judge: str,
    questions: Path,
    baseline: str,
    prompts: Path | None,
    limit: int,
    answer_tokens: int,
    judge_tokens: int,
) -> None:
    """Answer, judge and write; print the score. `baseline` is a published file of answers, or a model version.

    Raises TsrError before any work for files of another schema, missing answers and models that are not there.
    """
    asked = reading.arena_hard(questions, limit)
    told_by = asking.published_arena(prompts) if prompts else asking.own()
    profile, files = params.block, {"questions": questions} | ({"prompts": prompts} if prompts else {})
    players = {"model": answering(profile, params.seed, TASK, model)}
    judges = judging(profile, params.seed, TASK, judge, model)
    given: dict[str, list[str]] = {}
    if baseline.endswith(".jsonl"):
        files["baseline"] = Path(baseline)
        given = _given(Path(baseline), asked)
    else:
        players["baseline"] = answering(profile, params.seed, TASK, baseline)
    how = SamplingParams(0.0, 1.0, answer_tokens)
    texts = {}
    for who, player in players.items():
        done = player.ask({(q.name, 1): ([{"role": "user", "content": q.turns[0]}], how) for q in asked})
        texts[who] = {
            name: text
            for name, text, reason in done["question", "text", "finish_reason"].iter_rows()
            if reason != "error"
        }
        player.backend.close()
    texts.setdefault("baseline", {name: told[0] for name, told in given.items()})
    games = {}
    for q in asked:
        if q.name in texts["model"] and q.name in texts["baseline"]:
            mine, other = texts["model"][q.name], texts["baseline"][q.name]
            for game, pair in ((1, (other, mine)), (2, (mine, other))):
                games[q.name, game] = asking.arena(told_by, q.turns[0], *pair), SamplingParams(0.0, 1.0, judge_tokens)
    replies = judges.ask(games)
    judges.backend.close()
    judged = _judged(asked, replies, texts["model"], {key: content_id("messages", m) for key, (m, _) in games.items()})
    told = _score(params.seed, judged) | {"unanswered": len(asked) - len(games) // 2, "baseline": Path(baseline).name}
    told["settings"] = {
        "limit": limit,
        "answer_tokens": answer_tokens,
        "judge_tokens": judge_tokens,
        "temperature": 0.0,
    }
    told["published_prompts"] = prompts is not None
    rows = judged.select("question", "metric", "response", "prompt_hash", "raw", "reason", value="points")
    keep(TASK, told_by.version, model, judge, (players["model"].backend, judges.backend), asked, rows, told, files)
    low_high = told["interval"]
    score = "no verdict" if told["score"] is None else f"{told['score']:.1%} ({low_high[0]:.1%} to {low_high[1]:.1%})"
    lost = "".join(f"; {reason} {count}" for reason, count in told["without_verdict"].items())
    print(f"{TASK} {model} against {told['baseline']}, judged by {judge}: {score} over {len(asked)} questions{lost}")


def _given(path: Path, asked: list[Question]) -> dict[str, list[str]]:
    given = reading.answers(path)
    if lost := [q.name for q in asked if q.name not in given]:
        raise TsrError(f"{path}: no answer to question {lost[0]}; {len(lost)} of {len(asked)} have none")
    return given


def _judged(
    asked: list[Question], replies: pl.DataFrame, answers: dict[str, str], hashes: dict[tuple[str, int], str]
) -> pl.DataFrame:
    """Return a row a game: question, metric, response, prompt_hash, points, weight, reason, raw."""
    place = {q.name: q.place for q in asked}
    told = replies.with_columns(
        item=pl.col("question").replace_strict(place, return_dtype=pl.Int64), game="number", raw="text"
    )
    with connect() as db:
        read = run_file(db, SQL / "chat_bench" / "arena_verdicts.sql", {"replies": told}, {})
    keys = told.select("question", "number").rows()
    return told.with_columns(
        metric=pl.format("game_{}", "game"),
        response=pl.col("question").replace_strict(answers, return_dtype=pl.String),
        prompt_hash=pl.Series([hashes[key] for key in keys], dtype=pl.String),
    ).join(read, on=["item", "game"], how="left")


def _score(seed: int, judged: pl.DataFrame) -> dict[str, Any]:
    """Return the score, its interval over questions, and the verdicts that it is made of."""
    by_question = (
        judged.group_by("item")
        .agg(points=(pl.col("points") * pl.col("weight")).sum(), weight=pl.col("weight").sum())
        .sort("item")
    )
    points, weights = (by_question[name].to_numpy().astype(np.float64) for name in ("points", "weight"))
    labels = judged.drop_nulls("label").group_by("metric", "label").len().sort("metric", "label")
    return {
        "score": float(points.sum() / weights.sum()) if weights.any() else None,
        "interval": interval(seed, points, weights),
        "verdicts": {f"{metric} {label}": count for metric, label, count in labels.iter_rows()},
        "without_verdict": dict(judged.drop_nulls("reason").group_by("reason").len().sort("reason").iter_rows()),
    }
