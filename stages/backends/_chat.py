"""A model folder's tokenizer as the backends that hold the weights need it: prompts in, replies out, scores found."""

from pathlib import Path
from typing import Any

import jinja2

from stages.backends import Messages, RefusedError, SamplingParams, score_position
from stages.errors import TsrError
from stages.models import load_tokenizer, own_code_runs


class Chat:
    """Encodes prompts by the chat template and reads replies. `ends` are the tokens that end one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._tokenizer = load_tokenizer(folder)
        self._last: tuple[Messages, list[int]] | None = None
        self._pieces: dict[int, str] = {}
        self.ends = _end_tokens(folder, self._tokenizer)

    def encode(self, messages: Messages) -> list[int]:
        """Return a prompt's tokens; the samples of one prompt come one after another, and are encoded once.

        A last message of the assistant's is left open, so that the reply goes on from it. Raises RefusedError.
        """
        if self._last is None or self._last[0] != messages:
            goes_on = messages[-1]["role"] == "assistant"
            try:
                ids = self._tokenizer.apply_chat_template(
                    messages,
                    add_generation_prompt=not goes_on,
                    continue_final_message=goes_on,
                    tokenize=True,
                    return_dict=True,
                )["input_ids"]
            except (jinja2.TemplateError, ValueError) as error:
                told = " ".join(str(error).split())[:200]
                raise RefusedError(f"the chat template refuses it: {told}") from error
            self._last = messages, list(ids)
        return self._last[1]

    def never(self, vocabulary: int) -> list[int]:
        """Return the control tokens that may not stand in a reply, of those that the model knows.

        They would come back as text that tokenizes to something else, or as a second BOS.
        """
        added = {i for i, token in self._tokenizer.added_tokens_decoder.items() if token.special}
        control = (added | set(self._tokenizer.all_special_ids)) - set(self.ends)
        return sorted(token for token in control if token < vocabulary)

    def text(self, tokens: list[int]) -> str:
        """Return the text of a reply's tokens, control tokens included."""
        decoded: str = self._tokenizer.decode(tokens, skip_special_tokens=False)
        return decoded

    def score_ids(self, sampling: SamplingParams) -> list[int]:
        """Return the ids of the score tokens. Raises TsrError for one that is not one token of this tokenizer."""
        ids: list[int] = []
        for text in sampling.score_tokens:
            encoded = self._tokenizer.encode(text, add_special_tokens=False)
            if len(encoded) != 1:
                raise TsrError(
                    f"{self._folder}: score {text!r} is {len(encoded)} tokens of its tokenizer; expected one"
                )
            if encoded[0] == self._tokenizer.unk_token_id:
                raise TsrError(f"{self._folder}: score {text!r} is unknown to its tokenizer; expected one token")
            ids += encoded
        return ids

    def score_at(self, sampling: SamplingParams, tokens: list[int]) -> int | None:
        """Return the index of the token in a reply where its score stands, or None."""
        if not sampling.score_tokens:
            return None
        if not sampling.score_after:
            return 0
        return score_position([self._piece(token) for token in tokens], sampling.score_after)

    def _piece(self, token: int) -> str:
        """Return a token's text inside a reply: decoded alone, a word's first token would lose its space."""
        if token not in self._pieces:
            before = self._tokenizer.encode("a", add_special_tokens=False)
            self._pieces[token] = self.text([*before, token])[len(self.text(before)) :]
        return self._pieces[token]


def _end_tokens(folder: Path, tokenizer: Any) -> list[int]:
    """Return the tokens that end a response: the tokenizer's, and those that the model's generation config adds."""
    from transformers import AutoConfig, GenerationConfig

    try:
        also = GenerationConfig.from_pretrained(folder, local_files_only=True).eos_token_id
    except OSError:  # no such file: transformers then makes one of the model's config
        also = GenerationConfig.from_model_config(
            AutoConfig.from_pretrained(folder, trust_remote_code=own_code_runs())
        ).eos_token_id
    listed = also if isinstance(also, list) else [also]
    return sorted({int(token) for token in (tokenizer.eos_token_id, *listed) if token is not None})
