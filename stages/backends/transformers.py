"""The embedded backend: a plain transformers model, batched so that batching cannot change a row.

Two things make batched sampling depend on its batch: padding and batch size move the logits in the
last bits, and sampling draws from one generator. So here a tile holds rows of one prompt length, so
that none is padded; its number of rows is a multiple of `STEP`, filled up with copies of its last
row, where kernels were found to give each row the same bits (tests/test_backend.py, docs/engines.md);
and each row draws from its own generator, seeded by the request.

A prompt that is sampled several times is read once: its rows go on from copies of its key-value cache.
Rows that have ended leave the tile when half of it has.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import numpy as np
from pydantic import Field

from stages import device, models
from stages.backends import Completion, RefusedError, Request, SamplingParams, code_version, failed, own_sources
from stages.backends._chat import Chat
from stages.block import Block
from stages.errors import TsrError

if TYPE_CHECKING:
    import torch

STEP = 8
# Requests that are sorted by length at a time: enough for full tiles, few enough for memory to stay flat.
WINDOW_TILES = 64


_T = TypeVar("_T")


class Settings(Block):
    """The embedded engine. `tile_rows` run side by side; no row depends on it."""

    tile_rows: Annotated[int, Field(ge=STEP, multiple_of=STEP)]
    dtype: Literal["float32", "bfloat16"]
    device: Literal["auto", "cpu", "cuda"]


class _TooLongError(Exception):
    """A prompt that leaves no room for its reply."""


@dataclass(frozen=True)
class _Row:
    """A request with its prompt's tokens."""

    request: Request
    ids: tuple[int, ...]


@dataclass
class _Loaded:
    """What takes memory and seconds to load."""

    model: Any
    chat: Chat
    never: "torch.Tensor"  # control tokens that are never sampled


def open_backend(folder: Path, settings: Settings) -> "TransformersBackend":
    """Return the embedded backend for a model folder. Raises TsrError for a model that runs elsewhere."""
    if models.endpoint(folder):
        raise TsrError(f"{folder}: has no weights, only {models.ENDPOINT}; only the backend openai can ask it")
    return TransformersBackend(folder, settings)


class TransformersBackend:
    """Completes requests with a local model; a prompt beyond the context is a failed request."""

    name = "transformers"

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.model_hash = models.model_hash(folder)
        self.template_hash = models.template_hash(folder)
        self._device = device.found(settings.device)
        decides = {"dtype": settings.dtype, "device": self._device}
        packages = ("torch", "transformers", "tokenizers")
        self.version = code_version(
            own_sources("backends/transformers.py", "backends/_chat.py", "backends/_cache.py", "runtime.py"),
            packages,
            decides,
        )
        self._folder, self._settings = folder, settings
        self._loaded: _Loaded | None = None

    def close(self) -> None:
        """Give the weights back."""
        self._loaded = None

    def complete(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """Yield completions tile by tile; within a window of the stream, the shortest prompts first."""
        stream = iter(requests)
        while window := list(islice(stream, WINDOW_TILES * self._settings.tile_rows)):
            rows: list[_Row] = []
            for request in window:
                try:
                    rows.append(_Row(request, self._prompt(request)))
                except RefusedError as error:
                    yield failed(request, "refused", str(error))
                except _TooLongError as error:
                    yield failed(request, "too_long", str(error))
            yield from self._complete_window(rows)

    def _load(self) -> _Loaded:
        """Load model and tokenizer at the first use: a stage whose rows are all there never pays for it."""
        if self._loaded is None:
            from stages.runtime import prepare_torch

            prepare_torch()
            import torch

            model = models.load_model(self._folder, self._settings.dtype, self._device)
            chat = Chat(self._folder)
            never = torch.tensor(chat.never(model.config.vocab_size), dtype=torch.long, device=self._device)
            self._loaded = _Loaded(model, chat, never)
        return self._loaded

    def _prompt(self, request: Request) -> tuple[int, ...]:
        """Return a request's prompt as tokens, if there is room for it and its reply."""
        ids = tuple(self._load().chat.encode(request.messages))
        room = self._load().model.config.max_position_embeddings
        if len(ids) + request.sampling.max_new_tokens > room:
            sizes = f"{len(ids)} prompt tokens and {request.sampling.max_new_tokens} new ones"
            raise _TooLongError(f"{sizes} do not fit into the context of {room}")
        return ids

    def _complete_window(self, rows: list[_Row]) -> Iterator[Completion]:
        """Yield the completions of rows, grouped by sampling and prompt length."""
        groups: dict[tuple[int, SamplingParams], list[_Row]] = {}
        for row in rows:
            groups.setdefault((len(row.ids), row.request.sampling), []).append(row)
        for key in sorted(groups, key=lambda key: (key[0], repr(key[1]))):
            yield from self._complete_group(groups[key], key[1])

    def _complete_group(self, rows: list[_Row], sampling: SamplingParams) -> Iterator[Completion]:
        """Yield the completions of rows of one prompt length: read a tile of prompts, then sample tiles of rows."""
        prompts = list(dict.fromkeys(row.ids for row in rows))
        size = self._settings.tile_rows
        for first in range(0, len(prompts), size):
            place = {ids: i for i, ids in enumerate(prompts[first : first + size])}
            mine = [row for row in rows if row.ids in place]
            cache, logits = self._read(list(place))
            for start in range(0, len(mine), size):
                tile = mine[start : start + size]
                yield from self._sample_tile(tile, [place[row.ids] for row in tile], cache, logits, sampling)

    def _read(self, prompts: list[tuple[int, ...]]) -> tuple[Any, "torch.Tensor"]:
        """Return the key-value cache of prompts of one length and the logits after them, (rows, vocabulary)."""
        import torch

        with torch.inference_mode():
            out = self._load().model(
                input_ids=torch.tensor(filled(prompts), device=self._device), use_cache=True, logits_to_keep=1
            )
        return out.past_key_values, out.logits[:, -1]

    def _sample_tile(
        self, tile: list[_Row], places: list[int], cache: Any, logits: "torch.Tensor", sampling: SamplingParams
    ) -> Iterator[Completion]:
        """Yield the completions of a tile; `places` are its rows' prompts in the cache."""
        import torch

        from stages.backends._cache import selected

        where = torch.tensor(filled(places), device=self._device)
        draws = filled([_uniforms(row.request.seed, sampling.max_new_tokens) for row in tile])
        with torch.inference_mode():
            mine = selected(cache, where, sampling.max_new_tokens)
            drawn = self._decode(mine, logits[where], torch.from_numpy(np.stack(draws)), sampling)
        for i, row in enumerate(tile):
            yield self._completion(row, drawn, i, sampling)

    def _decode(self, cache: Any, logits: "torch.Tensor", draws: "torch.Tensor", sampling: SamplingParams) -> "_Drawn":
        """Sample until every row has ended."""
        import torch

        loaded, device = self._load(), logits.device
        scores = torch.tensor(loaded.chat.score_ids(sampling), dtype=torch.long, device=device)
        ends, draws = torch.tensor(loaded.chat.ends, device=device), draws.to(device)
        drawn = _Drawn.empty(len(logits), sampling.max_new_tokens, len(scores), device)
        at = torch.arange(len(logits), device=device)  # the row at each place of the tile
        last, ended = at, torch.zeros_like(at, dtype=torch.bool)
        for step in range(sampling.max_new_tokens):
            if step:
                logits = loaded.model(input_ids=last[:, None], past_key_values=cache, use_cache=True).logits[:, -1]
            wide = logits.cpu().double()  # drawn on the CPU: a GPU has no deterministic cumulated sum
            normal = wide.log_softmax(-1)
            if normal.isnan().any():
                raise TsrError(f"{self._folder}: the model's weights give no numbers (NaN); expected a model that does")
            allowed = wide.index_fill(-1, loaded.never, float("-inf"))
            last = pick(allowed, draws[at, step], sampling.temperature, sampling.top_p)
            drawn.tokens[at, step] = last
            drawn.logprobs[at, step] = normal.gather(1, last[:, None])[:, 0]
            drawn.scores[at, step] = normal[:, scores]
            ended |= torch.isin(last, ends)
            going_on = (~ended).nonzero()[:, 0].tolist()
            if not going_on:
                break
            if len(kept := filled(going_on)) <= len(at) // 2:
                places = torch.tensor(kept, device=device)
                cache.batch_select_indices(places)
                at, last, ended = at[places], last[places], ended[places]
        return drawn.cpu()

    def _completion(self, row: _Row, drawn: "_Drawn", i: int, sampling: SamplingParams) -> Completion:
        loaded = self._load()
        tokens = drawn.tokens[i].tolist()
        end = next((at for at, token in enumerate(tokens) if token in loaded.chat.ends), None)
        length = len(tokens) if end is None else end + 1
        at = loaded.chat.score_at(sampling, tokens[:length])
        return Completion(
            request_id=row.request.request_id,
            text=loaded.chat.text(tokens[:end]),
            finish_reason="length" if end is None else "stop",
            prompt_tokens=len(row.ids),
            response_tokens=length,
            logprob_sum=float(drawn.logprobs[i, :length].sum()),
            score_logprobs=None
            if at is None
            else tuple(zip(sampling.score_tokens, drawn.scores[i][at].tolist(), strict=True)),
        )


@dataclass
class _Drawn:
    """A tile's tokens and log-probabilities, (rows, steps), and those of the score tokens, (rows, steps, scores).

    What stands behind a row's end means nothing.
    """

    tokens: "torch.Tensor"
    logprobs: "torch.Tensor"
    scores: "torch.Tensor"

    @classmethod
    def empty(cls, rows: int, steps: int, scores: int, device: "torch.device") -> "_Drawn":
        """Return room for a tile's."""
        import torch

        return cls(
            torch.zeros(rows, steps, dtype=torch.long, device=device),
            torch.zeros(rows, steps, dtype=torch.float64, device=device),
            torch.zeros(rows, steps, scores, dtype=torch.float64, device=device),
        )

    def cpu(self) -> "_Drawn":
        """Return the same on the CPU."""
        return _Drawn(self.tokens.cpu(), self.logprobs.cpu(), self.scores.cpu())


def filled(rows: list[_T]) -> list[_T]:
    """Return rows, with copies of the last one up to a multiple of STEP.

    >>> filled([4, 7, 5])
    [4, 7, 5, 5, 5, 5, 5, 5]
    """
    return rows + [rows[-1]] * (-len(rows) % STEP)


def pick(logits: "torch.Tensor", draws: "torch.Tensor", temperature: float, top_p: float) -> "torch.Tensor":
    """Return one token a row by inverting the distribution function at `draws`.

    logits: (rows, vocabulary); draws: (rows,), uniform in [0, 1). Tokens are ordered by falling
    probability, so the nucleus of `top_p` is a prefix of them.
    """
    import torch

    if temperature == 0:
        return logits.argmax(-1)
    probs, order = (logits / temperature).softmax(-1).sort(dim=-1, descending=True, stable=True)
    mass = probs.cumsum(-1)
    nucleus = mass - probs < top_p  # keep the token that crosses top_p
    kept = torch.where(nucleus, probs, 0).cumsum(-1)
    rank = torch.searchsorted(kept, (draws * kept[:, -1])[:, None], right=True)
    last = nucleus.sum(-1, keepdim=True) - 1  # rounding must not step out of the nucleus
    return order.gather(1, torch.minimum(rank, last))[:, 0]


def _uniforms(seed: int, count: int) -> np.ndarray:
    return np.random.Generator(np.random.Philox(seed)).random(count)
