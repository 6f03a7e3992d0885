"""The backend for OpenAI-compatible servers: clouds, vLLM, llama.cpp and whatever speaks chat/completions.

The model asked for is the one that `endpoint.json` names, else the folder's own name: somebody serves these weights
under it. Only the settings of a request are sent; what is not sent is the server's to decide, such as a `top_k` that
vLLM takes from the model's generation_config.json (`--generation-config vllm` turns that off). Whether a seed gives
the same text twice is the server's promise, not this module's: clouds call it best effort. vLLM on the CPU keeps it to
the last bit, whatever the order and the concurrency. Control tokens that a model draws are not in the text.
"""

import asyncio
import math
import os
import random
import re
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from email.utils import parsedate_to_datetime
from itertools import chain
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Annotated, Any, TypeGuard, TypeVar

from pydantic import BaseModel, Field, ValidationError, field_validator

from stages.backends import Completion, FinishReason, Request, Status, code_version, failed, score_position
from stages.block import Block, Positive
from stages.errors import TsrError
from stages.models import endpoint, model_hash, template_hash

if TYPE_CHECKING:
    from openai import APIStatusError, AsyncOpenAI

BACKOFF_S = 0.5  # the first wait before another try; it doubles with every further one
MAX_BACKOFF_S = 30.0
MAX_RETRY_AFTER_S = 120.0  # a server that asks for more is tried again earlier: nobody watches an idle run for hours
TOP_LOGPROBS = 20  # the most that OpenAI gives, and vLLM unless it is started with more

_SEED_BITS = 31  # llama.cpp reads 32 bits, others a signed 32-bit number; JSON readers lose bits beyond 53
_NO_PROBABILITY = -9999.0  # how servers write minus infinity, for which JSON has no word
_AGAIN = {408, 409, 429}
_BAD_REQUEST = {400, 413, 422}
_QUOTA = {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"}
_TOO_LONG = re.compile(
    r"context_length_exceeded|exceed_context_size|context (length|size|window)|maximum context|too many tokens"
    r"|prompt is too long|input is too long",
    re.IGNORECASE,
)
_FINISH: dict[str, FinishReason] = {"stop": "stop", "length": "length"}

T = TypeVar("T")


class Settings(Block):
    """Which server, and how it is asked.

    `api_key_env` names the environment variable that holds the key; for a local server it may be unset.
    `budget_tokens` caps prompt and completion tokens of one backend, 0 for no cap; requests in flight when it
    is reached are finished, so it may be passed by as much as `concurrency` of them cost.
    """

    base_url: str
    api_key_env: str
    concurrency: Annotated[int, Field(ge=1, le=1000)]  # the client opens no more connections
    timeout_s: Positive
    retries: Annotated[int, Field(ge=0)]
    budget_tokens: Annotated[int, Field(ge=0)]
    logprobs: bool

    @field_validator("base_url")
    @classmethod
    def _is_url(cls, base_url: str) -> str:
        if not base_url.startswith(("http://", "https://")):
            raise ValueError(f"expected http://... or https://..., got {base_url!r}")
        return base_url


class _TopToken(BaseModel):
    token: str
    logprob: float | None = None
    bytes: list[int] | None = None


class _Token(_TopToken):
    top_logprobs: list[_TopToken] | None = None


class _Logprobs(BaseModel):
    content: list[_Token] | None = None


class _Message(BaseModel):
    content: str | None = None
    refusal: str | None = None


class _Choice(BaseModel):
    finish_reason: str
    message: _Message
    logprobs: _Logprobs | None = None

    def tokens(self) -> list[_Token]:
        return (self.logprobs.content if self.logprobs else None) or []


class _Usage(BaseModel):
    prompt_tokens: int
    completion_tokens: int = 0


class _Reply(BaseModel):
    """What is read of a reply. The client's own types are built unchecked, so this is where garbage shows."""

    model: str
    choices: Annotated[list[_Choice], Field(min_length=1)]
    usage: _Usage | None = None


class _Named(BaseModel):
    id: str


class _Listed(BaseModel):
    data: list[_Named]


class _AgainError(Exception):
    """One try failed, another may not. `lost`: no server was heard."""

    def __init__(self, status: Status, words: str, retry_after: float = 0, *, lost: bool = False) -> None:
        super().__init__(words)
        self.status, self.words, self.retry_after, self.lost = status, words, retry_after, lost


class OpenAiBackend:
    """Completes requests with a server that speaks OpenAI's chat/completions.

    A trailing assistant message is to be continued. That is asked for with vLLM's `add_generation_prompt=False` and
    `continue_final_message=True`; not every server honours it: llama.cpp continues such a message of itself, and
    OpenAI refuses the parameters.
    """

    name = "openai"

    def __init__(self, folder: Path, settings: Settings) -> None:
        said = endpoint(folder) or {}
        self.model_hash = model_hash(folder)
        self.template_hash = template_hash(folder)
        # The client's version is no part of it: it decides how a request travels, not what is answered.
        files = [Path(__file__), Path(__file__).with_name("__init__.py")]
        self._model = said.get("model", folder.absolute().name)
        if "base_url" in said:
            _check_url(folder, said["base_url"])
            settings = settings.model_copy(update={"base_url": said["base_url"]})
        # Where there are no weights to be hashed, a name means what its server makes of it.
        decides = {"logprobs": settings.logprobs, "base_url": settings.base_url if said else None}
        self.version = code_version(files, [], decides)
        self._settings = settings
        self._tokens = 0  # spent so far: a stage may ask more than once

    def complete(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """Yield completions as they finish, with at most `concurrency` requests in flight.

        The stream is read no further than that. A closed generator cancels what is in flight.
        """
        stream = iter(requests)
        first = next(stream, None)
        if first is None:
            return
        with _Session(self._model, self._settings) as session:
            session.tokens = self._tokens
            session.check()
            try:
                yield from _windowed(session, chain([first], stream), self._settings)
            finally:
                self._tokens = session.tokens

    def close(self) -> None:
        """Do nothing: connections live as long as a `complete` does."""


def open_backend(folder: Path, settings: Settings) -> OpenAiBackend:
    """Return the backend for a model folder; no connection is opened."""
    return OpenAiBackend(folder, settings)


def _check_url(folder: Path, base_url: str) -> None:
    if not base_url.startswith(("http://", "https://")):
        raise TsrError(f"{folder / 'endpoint.json'}: base_url: expected http://... or https://..., got {base_url!r}")


def _windowed(session: "_Session", stream: Iterator[Request], settings: Settings) -> Iterator[Completion]:
    running: set[Future[Completion]] = set()
    more = True
    while True:
        while more and len(running) < settings.concurrency and not session.spent():
            request = next(stream, None)
            if request is None:
                more = False
            else:
                running.add(session.send(request))
        if not running:
            break
        done, running = wait(running, return_when=FIRST_COMPLETED)
        broken = [future for future in done if future.exception()]
        yield from (future.result() for future in done if not future.exception())  # paid for, so kept
        if broken:
            broken[0].result()
    if more and next(stream, None) is not None:
        raise TsrError(
            f"budget of {settings.budget_tokens} tokens is spent: {session.tokens} were used; finished rows are kept; "
            "raise backends.openai.budget_tokens and run again"
        )


class _Session:
    """One connection to a server, with an event loop in a thread of its own.

    So replies come in, and time-outs are true, while the caller is busy with those it has.
    """

    def __init__(self, model: str, settings: Settings) -> None:
        self._model, self._settings = model, settings
        self._where = re.sub(r"//[^/@]*@", "//", settings.base_url)  # a URL may hold a password
        self._key = _key(settings.api_key_env)
        self._client = _client(settings.base_url, self._key)
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="openai backend", daemon=True)
        self._tasks: set[asyncio.Task[Any] | None] = set()
        self.tokens = 0

    def __enter__(self) -> "_Session":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        tasks = [task for task in self._tasks if task]
        for task in tasks:  # not all there are: the client ends its own, and warns where somebody else does
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._client.close()
        await self._loop.shutdown_asyncgens()
        await self._loop.shutdown_default_executor()

    def spent(self) -> bool:
        """Return whether the budget is used up."""
        return 0 < self._settings.budget_tokens <= self.tokens

    def send(self, request: Request) -> "Future[Completion]":
        """Send a request; the future fails with TsrError for what would fail every request."""
        return self._start(self._complete(request))

    def check(self) -> None:
        """Raise TsrError where the server cannot be reached or lists other models than the wanted one."""
        self._start(self._check()).result()

    def _start(self, work: Coroutine[Any, Any, T]) -> "Future[T]":
        return asyncio.run_coroutine_threadsafe(self._owned(work), self._loop)

    async def _owned(self, work: Coroutine[Any, Any, T]) -> T:
        task = asyncio.current_task()
        self._tasks.add(task)
        try:
            return await work
        finally:
            self._tasks.discard(task)

    async def _check(self) -> None:
        try:
            listed = await self._tries(self._list)
        except _AgainError as fault:
            if fault.lost or fault.status == "timeout":
                raise self._unreachable(fault) from None
            return  # it is there: the first request says more
        if listed and self._model not in listed:
            names = ", ".join(sorted(listed)[:10]) + (", ..." if len(listed) > 10 else "")
            raise TsrError(f"{self._where}: the server has no model {self._model!r}; it lists: {names}")

    async def _list(self) -> list[str]:
        """Return the names of the models that the server lists; none where it has no such list."""
        from openai import APIStatusError

        try:
            body = await self._call(self._client.models.with_raw_response.list)
        except APIStatusError as error:
            if error.status_code == 401:
                raise self._fatal(error) from None
            return []  # a key that may not list models may still complete
        try:
            return [model.id for model in _Listed.model_validate_json(body).data]
        except ValidationError:
            return []

    async def _complete(self, request: Request) -> Completion:
        try:
            return await self._tries(lambda: self._ask(request))
        except _AgainError as fault:
            if fault.lost:
                await self._check_alive()
            return failed(request, fault.status, fault.words)

    async def _check_alive(self) -> None:
        """Raise TsrError if the server has gone: rows must not fail for good because of that."""
        try:
            await self._list()
        except _AgainError as fault:
            if fault.lost:
                raise self._unreachable(fault) from None

    async def _tries(self, ask: Callable[[], Awaitable[T]]) -> T:
        for attempt in range(self._settings.retries):
            try:
                return await ask()
            except _AgainError as fault:
                await asyncio.sleep(_delay(attempt, fault.retry_after))
        return await ask()

    async def _ask(self, request: Request) -> Completion:
        from openai import APIStatusError

        body = _body(self._model, request, logprobs=self._settings.logprobs)
        try:
            said = await self._call(lambda: self._client.chat.completions.with_raw_response.create(**body))
        except APIStatusError as error:
            return self._refusal(request, error)
        try:
            reply = _Reply.model_validate_json(said)
        except ValidationError:
            raise _AgainError("server_error", "the reply is no chat completion") from None
        self._check_reply(request, reply)
        return _completion(request, reply)

    async def _call(self, call: Callable[[], Awaitable[Any]]) -> bytes:
        """Return the body of an answer. Raises _AgainError for what another try may mend, else APIStatusError."""
        from openai import APIConnectionError, APIStatusError, APITimeoutError

        try:
            async with asyncio.timeout(self._settings.timeout_s):  # of the whole answer; the client's is per read
                answer = await call()
        except (TimeoutError, APITimeoutError):
            raise _AgainError("timeout", "the server did not answer in time") from None
        except APIConnectionError:
            # No cause: a header's name and value, the key, may stand in it.
            raise _AgainError("server_error", "the connection broke", lost=True) from None
        except APIStatusError as error:
            if (error.status_code not in _AGAIN and error.status_code < 500) or error.code in _QUOTA:
                raise
            status: Status = "timeout" if error.status_code == 408 else "server_error"
            words = f"the server answered with HTTP status {error.status_code}"
            raise _AgainError(status, words, _retry_after(error.response.headers.get("retry-after"))) from None
        content: bytes = answer.http_response.content
        return content

    def _refusal(self, request: Request, error: "APIStatusError") -> Completion:
        if error.status_code not in _BAD_REQUEST:
            raise self._fatal(error) from None
        message = _message(error)
        if _TOO_LONG.search(f"{error.code} {error.type} {message}"):
            return failed(request, "too_long", "the server says that the request is longer than the model's context")
        if error.param in _body(self._model, request, logprobs=True).keys() - {"messages"} | _CONTINUED.keys():
            raise TsrError(f"{self._where}: the server refuses {error.param}: {self._line(message)}") from None
        # Its words may hold the id of the request, so they are no part of a row.
        code = "" if error.code in (None, str(error.status_code)) else f" ({self._line(error.code or '')})"
        return failed(request, "refused", f"the server refused with HTTP status {error.status_code}{code}")

    def _check_reply(self, request: Request, reply: _Reply) -> None:
        if reply.model != self._model:
            raise TsrError(
                f"{self._where}: the server answered as {reply.model!r}; expected {self._model!r}: name that snapshot "
                "as the model, or rows of several models would stand under one name"
            )
        if reply.usage:
            self.tokens += reply.usage.prompt_tokens + reply.usage.completion_tokens
            asked, got = request.sampling.max_new_tokens, reply.usage.completion_tokens
            if got > asked + 1:  # one more: the end token may be counted besides
                raise TsrError(f"{self._where}: the server ignores max_completion_tokens: asked {asked}, got {got}")
        elif self._settings.budget_tokens:
            raise TsrError(f"{self._where}: the server tells no usage, so backends.openai.budget_tokens must be 0")
        choice = reply.choices[0]
        if request.sampling.score_tokens and choice.message.content and not choice.tokens():
            raise TsrError(f"{self._where}: the server gives no log-probabilities, and score tokens are read from them")

    def _fatal(self, error: "APIStatusError") -> TsrError:
        checks = {
            401: f"check the key in {self._settings.api_key_env or 'the variable that api_key_env names'}",
            403: f"check what the key in {self._settings.api_key_env or 'api_key_env'} may use",
            404: f"check base_url (it mostly ends in /v1) and that the server has a model {self._model!r}",
        }
        check = checks.get(error.status_code, self._line(_message(error)))
        return TsrError(f"{self._where}: the server answered with HTTP status {error.status_code}; {check}")

    def _unreachable(self, fault: _AgainError) -> TsrError:
        return TsrError(f"{self._where}: the server cannot be reached: {fault.words}; check base_url and the server")

    def _line(self, text: str) -> str:
        line = " ".join(text.split())
        return (line.replace(self._key, "***") if self._key else line)[:200]


def _key(variable: str) -> str:
    key = os.environ.get(variable, "").strip()
    if not (key.isascii() and (not key or key.isprintable())):
        raise TsrError(f"{variable}: the key holds characters that no HTTP header may have")
    return key


def _client(base_url: str, key: str) -> "AsyncOpenAI":
    try:
        from openai import AsyncOpenAI
    except ImportError:
        raise TsrError("the backend openai needs the package openai: pip install 'tsr[openai]'") from None
    # The client wants some key; local servers take any. Tries and time-outs are counted here, not by the client.
    return AsyncOpenAI(base_url=base_url, api_key=key or "none", max_retries=0, timeout=None)


_CONTINUED = {"add_generation_prompt": False, "continue_final_message": True}


def _body(model: str, request: Request, *, logprobs: bool) -> dict[str, Any]:
    """Return what is sent for a request.

    The length goes as `max_completion_tokens`: OpenAI's newer models refuse `max_tokens`, and both at once; vLLM takes
    either, llama.cpp both since 2026. A server that knows the old name only would answer without end, so a
    reply that is too long is an error. The seed is cut to 31 bits: two samples of one prompt then agree with a chance
    of 5e-10.
    """
    sampling = request.sampling
    body: dict[str, Any] = {
        "model": model,
        "messages": request.messages,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_completion_tokens": sampling.max_new_tokens,
        "seed": request.seed & ((1 << _SEED_BITS) - 1),
    }
    if logprobs or sampling.score_tokens:
        body["logprobs"] = True
    if sampling.score_tokens:
        body["top_logprobs"] = TOP_LOGPROBS
    if request.messages[-1]["role"] == "assistant":
        body["extra_body"] = _CONTINUED
    return body


def _completion(request: Request, reply: _Reply) -> Completion:
    """Return the completion that a reply holds.

    No content is an empty text: so it is where a thinking model spent all tokens before it answered.
    """
    choice = reply.choices[0]
    if choice.finish_reason == "content_filter" or choice.message.refusal:
        why = "the content filter" if choice.finish_reason == "content_filter" else "the model"
        return failed(request, "refused", f"refused by {why}")
    if choice.finish_reason not in _FINISH:  # vLLM says `abort` when it goes down
        raise _AgainError("server_error", f"the reply ended with {choice.finish_reason[:40]!r}")
    tokens = choice.tokens()
    return Completion(
        request_id=request.request_id,
        text=choice.message.content or "",
        finish_reason=_FINISH[choice.finish_reason],
        prompt_tokens=reply.usage.prompt_tokens if reply.usage else 0,
        response_tokens=reply.usage.completion_tokens if reply.usage else 0,
        logprob_sum=_logprob_sum(tokens),
        score_logprobs=_score_logprobs(request, tokens),
    )


def _logprob_sum(tokens: list[_Token]) -> float | None:
    """Return the sum over the tokens that the server lists (vLLM lists the end token), None if one is not told."""
    told = [token.logprob for token in tokens if _told(token.logprob)]
    return math.fsum(told) if told and len(told) == len(tokens) else None


def _told(logprob: float | None) -> TypeGuard[float]:
    return logprob is not None and math.isfinite(logprob) and logprob > _NO_PROBABILITY


def _score_logprobs(request: Request, tokens: list[_Token]) -> tuple[tuple[str, float], ...] | None:
    """Return the score tokens' log-probabilities, as far as they are among the likeliest 20.

    `4` and ` 4` are two tokens that say the same score, so their probabilities are added.
    """
    wanted = request.sampling.score_tokens
    position = score_position([_text(token) for token in tokens], request.sampling.score_after) if wanted else None
    if position is None:
        return None
    at = tokens[position]
    distinct = {(t.token, _text(t)): t.logprob for t in [at, *(at.top_logprobs or [])] if _told(t.logprob)}
    found = []
    for score in wanted:
        same = [logprob for (_, text), logprob in distinct.items() if text.strip() == score.strip()]
        if same:
            found.append((score, same[0] if len(same) == 1 else math.log(math.fsum(map(math.exp, same)))))
    return tuple(found)


def _text(token: _TopToken) -> str:
    """Return a token's text; servers may write it with the tokenizer's own sign for a space, or as bytes."""
    if token.bytes:
        return bytes(token.bytes).decode("utf-8", errors="replace")
    return token.token.replace("\u2581", " ").replace("\u0120", " ")


def _message(error: "APIStatusError") -> str:
    body = error.body
    said = body.get("message", body.get("detail", "")) if isinstance(body, dict) else body or ""
    return said if isinstance(said, str) else str(said)


def _retry_after(header: str | None) -> float:
    """Return the seconds that a Retry-After header asks for, 0 if there is none that can be read."""
    if not header:
        return 0
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(header).timestamp() - time.time()
        except ValueError:
            return 0
    return seconds if math.isfinite(seconds) else 0


def _delay(attempt: int, retry_after: float) -> float:
    own = min(MAX_BACKOFF_S, BACKOFF_S * float(2 ** min(attempt, 30)))
    # Its own generator: a wait must not move the global one, from which something else may draw.
    own *= random.SystemRandom().uniform(0.5, 1)
    return max(own, min(retry_after, MAX_RETRY_AFTER_S))
