"""Examples that are longer than a training can hold: found before it, left out, and said."""

import sys
from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def answer(text: pl.Expr) -> pl.Expr:
    """Return a column of texts as conversations of one assistant's message."""
    return pl.concat_list(pl.struct(role=pl.lit("assistant"), content=text))


def within(
    rows: pl.DataFrame, tokenizer: "PreTrainedTokenizerBase", sides: tuple[str, ...], limit: int
) -> tuple[pl.DataFrame, int]:
    """Return the rows whose `prompt` with any of `sides` is at most `limit` tokens, and the number of the others.

    A limit of 0 lets everything pass. TRL would cut such a row, or leave it out without a word.
    """
    if not limit:
        return rows, 0
    fits = [
        all(_tokens(tokenizer, row["prompt"] + row[side]) <= limit for side in sides)
        for row in rows.select("prompt", *sides).iter_rows(named=True)
    ]
    kept = rows.filter(pl.Series(fits, dtype=pl.Boolean))
    if left_out := rows.height - kept.height:
        print(f"{left_out} of {rows.height} examples are longer than {limit} tokens and left out", file=sys.stderr)
    return kept, left_out


def _tokens(tokenizer: "PreTrainedTokenizerBase", messages: list[dict[str, str]]) -> int:
    return len(tokenizer.apply_chat_template(messages, return_dict=True)["input_ids"])
