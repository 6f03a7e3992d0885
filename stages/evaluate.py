"""Stage evaluate: a model version answers the held-out prompts and judges the fixed set.

Both are kept as tables, like those of the rounds. What the answers are worth is summed up here; the
judgments are parsed in the report, so that mending the parser judges nothing again.
"""

import math
from typing import Any

import polars as pl

from stages import paths, tables
from stages.backends import load_backend
from stages.generate import generate
from stages.judge import judge_all
from stages.metrics import write_json
from stages.params import Profile
from stages.runtime import prepare_torch
from stages.truth import true_scores


def run(seed: int, settings: Profile, model: str) -> None:
    """Write the model's responses to `eval`, its judgments of `fixed`, and what the answers are worth."""
    prepare_torch()
    prompts = tables.read("prompts", paths.prompts("eval"))
    fixed_prompts = tables.read("prompts", paths.prompts("fixed"))
    fixed = tables.read("generations", paths.generations(paths.WORLD, "fixed"))
    backend = load_backend(paths.model(model), settings.backend.tile_rows)
    sampling = settings.generate.model_copy(update={"samples": settings.evaluate.samples})
    answers = generate(seed, sampling, model, prompts, backend)
    judgments = judge_all(seed, settings.judge, model, fixed_prompts, fixed, backend)
    tables.write("generations", answers, paths.generations(model, "eval"))
    tables.write("judgments", judgments, paths.judgments(model, paths.WORLD, "fixed"))
    write_json(quality(answers, true_scores(prompts, answers)), paths.evaluation_json(model))


def quality(answers: pl.DataFrame, truth: pl.DataFrame) -> dict[str, Any]:
    """Return the true score of the responses: mean, its standard error over prompts, share at each score."""
    scored = answers.join(truth, on="generation_id")
    by_prompt = scored.group_by("prompt_id").agg(pl.col("truth").mean()).sort("prompt_id")["truth"]
    spread = by_prompt.std() if by_prompt.len() > 1 else None
    distinct = scored.group_by("prompt_id").agg(share=pl.col("response").n_unique() / pl.len()).sort("prompt_id")
    return {
        "true_score": by_prompt.mean(),
        "true_score_se": float(spread) / math.sqrt(by_prompt.len()) if isinstance(spread, float) else None,
        "finished": (scored["finish_reason"] == "stop").mean(),
        "response_tokens": scored["response_tokens"].mean(),
        "distinct_share": distinct["share"].mean(),
    }
