"""Find how a rubric's replies are read, by name, and read them."""

import math
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Reading:
    """How judgments become numbers: the rubric's parser, and the mass that a distribution over scores must have."""

    parser: Parser
    least_mass: float


def load_parser(rubric: str) -> Parser:
    """Return the parsing half of a rubric."""
    return cast(Parser, import_module(f"stages.rubrics.{rubric}.parse"))


def read_votes(reading: Reading, judgments: pl.DataFrame) -> pl.DataFrame:
    """Return (generation_id, vote_id, value) of `judgments`.

    `value` is null where the request failed; for a reply, where it was cut off, has no score, or has one outside
    LOW .. HIGH; for a score in one token, where the scores have too little probability.
    """
    columns = judgments.select("way", "raw", "finish_reason", "digit_logprobs", "given_score").iter_rows()
    values = [_value(reading, *row) for row in columns]
    return judgments.select("generation_id", "vote_id", value=pl.Series(values, dtype=pl.Float64))


def _value(
    reading: Reading, way: str, raw: str, finish_reason: str, digits: list[dict[str, float]], given: float | None
) -> float | None:
    if way == "given":
        return given
    if way == "one_token":
        return expectation(digits, reading.least_mass)
    return _in_range(reading.parser, raw) if finish_reason == "stop" else None


def expectation(digits: list[dict[str, float]] | None, least_mass: float = 0.0) -> float | None:
    """Return the mean of the scores under their distribution, renormalised.

    None where there is no distribution, or where the scores together have less than `least_mass` of the probability:
    then the judge was about to say something else.

    >>> expectation([{"score": 1.0, "logprob": math.log(0.6)}, {"score": 4.0, "logprob": math.log(0.3)}])
    2.0
    """
    if not digits:
        return None
    weights = [math.exp(digit["logprob"]) for digit in digits]
    mass = math.fsum(weights)
    if mass <= 0 or mass < least_mass:
        return None
    value = math.fsum(w * digit["score"] for w, digit in zip(weights, digits, strict=True)) / mass
    scores = [digit["score"] for digit in digits]
    return min(max(value, min(scores)), max(scores))  # rounding must not step out of the range


def _in_range(parser: Parser, raw: str) -> float | None:
    score = parser.parse(raw)
    return score if score is not None and parser.LOW <= score <= parser.HIGH else None
