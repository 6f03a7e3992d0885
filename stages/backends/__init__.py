"""Engines that complete requests: one protocol, one module each.

A backend takes a stream of requests and yields completions as they finish, in any order; callers join
them by `request_id`. A module `NAME.py` here has `Settings`, its block under `backends` in params.yaml,
and `open_backend(folder, settings)`. Opening one is cheap: nothing heavy is imported, and no weights are
read but to be hashed, before the first request has to be completed.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, Protocol, cast

from stages.block import Block
from stages.errors import TsrError
from stages.ids import content_id, file_sha256

FinishReason = Literal["stop", "length", "error"]
Status = Literal["ok", "too_long", "refused", "timeout", "server_error"]
Messages = list[dict[str, str]]
_MARKS = " \t\r\n*_`"  # may stand between a label and its score


@dataclass(frozen=True)
class SamplingParams:
    """How completions are drawn; `temperature` 0 takes the likeliest token.

    With `score_tokens`, the log-probabilities of these tokens (each text must be one token) are read where the score
    stands: right after the last `score_after` in the reply, or at its first token where that is empty.
    """

    temperature: float
    top_p: float
    max_new_tokens: int
    score_tokens: tuple[str, ...] = ()
    score_after: str = ""


@dataclass(frozen=True)
class Request:
    """One text to be completed. `seed`, in [0, 2**63), alone decides its sampling.

    Where the last message is the assistant's, the reply goes on from it: such a message is never closed.
    """

    request_id: str
    messages: Messages
    seed: int
    sampling: SamplingParams


@dataclass(frozen=True)
class Completion:
    """One completed request, or one that failed for good.

    `logprob_sum` is at temperature 1, in nats, the end token included; None where the engine does not tell.
    `score_logprobs` are (score token, log-probability), not renormalised, in the order of `score_tokens`; tokens that
    the engine does not report are left out, and it is None where none was asked for or no score position was found.
    A failed request has finish_reason `error`, a `status` other than `ok`, and says in `error` what happened, in
    words that are the same in every run.
    """

    request_id: str
    text: str
    finish_reason: FinishReason
    prompt_tokens: int
    response_tokens: int
    logprob_sum: float | None
    score_logprobs: tuple[tuple[str, float], ...] | None = None
    status: Status = "ok"
    error: str | None = None


class RefusedError(Exception):
    """A request that an engine or a chat template does not take; the message says why. Others may go through."""


def failed(request: Request, status: Status, error: str) -> Completion:
    """Return the completion of a request that failed for good."""
    return Completion(request.request_id, "", "error", 0, 0, None, status=status, error=error)


class Backend(Protocol):
    """What every engine offers. `version` is a hash of all but weights and request that decides a completion."""

    name: str
    model_hash: str
    template_hash: str
    version: str

    def complete(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """Yield one completion a request, as they finish, in any order.

        Reads the stream as it goes. Raises TsrError for what would fail every request.
        """
        ...

    def close(self) -> None:
        """Give memory and connections back."""
        ...


class Module(Protocol):
    """What a module in this folder offers."""

    Settings: type[Block]

    def open_backend(self, folder: Path, settings: Any) -> Backend:
        """Return the backend for a model folder."""
        ...


def backends() -> list[str]:
    """Return the names of the backends there are."""
    return sorted(path.stem for path in Path(__file__).parent.glob("[a-z]*.py"))


def load_module(name: str) -> Module:
    """Return a backend's module. Raises TsrError for a name that is none."""
    if name not in backends():
        raise TsrError(f"no backend {name!r}; there are: {', '.join(backends())}")
    return cast(Module, import_module(f"stages.backends.{name}"))


def open_backend(folder: Path, name: str, settings: dict[str, Block]) -> Backend:
    """Return the backend `name` for a model folder; `settings` are the profile's `backends`."""
    return load_module(name).open_backend(folder, settings[name])


def own_sources(*files: str) -> list[Path]:
    """Return the files of `stages` whose code decides a local backend's completions: these, and what all share."""
    root = Path(__file__).parents[1]
    return [root / name for name in ("backends/__init__.py", "models.py", *files)]


def code_version(files: Iterable[Path], packages: Iterable[str], decides: dict[str, Any]) -> str:
    """Return a backend's `version`: the hash of its source files, its libraries' versions and deciding settings."""
    sources = [[file.name, file_sha256(file)] for file in files]
    return content_id("backend", sources, [[name, _installed(name)] for name in packages], decides)


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def score_position(pieces: list[str], after: str) -> int | None:
    """Return the index of the token that follows the last `after` in a reply given as its tokens' texts.

    White space and Markdown's marks between the two are skipped. None if there is no such token; 0 if `after` is empty.

    >>> score_position(["a", "+", " ", "=", "4"], "="), score_position(["**Score:", "**", " ", "4"], "Score:")
    (4, 3)
    """
    if not after:
        return 0 if pieces else None
    text, found = "", None
    for index, piece in enumerate(pieces):
        if piece.strip(_MARKS) and text.rstrip(_MARKS).endswith(after):
            found = index
        text += piece
    return found
