"""Engines that complete requests: one protocol, one module each.

A backend takes requests and yields completions in any order; callers join them by `request_id`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class Request:
    """One text to be completed. `seed` alone decides its sampling."""

    request_id: str
    messages: list[dict[str, str]]
    seed: int


@dataclass(frozen=True)
class SamplingParams:
    """How completions are drawn; `temperature` 0 takes the likeliest token."""

    temperature: float
    top_p: float
    max_new_tokens: int


@dataclass(frozen=True)
class Completion:
    """One completed request. `logprob_sum` is at temperature 1, in nats, the end token included."""

    request_id: str
    text: str
    finish_reason: str
    prompt_tokens: int
    response_tokens: int
    logprob_sum: float


class Backend(Protocol):
    """What every engine offers."""

    name: str
    model_hash: str
    template_hash: str

    def complete(self, requests: Iterable[Request], sampling: SamplingParams) -> Iterator[Completion]:
        """Yield one completion a request, as they finish, in any order."""
        ...


def load_backend(folder: Path, tile_rows: int) -> Backend:
    """Return the backend for a model folder."""
    from stages.backends.transformers import TransformersBackend

    return TransformersBackend(folder, tile_rows)
