"""All requests of a table completed: kept rows are taken, the others asked for, failures counted."""

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import polars as pl

from stages import paths
from stages.backends import Backend, Completion, Request
from stages.errors import TsrError
from stages.progress import Advance, progress
from stages.rowstore import Rows, Use, context_of, in_use, locked, opened, row_key


class Requests(Protocol):
    """Requests that can be gone through more than once without all being in memory."""

    def __iter__(self) -> Iterator[Request]:
        """Yield the requests, the same ones each time."""
        ...

    def __len__(self) -> int:
        """Return how many there are."""
        ...


@dataclass(frozen=True)
class Work:
    """A table to be filled, such as `generate/M0/r0`, and which share of its rows may fail."""

    label: str
    max_failed_share: float
    store: Path = field(default_factory=paths.store)

    def complete(self, backend: Backend, requests: Requests) -> Iterator[Completion]:
        """Yield one completion for every request, in any order.

        Finished rows are kept at once, in `store`. Failures are not: a rerun tries them again. Raises TsrError when
        more than `max_failed_share` of the requests have failed, and for a backend that leaves a request out.
        """
        first = next(iter(requests), None)
        context = context_of(backend, first.sampling if first else None)
        lock = self.store / "locks" / context / self.label
        with in_use(self.store), locked(lock), opened(self.store / "rows" / context) as rows:
            use = Use(self.store, self.label)
            use.begin(context)
            keys = [row_key(request) for request in requests]
            reused = sum(key in rows for key in keys)
            with progress(self.label, len(requests), reused=reused) as advance:
                run = _Run(self, backend, requests, keys, rows, advance)
                if reused:
                    yield from run.kept()
                if reused < len(requests):
                    yield from run.fresh()
            use.end(context)


class _Run:
    """One going through of the requests of a table."""

    def __init__(
        self, work: Work, backend: Backend, requests: Requests, keys: list[str], rows: Rows, advance: Advance
    ) -> None:
        self._work, self._backend, self._requests, self._keys = work, backend, requests, keys
        self._rows, self._advance = rows, advance
        self._asked: dict[str, str] = {}  # request_id in flight -> key
        self._waiting: dict[str, list[str]] = {}  # key in flight -> the ids of all requests that equal it
        self._new: set[str] = set()  # keys of rows made in this run
        self._late: deque[tuple[str, str]] = deque()  # (key, id) of requests that equal a row made in this run
        self._failed: Counter[str] = Counter()

    def kept(self) -> Iterator[Completion]:
        """Yield the rows that are there."""
        for request, key in zip(self._requests, self._keys, strict=True):
            if key in self._rows:
                yield self._rows.get(key, request.request_id)

    def fresh(self) -> Iterator[Completion]:
        """Ask for the rows that are not there and yield them as they finish; equal requests are asked for once."""
        for done in self._backend.complete(self._missing()):
            if done.request_id not in self._asked:
                raise TsrError(f"backend {self._backend.name}: completed {done.request_id}, which was not asked for")
            key = self._asked.pop(done.request_id)
            if done.status == "ok":
                self._rows.add(key, done)
                self._new.add(key)
            for request_id in self._waiting.pop(key):
                yield self._counted(replace(done, request_id=request_id))
            yield from self._latecomers()
        yield from self._latecomers()
        if self._asked:
            left = f"{len(self._asked)} requests, first {min(self._asked)}"
            raise TsrError(f"backend {self._backend.name}: gave no completion for {left}")

    def _missing(self) -> Iterator[Request]:
        for request, key in zip(self._requests, self._keys, strict=True):
            if key in self._new:
                self._late.append((key, request.request_id))
            elif key in self._waiting:
                self._waiting[key].append(request.request_id)
            elif key not in self._rows:
                self._waiting[key] = [request.request_id]
                self._asked[request.request_id] = key
                yield request

    def _latecomers(self) -> Iterator[Completion]:
        while self._late:
            yield self._counted(self._rows.get(*self._late.popleft()))

    def _counted(self, done: Completion) -> Completion:
        if done.status != "ok":
            self._failed[done.status] += 1
            self._stop_if_too_many(done)
        self._advance(failed=int(done.status != "ok"))
        return done

    def _stop_if_too_many(self, last: Completion) -> None:
        count, total, share = self._failed.total(), len(self._requests), self._work.max_failed_share
        if count / total > share:
            kinds = ", ".join(f"{status} {number}" for status, number in sorted(self._failed.items()))
            told = f"{self._work.label}: {count} of {total} rows failed ({kinds}); max_failed_share is {share:g}"
            raise TsrError(f"{told}; last {last.request_id}: {last.error}; finished rows are kept")


_DIGITS = pl.List(pl.Struct({"token": pl.String, "logprob": pl.Float64}))
_OUTCOME: dict[str, Any] = {
    "request_id": pl.String,
    "text": pl.String,
    "finish_reason": pl.String,
    "prompt_tokens": pl.Int64,
    "response_tokens": pl.Int64,
    "logprob_sum": pl.Float64,
    "score_logprobs": _DIGITS,
    "status": pl.String,
    "error": pl.String,
}
_CHUNK = 10_000  # rows that are Python objects at a time


def outcomes(completions: Iterable[Completion]) -> pl.DataFrame:
    """Return completions as a frame with a column for each field, gathered in chunks so that memory stays small."""
    stream, chunks = iter(completions), [pl.DataFrame(schema=_OUTCOME)]
    while rows := [_row(done) for done in islice(stream, _CHUNK)]:
        chunks.append(pl.DataFrame(rows, schema=_OUTCOME, orient="row"))
    return pl.concat(chunks, rechunk=True).with_columns(pl.col("logprob_sum").clip(upper_bound=0.0))


def _row(done: Completion) -> list[Any]:
    """Return a completion's fields in the order of `_OUTCOME`."""
    scores = done.score_logprobs
    digits = None if scores is None else [{"token": token, "logprob": value} for token, value in scores]
    return [digits if name == "score_logprobs" else getattr(done, name) for name in _OUTCOME]
