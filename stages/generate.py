"""Stage generate: one model version answers one prompt split, K samples a prompt."""

from collections.abc import Iterator
from typing import Any

import polars as pl

from stages import paths, tables
from stages.backends import Backend, Completion, Request, SamplingParams, load_backend
from stages.ids import content_id, seed_for
from stages.params import Generate, Profile
from stages.progress import progress
from stages.runtime import prepare_torch


def run(seed: int, profile: Profile, model: str, split: str) -> None:
    """Write `data/generations/<model>/<split>.parquet`."""
    prepare_torch()
    prompts = tables.read("prompts", paths.prompts(split))
    backend = load_backend(paths.model(model), profile.backend.tile_rows)
    rows = generate(seed, profile.generate, model, prompts, backend)
    tables.write("generations", rows, paths.generations(model, split))


def sampling_params(settings: Generate) -> SamplingParams:
    """Return the part of the settings that decides a response."""
    return SamplingParams(settings.temperature, settings.top_p, settings.max_new_tokens)


def generate(seed: int, settings: Generate, model: str, prompts: pl.DataFrame, backend: Backend) -> pl.DataFrame:
    """Return `generations` rows: `settings.samples` responses to each prompt.

    A row's seed comes from the run's seed, the weights, the prompt and the sample number, so it does not
    depend on the order or number of rows, and a larger K keeps the first samples.
    """
    sampling = sampling_params(settings)
    planned = {row["generation_id"]: row for row in _plan(seed, settings.samples, model, prompts, backend, sampling)}
    messages = dict(prompts.select("prompt_id", "messages").iter_rows())
    requests = (Request(gid, messages[row["prompt_id"]], row["seed"]) for gid, row in planned.items())
    done = []
    with progress(f"generate {model}", len(planned)) as advance:
        for completion in backend.complete(requests, sampling):
            done.append(planned[completion.request_id] | _outcome(completion))
            advance()
    return tables.frame("generations", done)


def _plan(
    seed: int, samples: int, model: str, prompts: pl.DataFrame, backend: Backend, sampling: SamplingParams
) -> Iterator[dict[str, Any]]:
    """Yield the rows to make, without their outcome."""
    how = [sampling.temperature, sampling.top_p, sampling.max_new_tokens, backend.template_hash]
    for pid in prompts["prompt_id"]:
        for sample_id in range(samples):
            row_seed = seed_for(seed, "generate", backend.model_hash, pid, sample_id)
            yield {
                "generation_id": content_id("generation", backend.model_hash, pid, sample_id, row_seed, *how),
                "model": model,
                "model_hash": backend.model_hash,
                "prompt_id": pid,
                "sample_id": sample_id,
                "seed": row_seed,
                "backend": backend.name,
            }


def _outcome(completion: Completion) -> dict[str, Any]:
    return {
        "response": completion.text,
        "finish_reason": completion.finish_reason,
        "prompt_tokens": completion.prompt_tokens,
        "response_tokens": completion.response_tokens,
        "logprob_sum": min(completion.logprob_sum, 0.0),
    }
