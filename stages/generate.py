"""Stage generate: one model version answers one prompt split, K samples a prompt."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import polars as pl

from stages import paths, tables
from stages.backends import Backend, Messages, Request, SamplingParams, open_backend
from stages.completing import Work, outcomes
from stages.ids import content_id, seed_for
from stages.params import Generate, Profile

_PLAN = {"generation_id": pl.String, "prompt_id": pl.String, "sample_id": pl.Int64, "seed": pl.Int64}


def run(seed: int, profile: Profile, model: str, split: str) -> None:
    """Write `data/generations/<model>/<split>.parquet`."""
    prompts = tables.read("prompts", paths.prompts(split))
    backend = open_backend(paths.model(model), profile.generate.backend, profile.backends)
    work = Work(f"generate/{model}/{split}", profile.generate.max_failed_share)
    rows = generate(seed, profile.generate, model, prompts, backend, work)
    tables.write("generations", rows, paths.generations(model, split))


def generate(
    seed: int, settings: Generate, model: str, prompts: pl.DataFrame, backend: Backend, work: Work
) -> pl.DataFrame:
    """Return `generations` rows: `settings.samples` responses to each prompt.

    A row's seed comes from the run's seed, the weights, the prompt and the sample number, so it does not
    depend on the order or number of rows, and a larger K keeps the first samples.
    """
    sampling = SamplingParams(settings.temperature, settings.top_p, settings.max_new_tokens)
    planned = pl.DataFrame(list(_plan(seed, settings.samples, prompts, backend, sampling)), schema=_PLAN, orient="row")
    asked = _Asked(planned, dict(prompts.select("prompt_id", "messages").iter_rows()), sampling)
    done = outcomes(work.complete(backend, asked))
    made = planned.join(done, left_on="generation_id", right_on="request_id", how="left", validate="1:1")
    return made.with_columns(
        model=pl.lit(model),
        model_hash=pl.lit(backend.model_hash),
        backend=pl.lit(backend.name),
        response=pl.col("text"),
    ).select(list(tables.schema("generations")))


@dataclass(frozen=True)
class _Asked:
    """The requests of planned rows."""

    planned: pl.DataFrame
    messages: dict[str, Messages]
    sampling: SamplingParams

    def __len__(self) -> int:
        return self.planned.height

    def __iter__(self) -> Iterator[Request]:
        for gid, pid, seed in self.planned.select("generation_id", "prompt_id", "seed").iter_rows():
            yield Request(gid, self.messages[pid], seed, self.sampling)


def _plan(
    seed: int, samples: int, prompts: pl.DataFrame, backend: Backend, sampling: SamplingParams
) -> Iterator[tuple[Any, ...]]:
    """Yield the rows to make, as `_PLAN` has them."""
    how = [sampling.temperature, sampling.top_p, sampling.max_new_tokens, backend.template_hash]
    for pid in prompts["prompt_id"]:
        for sample_id in range(samples):
            row_seed = seed_for(seed, "generate", backend.model_hash, pid, sample_id)
            gid = content_id("generation", backend.model_hash, pid, sample_id, row_seed, *how)
            yield gid, pid, sample_id, row_seed
