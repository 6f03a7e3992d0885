"""Stage evaluate: a model version answers the held-out prompts, and its judge scores the fixed set.

Both are kept as tables, like those of the rounds. What the answers are worth is summed up here; the
judgments are parsed in the report, so that mending the parser judges nothing again. The fixed set is judged in
every way that the rubric allows, so that the report can hold them against each other.
"""

import math
from typing import Any

import polars as pl

from stages import paths, tables
from stages.asking import load_ask
from stages.backends import Backend, open_backend
from stages.completing import Work
from stages.generate import generate
from stages.judge import judge_all
from stages.metrics import write_json
from stages.params import Judge, Profile
from stages.truth import true_scores


def run(seed: int, settings: Profile, model: str, judge: str) -> None:
    """Write the model's responses to `eval`, judgments of `fixed`, and what the answers are worth.

    `judge` judges what this model answers: itself, unless all have one judge.
    """
    prompts = tables.read("prompts", paths.prompts("eval"))
    backend = open_backend(paths.model(model), settings.generate.backend, settings.backends)
    answers = answer(seed, settings, model, prompts, backend)
    if (judge, settings.judge.backend) != (model, settings.generate.backend):
        backend.close()  # two engines at a time may not fit
        backend = open_backend(paths.model(judge), settings.judge.backend, settings.backends)
    judgments = judge_fixed(seed, settings, model, judge, backend)
    backend.close()
    tables.write("generations", answers, paths.generations(model, "eval"))
    tables.write("judgments", judgments, paths.judgments(model, paths.WORLD, "fixed"))
    write_json(quality(answers, true_scores(prompts, answers)), paths.evaluation_json(model))


def answer(seed: int, settings: Profile, model: str, prompts: pl.DataFrame, backend: Backend) -> pl.DataFrame:
    """Return the model's responses to the held-out prompts, sampled as in the rounds."""
    sampling = settings.generate.model_copy(update={"samples": settings.evaluate.samples})
    work = Work(f"generate/{model}/eval", sampling.max_failed_share)
    return generate(seed, sampling, model, prompts, backend, work)


def judge_fixed(seed: int, settings: Profile, model: str, judge: str, backend: Backend) -> pl.DataFrame:
    """Return the judgments of the fixed set by the judge of `model`, in every way that the rubric allows."""
    prompts = tables.read("prompts", paths.prompts("fixed"))
    fixed = tables.read("generations", paths.generations(paths.WORLD, "fixed"))
    parts = []
    for way, votes in fixed_ways(settings.judge).items():
        asked = settings.judge.model_copy(update={"way": way, "votes": votes})
        work = Work(f"judge/{model}/world/fixed.{way}", asked.max_failed_share)
        parts.append(judge_all(seed, asked, judge, prompts, fixed, backend, work))
    return pl.concat(parts)


def fixed_ways(settings: Judge) -> dict[str, int]:
    """Return the ways in which the fixed set is judged, with the votes of each."""
    votes = settings.votes if settings.way == "votes" else 1
    reads = settings.way == "one_token" or settings.distribution  # else the engine may have no distributions
    return {"votes": votes} | ({"one_token": 1} if reads and load_ask(settings.rubric).SCORES else {})


def quality(answers: pl.DataFrame, truth: pl.DataFrame) -> dict[str, Any]:
    """Return the true score of the responses: mean, its standard error over prompts, share at each score."""
    scored = answers.join(truth, on="generation_id")
    known = scored.drop_nulls("truth")  # a failed request is no wrong answer
    by_prompt = known.group_by("prompt_id").agg(pl.col("truth").mean()).sort("prompt_id")["truth"]
    spread = by_prompt.std() if by_prompt.len() > 1 else None
    distinct = scored.group_by("prompt_id").agg(share=pl.col("response").n_unique() / pl.len()).sort("prompt_id")
    return {
        "true_score": by_prompt.mean(),
        "true_score_se": float(spread) / math.sqrt(by_prompt.len()) if isinstance(spread, float) else None,
        "finished": (scored["finish_reason"] == "stop").mean(),
        "response_tokens": scored["response_tokens"].mean(),
        "distinct_share": distinct["share"].mean(),
    }
