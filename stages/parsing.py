"""Find how a rubric's replies are read, by name, and read them."""

from importlib import import_module
from typing import Protocol, cast

import polars as pl


class Parser(Protocol):
    """The `parse.py` of a rubric."""

    LOW: float
    HIGH: float

    def parse(self, raw: str) -> float | None:
        """Return the score in a judge's reply, or None."""
        ...


def load_parser(rubric: str) -> Parser:
    """Return the parsing half of a rubric."""
    return cast(Parser, import_module(f"stages.rubrics.{rubric}.parse"))


def read_votes(parser: Parser, judgments: pl.DataFrame) -> pl.DataFrame:
    """Return (generation_id, vote_id, value) of `judgments`.

    `value` is null where the reply was cut off, has no score, or has one outside LOW .. HIGH.
    """
    values = [
        _in_range(parser, raw) if finish_reason == "stop" else None
        for raw, finish_reason in judgments.select("raw", "finish_reason").iter_rows()
    ]
    return judgments.select("generation_id", "vote_id", value=pl.Series(values, dtype=pl.Float64))


def _in_range(parser: Parser, raw: str) -> float | None:
    score = parser.parse(raw)
    return score if score is not None and parser.LOW <= score <= parser.HIGH else None
