"""Tool mt-bench: a model version answers questions of two turns, and a judge grades either answer from 1 to 10."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from stages.backends import Messages, SamplingParams
from stages.chat_bench import prompts as asking
from stages.chat_bench import questions as reading
from stages.chat_bench.asking import Asker, answering, judging
from stages.chat_bench.keeping import interval, keep
from stages.chat_bench.questions import Question
from stages.ids import content_id
from stages.params import Params
from stages.sqlrun import SQL, connect, run_file

TASK = "mt_bench"
# As published: what is to be invented is sampled, what is to be right is not.
_SURE, _FREE = dict.fromkeys(("extraction", "math", "coding", "reasoning"), 0.0), {"writing": 0.7, "roleplay": 0.7}
TEMPERATURES = _SURE | _FREE | {"stem": 0.1, "humanities": 0.1}
OTHER = 0.7


def run(
    params: Params,
    model: str,
    *,
    judge: str,
    questions: Path,
    references: Path | None,
    prompts: Path | None,
    limit: int,
    answer_tokens: int,
    judge_tokens: int,
) -> None:
    """Answer, judge and write; print the score. `references` is the published file of reference answers.

    Raises TsrError before any work for files of another schema and models that are not there.
    """
    asked = reading.mt_bench(questions, references, limit)
    told_by = asking.published_mt(prompts) if prompts else asking.own()
    named = {"questions": questions, "references": references, "prompts": prompts}
    files = {name: path for name, path in named.items() if path}
    player = answering(params.block, params.seed, TASK, model)
    judges = judging(params.block, params.seed, TASK, judge, model)
    answers = _answers(player, asked, answer_tokens)
    player.backend.close()
    graded: dict[tuple[str, int], Messages] = {}
    for q in asked:
        for turn in range(1, len(answers[q.name]) + 1):
            graded[q.name, turn] = asking.mt(told_by, q, answers[q.name][:turn])
    how = SamplingParams(0.0, 1.0, judge_tokens)
    replies = judges.ask({key: (messages, how) for key, messages in graded.items()})
    judges.backend.close()
    judged = _judged(asked, replies, answers, {key: content_id("messages", m) for key, m in graded.items()})
    told = _score(params.seed, judged) | {"unanswered": 2 * len(asked) - len(graded)}
    told["settings"] = {"limit": limit, "answer_tokens": answer_tokens, "judge_tokens": judge_tokens}
    told["published_prompts"] = prompts is not None
    rows = judged.select("question", "metric", "response", "prompt_hash", "raw", "reason", value="rating")
    keep(TASK, told_by.version, model, judge, (player.backend, judges.backend), asked, rows, told, files)
    low_high = told["interval"]
    score = "no grade" if told["score"] is None else f"{told['score']:.2f} ({low_high[0]:.2f} to {low_high[1]:.2f})"
    turns = ", ".join(f"{turn.replace('_', ' ')} {mean:.2f}" for turn, mean in told["by_turn"].items())
    lost = "".join(f"; {reason} {count}" for reason, count in told["without_grade"].items())
    print(f"{TASK} {model}, judged by {judge}: {score} over {len(asked)} questions; {turns}{lost}")


def _answers(player: Asker, asked: list[Question], tokens: int) -> dict[str, list[str]]:
    """Return question id -> answers to its turns; a failed one ends them."""
    texts: dict[str, list[str]] = {q.name: [] for q in asked}
    for turn in (1, 2):
        going = [q for q in asked if len(texts[q.name]) == turn - 1]
        done = player.ask({(q.name, turn): _turn(q, texts[q.name], tokens) for q in going})
        for name, text, reason in done.select("question", "text", "finish_reason").iter_rows():
            if reason != "error":
                texts[name].append(text)
    return texts


def _turn(question: Question, before: list[str], tokens: int) -> tuple[Messages, SamplingParams]:
    """Return the conversation up to the user's next message, and how it is answered."""
    messages: Messages = []
    for asked, told in zip(question.turns, before, strict=False):
        messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": told}]
    messages.append({"role": "user", "content": question.turns[len(before)]})
    return messages, SamplingParams(TEMPERATURES.get(question.category, OTHER), 1.0, tokens)


def _judged(
    asked: list[Question], replies: pl.DataFrame, answers: dict[str, list[str]], hashes: dict[tuple[str, int], str]
) -> pl.DataFrame:
    """Return a row a grade: question, category, turn, metric, response, prompt_hash, rating, reason, raw."""
    place = {q.name: q.place for q in asked}
    told = replies.with_columns(
        item=pl.col("question").replace_strict(place, return_dtype=pl.Int64), turn="number", raw="text"
    )
    with connect() as db:
        read = run_file(db, SQL / "chat_bench" / "ratings.sql", {"replies": told}, {})
    keys = told.select("question", "number").rows()
    return told.with_columns(
        metric=pl.format("turn_{}", "turn"),
        category=pl.col("question").replace_strict({q.name: q.category for q in asked}, return_dtype=pl.String),
        response=pl.Series([answers[name][turn - 1] for name, turn in keys], dtype=pl.String),
        prompt_hash=pl.Series([hashes[key] for key in keys], dtype=pl.String),
    ).join(read, on=["item", "turn"], how="left")


def _score(seed: int, judged: pl.DataFrame) -> dict[str, Any]:
    """Return the mean grade, its interval over questions, and the means by turn and by category."""
    by_question = judged.group_by("item").agg(sum=pl.col("rating").sum(), count=pl.col("rating").count()).sort("item")
    sums, counts = (by_question[name].to_numpy().astype(np.float64) for name in ("sum", "count"))

    def means(column: str) -> dict[str, float]:
        found = judged.drop_nulls("rating").group_by(column).agg(pl.col("rating").mean()).sort(column)
        return dict(found.iter_rows())

    return {
        "score": float(sums.sum() / counts.sum()) if counts.any() else None,
        "interval": interval(seed, sums, counts),
        "by_turn": means("metric"),
        "by_category": means("category"),
        "without_grade": dict(judged.drop_nulls("reason").group_by("reason").len().sort("reason").iter_rows()),
    }
