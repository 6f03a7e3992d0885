"""Finished rows, kept outside all DVC outputs: what was completed once is never paid for again.

`.tsr/rows/<context>/` holds the rows of one engine: a context is the hash of weights, template, backend, its code and
its deciding settings. In it a row is found by the hash of its messages, sampling parameters and seed. Each process
appends the rows it finishes to a shard of its own, one line and one write a row, each line with its checksum: a kill at
any moment loses the rows in flight and no other, and a torn or damaged line is seen and made again.
"""

import errno
import fcntl
import json
import os
import sys
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO

from stages.backends import Backend, Completion, Request, SamplingParams
from stages.errors import TsrError
from stages.files import replacing, write_text
from stages.ids import content_id, content_key

SHARD = ".rows"
FORMAT = 1  # of a line; another one makes other contexts
_CRC, _KEY = 8, 32  # hex digits at the start of a line
_OPEN = 32  # shards that are open for reading at a time


def context_of(backend: Backend, sampling: SamplingParams | None) -> str:
    """Return the hash of what a table's rows have in common: the engine, its weights, how replies are drawn."""
    engine = (backend.name, backend.version, backend.model_hash, backend.template_hash)
    told = content_id("context", FORMAT, *engine, asdict(sampling) if sampling else None)
    return f"{backend.name}-{told}"


def row_key(request: Request) -> str:
    """Return the hash of all that decides a completion beside its context.

    At temperature 0 the seed decides nothing, so equal questions are one row.
    """
    seed = request.seed if request.sampling.temperature > 0 else None
    return content_key("row", request.messages, asdict(request.sampling), seed)


class Rows:
    """The kept rows of one context, and a new shard for those that this process finishes."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._places: dict[str, tuple[Path, int]] = {}
        self._open: dict[Path, IO[bytes]] = {}
        self._shard: IO[bytes] | None = None
        self._end = 0  # of the new shard
        for shard in sorted(folder.glob(f"*{SHARD}")):
            self._places |= {key: (shard, offset) for key, offset in _index(shard)}

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def get(self, key: str, request_id: str) -> Completion:
        """Return a kept row as the completion of `request_id`."""
        shard, offset = self._places[key]
        if shard not in self._open:
            if len(self._open) == _OPEN:
                self._open.pop(next(iter(self._open))).close()
            self._open[shard] = shard.open("rb")
        self._open[shard].seek(offset)
        return _decode(self._open[shard].readline(), request_id)

    def add(self, key: str, done: Completion) -> None:
        """Keep a finished row, in one write. Raises TsrError if it cannot be written; the rows before it stay."""
        line = _encode(key, done)
        try:
            if self._shard is None:
                self._shard = _new_shard(self.folder)
            if os.write(self._shard.fileno(), line) != len(line):  # a disk that fills up takes the first bytes
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            told = f"{self.folder}: a finished row cannot be kept: {error.strerror}"
            raise TsrError(f"{told}; those before it are, run again when that is mended") from error
        self._places[key] = (Path(self._shard.name), self._end)
        self._end += len(line)

    def close(self) -> None:
        """Close all files; the new shard is on disk then."""
        if self._shard is not None:
            with writing(self.folder):
                os.fsync(self._shard.fileno())
            self._shard.close()
        for handle in self._open.values():
            handle.close()


class Use:
    """Which contexts a table is made of, noted for `tsr gc`: for each checkout that uses a store, a file a table.

    While rows are being made, the context that they replace is noted beside theirs.
    """

    def __init__(self, store: Path, label: str, checkout: Path | None = None) -> None:
        self._home = (checkout or Path()).absolute()
        self._folder = store / "used" / content_id("checkout", str(self._home))
        self._note = self._folder / "tables" / label

    def contexts(self) -> set[str]:
        """Return the contexts that are noted."""
        return set(self._note.read_text().split()) if self._note.is_file() else set()

    def begin(self, context: str) -> None:
        """Note a context whose rows are about to be made."""
        write_text(f"{self._home}\n", self._folder / "checkout")
        self._write(self.contexts() | {context})

    def end(self, context: str) -> None:
        """Note that the table is made of this context alone."""
        self._write({context})

    def _write(self, contexts: set[str]) -> None:
        write_text("".join(f"{name}\n" for name in sorted(contexts)), self._note)


def _encode(key: str, done: Completion) -> bytes:
    counts = (done.prompt_tokens, done.response_tokens, done.logprob_sum)
    body = f"{key} {json.dumps([done.text, done.finish_reason, *counts, done.score_logprobs])}".encode()
    return b"%08x %s\n" % (zlib.crc32(body), body)


def _decode(line: bytes, request_id: str) -> Completion:
    text, finish_reason, prompt_tokens, response_tokens, logprob_sum, scores = json.loads(line[_CRC + 1 + _KEY :])
    read = None if scores is None else tuple((token, value) for token, value in scores)
    return Completion(request_id, text, finish_reason, prompt_tokens, response_tokens, logprob_sum, read)


def _is_sound(line: bytes) -> bool:
    return line.endswith(b"\n") and line[:_CRC] == b"%08x" % zlib.crc32(line[_CRC + 1 : -1])


def _new_shard(folder: Path) -> IO[bytes]:
    """Return a new shard, locked while it is open, so that readers know it is being written."""
    number, name = tempfile.mkstemp(suffix=SHARD, dir=folder)
    os.close(number)
    shard = Path(name).open("wb", buffering=0)  # noqa: SIM115 (open as long as the run)
    fcntl.flock(shard, fcntl.LOCK_EX)
    return shard


def _index(shard: Path) -> list[tuple[str, int]]:
    """Return key and offset of each sound line; damaged ones are told of and taken out."""
    with shard.open("rb") as handle:
        lines, damaged = _sound_lines(handle)
        if not damaged or is_locked(handle):  # the last line of a live shard may be half written
            return lines
        handle.seek(0)
        sound = [line for line in handle if _is_sound(line)]
        told = f"{damaged} torn or damaged rows are made again, {len(sound)} are sound"
        print(f"tsr: {shard}: {told}", file=sys.stderr, flush=True)
        with replacing(shard) as beside:
            beside.write_bytes(b"".join(sound))
    with shard.open("rb") as handle:
        return _sound_lines(handle)[0]


def _sound_lines(handle: IO[bytes]) -> tuple[list[tuple[str, int]], int]:
    """Return (key, offset) of the sound lines, and how many others there are."""
    found, damaged, offset = [], 0, 0
    for line in handle:
        if _is_sound(line):
            found.append((line[_CRC + 1 : _CRC + 1 + _KEY].decode(), offset))
        else:
            damaged += 1
        offset += len(line)
    return found, damaged


def is_locked(handle: IO[bytes]) -> bool:
    """Return whether another process holds the lock on an open file."""
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(handle, fcntl.LOCK_UN)
    return False


@contextmanager
def opened(folder: Path) -> Iterator[Rows]:
    """Open the rows of a context and close them, whatever happens."""
    with writing(folder):
        rows = Rows(folder)
    try:
        yield rows
    finally:
        rows.close()


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the system says of a place that cannot be written into one line."""
    try:
        yield
    except OSError as error:
        raise TsrError(f"{path}: the store of finished rows cannot be written: {error.strerror or error}") from error


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock at `path`; waits for a process that has it, and says so. The kernel frees it when a holder dies."""
    with _opened_lock(path) as handle:
        if is_locked(handle):
            print(f"tsr: {path}: another run makes these rows; waiting for it", file=sys.stderr, flush=True)
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextmanager
def in_use(store: Path) -> Iterator[None]:
    """Keep `tsr gc` away from a store while a run is at work in it; runs do not keep each other away."""
    with _opened_lock(store / "locks" / "store") as handle:
        fcntl.flock(handle, fcntl.LOCK_SH)
        yield


@contextmanager
def alone_in(store: Path) -> Iterator[None]:
    """Keep runs away from a store. Raises TsrError while one is at work in it."""
    with _opened_lock(store / "locks" / "store") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TsrError(f"{store}: a run is making rows; run `tsr gc` when it has ended") from None
        yield


@contextmanager
def _opened_lock(path: Path) -> Iterator[IO[bytes]]:
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = path.open("a+b")
    with handle:
        yield handle
