"""Texts asked of an engine, one a key: answers of the model that is graded, and replies of the judge."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from stages import paths
from stages.backends import Backend, Messages, Request, SamplingParams, open_backend
from stages.completing import Work, outcomes
from stages.ids import content_id, seed_for
from stages.models import endpoint
from stages.params import Profile

Key = tuple[str, int]  # a question's id, and which of its turns or games
TAKEN = ("text", "finish_reason", "error")


@dataclass(frozen=True)
class Asker:
    """An engine, and the label under which its finished rows are kept."""

    label: str
    backend: Backend
    seed: int
    max_failed_share: float

    def ask(self, asked: Mapping[Key, tuple[Messages, SamplingParams]]) -> pl.DataFrame:
        """Return question, number, text, finish_reason and error for each key."""
        requests = _Requests(self, asked)
        done = outcomes(Work(self.label, self.max_failed_share).complete(self.backend, requests))
        keys = pl.DataFrame(
            [(self.name(key), *key) for key in asked],
            schema={"request_id": pl.String, "question": pl.String, "number": pl.Int64},
            orient="row",
        )
        return keys.join(done, on="request_id", how="left", validate="1:1").select("question", "number", *TAKEN)

    def name(self, key: Key) -> str:
        """Return a request's id."""
        return content_id("asked", self.label, *key)


@dataclass(frozen=True)
class _Requests:
    asker: Asker
    asked: Mapping[Key, tuple[Messages, SamplingParams]]

    def __len__(self) -> int:
        return len(self.asked)

    def __iter__(self) -> Iterator[Request]:
        for key, (messages, sampling) in self.asked.items():
            seed = seed_for(self.asker.seed, self.asker.label, self.asker.backend.model_hash, *key)
            yield Request(self.asker.name(key), messages, seed, sampling)


def open_for(folder: Path, named: str, profile: Profile) -> Backend:
    """Return the engine of a model folder: `named`, or openai for one that runs elsewhere."""
    return open_backend(folder, "openai" if endpoint(folder) else named, profile.backends)


def answering(profile: Profile, seed: int, task: str, model: str) -> Asker:
    """Return what asks a model version for answers. Raises TsrError for a model that is not there."""
    backend = open_for(paths.model(model), profile.generate.backend, profile)
    return Asker(f"{task}/{model}", backend, seed, profile.generate.max_failed_share)


def judging(profile: Profile, seed: int, task: str, judge: str, model: str) -> Asker:
    """Return what asks a judge. Raises TsrError for a judge that is not there."""
    backend = open_for(paths.model(judge), profile.judge.backend, profile)
    return Asker(f"{task}/{judge}/{model}", backend, seed, profile.judge.max_failed_share)
