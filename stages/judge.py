"""Stage judge: one model version scores another's responses to one split.

Two ways: `votes`, replies in the judge's own words, sampled and kept; `one_token`, nothing but the score, as the
distribution over the score tokens. Where the rubric says what a score looks like, votes carry that distribution too.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import polars as pl

from stages import paths, tables
from stages.asking import Ask, load_ask, rubric_hash
from stages.backends import Backend, Messages, Request, SamplingParams, open_backend
from stages.completing import Work, outcomes
from stages.errors import TsrError
from stages.ids import content_id, seed_for
from stages.params import Judge, Profile

_PLAN = {"request_id": pl.String, "generation_id": pl.String, "vote_id": pl.Int64, "seed": pl.Int64}


def run(seed: int, profile: Profile, judge: str, model: str, split: str) -> None:
    """Write `data/judgments/<judge>/<model>/<split>.parquet`: raw replies, not parsed."""
    prompts = tables.read("prompts", paths.prompts(split))
    generations = tables.read("generations", paths.generations(model, split))
    backend = open_backend(paths.model(judge), profile.judge.backend, profile.backends)
    work = Work(f"judge/{judge}/{model}/{split}", profile.judge.max_failed_share)
    rows = judge_all(seed, profile.judge, judge, prompts, generations, backend, work)
    tables.write("judgments", rows, paths.judgments(judge, model, split))


def judge_all(
    seed: int,
    settings: Judge,
    judge: str,
    prompts: pl.DataFrame,
    generations: pl.DataFrame,
    backend: Backend,
    work: Work,
) -> pl.DataFrame:
    """Return `judgments` rows: `settings.votes` replies on each generation, joined to its prompt by id.

    A response that failed has no text to be judged: it gets no vote.
    """
    ask = load_ask(settings.rubric)
    asked_hash = rubric_hash(settings.rubric)
    texts = _texts(prompts, generations)
    planned = pl.DataFrame(
        list(_plan(seed, settings, texts["generation_id"], backend, asked_hash)), schema=_PLAN, orient="row"
    )
    asked = _Asked(planned, {gid: (m, r) for gid, m, r in texts.iter_rows()}, ask, settings)
    done = outcomes(work.complete(backend, asked))
    made = planned.join(done, on="request_id", how="left", validate="1:1")
    score_of = pl.element().struct.field("token").replace_strict(ask.SCORES or {"": 0.0}, return_dtype=pl.Float64)
    digits = pl.struct(score=score_of, logprob=pl.element().struct.field("logprob"))
    return made.with_columns(
        judge=pl.lit(judge),
        judge_hash=pl.lit(backend.model_hash),
        rubric_hash=pl.lit(asked_hash),
        way=pl.lit(settings.way),
        backend=pl.lit(backend.name),
        raw=pl.col("text"),
        digit_logprobs=pl.col("score_logprobs").list.eval(digits),
        given_score=pl.lit(None, dtype=pl.Float64),
    ).select(list(tables.schema("judgments")))


def sampling_params(settings: Judge, ask: Ask) -> SamplingParams:
    """Return how a judge's reply is drawn, and which distribution is read."""
    tokens = tuple(ask.SCORES) if settings.distribution else ()
    if settings.way == "one_token":
        return SamplingParams(0.0, 1.0, 1, tuple(ask.SCORES))
    after = ask.SCORE_AFTER if tokens else ""
    return SamplingParams(settings.temperature, settings.top_p, settings.max_new_tokens, tokens, after)


@dataclass(frozen=True)
class _Asked:
    """The requests of planned votes; `texts` has prompt and response of each generation."""

    planned: pl.DataFrame
    texts: dict[str, tuple[Messages, str]]
    ask: Ask
    settings: Judge

    def __len__(self) -> int:
        return self.planned.height

    def __iter__(self) -> Iterator[Request]:
        asking = self.ask.one_token_prompt if self.settings.way == "one_token" else self.ask.judge_prompt
        sampling = sampling_params(self.settings, self.ask)
        for request_id, gid, seed in self.planned.select("request_id", "generation_id", "seed").iter_rows():
            yield Request(request_id, asking(*self.texts[gid]), seed, sampling)


def _plan(
    seed: int, settings: Judge, generation_ids: pl.Series, backend: Backend, asked_hash: str
) -> Iterator[tuple[Any, ...]]:
    """Yield the votes to ask for, as `_PLAN` has them."""
    for gid in generation_ids:
        for vote_id in range(settings.votes):
            row_seed = seed_for(seed, "judge", backend.model_hash, asked_hash, gid, vote_id)
            yield content_id("vote", gid, vote_id), gid, vote_id, row_seed


def _texts(prompts: pl.DataFrame, generations: pl.DataFrame) -> pl.DataFrame:
    """Return generation_id, messages and response of what can be judged.

    Raises TsrError for a generation without its prompt.
    """
    joined = generations.join(prompts.select("prompt_id", "messages"), on="prompt_id", how="left")
    if lost := joined.filter(pl.col("messages").is_null())["generation_id"].to_list():
        raise TsrError(f"generation {min(lost)}: its prompt is not in the split; {len(lost)} rows are like that")
    answered = joined.filter(pl.col("finish_reason") != "error").sort(
        "prompt_id", "generation_id"
    )  # neighbours share a prompt
    return answered.select("generation_id", "messages", "response")
