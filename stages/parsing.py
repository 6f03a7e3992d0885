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


def parse_all(parser: Parser, raw: pl.Series) -> pl.Series:
    """Return the score of each reply; null where it has none or one outside LOW .. HIGH."""
    parsed = (parser.parse(text) for text in raw)
    in_range = [p if p is not None and parser.LOW <= p <= parser.HIGH else None for p in parsed]
    return pl.Series("value", in_range, dtype=pl.Float64)
