"""The embedded backend: a plain transformers model, batched so that batching cannot change a row.

Two things make batched sampling depend on its batch: padding and batch size move the logits in the
last bits, and sampling draws from one generator. So here a tile always has `tile_rows` rows of one
prompt length (short tiles are filled up, never padded), and each row draws from its own generator,
seeded by the request. What a row gets then depends on the row and on `tile_rows` alone.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stages.backends import Completion, Request, SamplingParams
from stages.errors import TsrError
from stages.ids import content_id
from stages.models import load_model, load_tokenizer, model_hash

if TYPE_CHECKING:
    import torch


class TransformersBackend:
    """Completes requests with a local model in fp32. Raises TsrError for a prompt beyond the context."""

    name = "transformers"

    def __init__(self, folder: Path, tile_rows: int) -> None:
        self.model_hash = model_hash(folder)
        self._tokenizer = load_tokenizer(folder)
        self._model = load_model(folder)
        self._tile_rows = tile_rows
        self.template_hash = content_id("template", self._tokenizer.chat_template)
        # Control tokens in a response would come back as text that tokenizes to something else, or as a second BOS.
        self._never = sorted(set(self._tokenizer.all_special_ids) - {self._tokenizer.eos_token_id})

    def complete(self, requests: Iterable[Request], sampling: SamplingParams) -> Iterator[Completion]:
        """Yield completions tile by tile, the shortest prompts first."""
        by_length: dict[int, list[tuple[Request, list[int]]]] = {}
        for request in requests:
            ids = self._encode(request, sampling.max_new_tokens)
            by_length.setdefault(len(ids), []).append((request, ids))
        for length in sorted(by_length):
            rows = by_length[length]
            for start in range(0, len(rows), self._tile_rows):
                yield from self._complete_tile(rows[start : start + self._tile_rows], sampling)

    def _encode(self, request: Request, new_tokens: int) -> list[int]:
        ids: list[int] = self._tokenizer.apply_chat_template(
            request.messages, add_generation_prompt=True, tokenize=True, return_dict=True
        )["input_ids"]
        room = self._model.config.max_position_embeddings
        if len(ids) + new_tokens > room:
            raise TsrError(
                f"request {request.request_id}: {len(ids)} prompt tokens and {new_tokens} new ones "
                f"do not fit into the context of {room}"
            )
        return ids

    def _complete_tile(self, tile: list[tuple[Request, list[int]]], sampling: SamplingParams) -> Iterator[Completion]:
        import torch

        filled = tile + [tile[-1]] * (self._tile_rows - len(tile))
        prompt = torch.tensor([ids for _, ids in filled])
        draws = np.stack([_uniforms(request.seed, sampling.max_new_tokens) for request, _ in filled])
        with torch.inference_mode():
            tokens, logprobs = self._decode(prompt, torch.from_numpy(draws), sampling)
        end = self._tokenizer.eos_token_id
        for i, (request, ids) in enumerate(tile):
            row = tokens[i].tolist()
            length = row.index(end) + 1 if end in row else len(row)
            text_ids = row[: length - 1] if end in row else row
            yield Completion(
                request_id=request.request_id,
                text=self._tokenizer.decode(text_ids, skip_special_tokens=False),
                finish_reason="stop" if end in row else "length",
                prompt_tokens=len(ids),
                response_tokens=length,
                logprob_sum=float(logprobs[i, :length].sum()),
            )

    def _decode(
        self, prompt: "torch.Tensor", draws: "torch.Tensor", sampling: SamplingParams
    ) -> tuple["torch.Tensor", "torch.Tensor"]:
        """Return tokens and log-probabilities, (rows, steps) each; stops when every row has ended."""
        import torch

        tokens, logprobs = [], []
        step_input, cache = prompt, None
        ended = torch.zeros(len(prompt), dtype=torch.bool)
        never = torch.tensor(self._never)
        for step in range(sampling.max_new_tokens):
            out = self._model(input_ids=step_input, past_key_values=cache, use_cache=True, logits_to_keep=1)
            cache = out.past_key_values
            logits = out.logits[:, -1].double()
            allowed = logits.index_fill(-1, never, float("-inf"))
            token = pick(allowed, draws[:, step], sampling.temperature, sampling.top_p)
            tokens.append(token)
            logprobs.append(logits.log_softmax(-1).gather(1, token[:, None])[:, 0])
            ended |= token == self._tokenizer.eos_token_id
            if bool(ended.all()):
                break
            step_input = token[:, None]
        return torch.stack(tokens, 1), torch.stack(logprobs, 1)


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
