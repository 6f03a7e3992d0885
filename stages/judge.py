"""Stage judge: one model version scores another's responses to one split, in its own words."""

from collections.abc import Iterator
from typing import Any

import polars as pl

from stages import paths, tables
from stages.asking import load_ask, rubric_hash
from stages.backends import Backend, Request, SamplingParams, load_backend
from stages.errors import TsrError
from stages.ids import content_id, seed_for
from stages.params import Judge, Profile
from stages.progress import progress
from stages.runtime import prepare_torch


def run(seed: int, profile: Profile, judge: str, model: str, split: str) -> None:
    """Write `data/judgments/<judge>/<model>/<split>.parquet`: raw replies, not parsed."""
    prepare_torch()
    prompts = tables.read("prompts", paths.prompts(split))
    generations = tables.read("generations", paths.generations(model, split))
    backend = load_backend(paths.model(judge), profile.backend.tile_rows)
    rows = judge_all(seed, profile.judge, judge, prompts, generations, backend)
    tables.write("judgments", rows, paths.judgments(judge, model, split))


def judge_all(
    seed: int, settings: Judge, judge: str, prompts: pl.DataFrame, generations: pl.DataFrame, backend: Backend
) -> pl.DataFrame:
    """Return `judgments` rows: `settings.votes` replies on each generation, joined to its prompt by id."""
    sampling = SamplingParams(settings.temperature, settings.top_p, settings.max_new_tokens)
    asked = rubric_hash(settings.rubric)
    identity = {"judge": judge, "judge_hash": backend.model_hash, "rubric_hash": asked, "digit_logprobs": None}
    votes: dict[str, dict[str, Any]] = {}
    requests = []
    for gid, messages in _judge_prompts(settings.rubric, prompts, generations):
        for vote_id in range(settings.votes):
            row_seed = seed_for(seed, "judge", backend.model_hash, asked, gid, vote_id)
            request_id = content_id("vote", gid, vote_id)
            votes[request_id] = {"generation_id": gid, "vote_id": vote_id, "seed": row_seed, **identity}
            requests.append(Request(request_id, messages, row_seed))
    done = []
    with progress(f"judge {judge}", len(requests)) as advance:
        for completion in backend.complete(requests, sampling):
            outcome = {
                "raw": completion.text,
                "finish_reason": completion.finish_reason,
                "prompt_tokens": completion.prompt_tokens,
                "response_tokens": completion.response_tokens,
            }
            done.append(votes[completion.request_id] | outcome)
            advance()
    return tables.frame("judgments", done)


def _judge_prompts(
    rubric: str, prompts: pl.DataFrame, generations: pl.DataFrame
) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """Yield (generation_id, judge messages). Raises TsrError for a generation without its prompt."""
    ask = load_ask(rubric).judge_prompt
    joined = generations.join(prompts.select("prompt_id", "messages"), on="prompt_id", how="left")
    if lost := joined.filter(pl.col("messages").is_null())["generation_id"].to_list():
        raise TsrError(f"generation {min(lost)}: its prompt is not in the split; {len(lost)} rows are like that")
    for gid, messages, response in joined.select("generation_id", "messages", "response").iter_rows():
        yield gid, ask(messages, response)
