"""Texts and numbers of whole columns: end marks, reasons to end, scores, token counts."""

import re

import polars as pl

from stages.errors import TsrError
from stages.importing.dirt import Dirt
from stages.importing.mapping import FinishCell, ScoreCell

# Looks like a special token of some model's chat template.
SPECIAL = r"<\|[^<>|\\\n]{1,60}\|>|</?s>|\[/?INST\]|<(?:pad|eos|bos|unk|start_of_turn|end_of_turn)>"


def without_marks(frame: pl.DataFrame, column: str, marks: list[str], where: str, dirt: Dirt) -> pl.DataFrame:
    """Return `frame` with the end marks taken off the ends of a column, and `marked`: whether there was one.

    White space after a mark goes with it. A mark inside a text stays: `</s>` is also HTML.
    """
    if not marks:
        return frame.with_columns(marked=pl.lit(value=False))
    pattern = rf"(?:(?:{'|'.join(re.escape(mark) for mark in marks)})\s*)+$"
    frame = frame.with_columns(marked=pl.col(column).str.contains(pattern).fill_null(value=False))
    dirt.add("end_marks", where, int(frame["marked"].sum()))
    return frame.with_columns(pl.col(column).str.replace(pattern, ""))


def special_left(frame: pl.DataFrame, column: str, where: str, dirt: Dirt) -> None:
    """Count the texts of a column that hold a special token."""
    dirt.add("special_left", where, frame.filter(pl.col(column).str.contains(SPECIAL)).height)


def with_finish(frame: pl.DataFrame, column: str, cell: FinishCell | None, where: str) -> pl.DataFrame:
    """Return `frame` with `finish_reason`; reads `marked` where the end marks decide.

    Raises TsrError for a reason that is neither `stop` nor `length`.
    """
    if cell is None:
        return frame.with_columns(finish_reason=pl.lit("stop"))
    if cell.by:
        marked = pl.when(pl.col("marked")).then(pl.lit("stop")).otherwise(pl.lit("length"))
        return frame.with_columns(finish_reason=marked)
    other = frame.filter(~pl.col(column).is_in(["stop", "length"]).fill_null(value=False))
    if other.height:
        first = other[column].fill_null("null").min()
        raise TsrError(
            f"{where}: {first!r} in {other.height} rows; expected stop or length: say in `values` which it means"
        )
    return frame.with_columns(finish_reason=pl.col(column))


def with_score(frame: pl.DataFrame, column: str, cell: ScoreCell, where: str, dirt: Dirt) -> pl.DataFrame:
    """Return `frame` with `given_score`: the column as a number, null where it holds none or one out of range."""
    text = pl.col(column).str.strip_chars().str.to_lowercase()
    number = text.cast(pl.Float64, strict=False)
    low = number < cell.low if cell.low is not None else pl.lit(value=False)
    high = number > cell.high if cell.high is not None else pl.lit(value=False)
    kinds = (
        pl.when(text.is_null() | text.is_in(["", "null", "none"]))
        .then(pl.lit("no_score"))
        .when(number.is_null())
        .then(pl.lit("score_no_number"))
        .when(~number.is_finite())
        .then(pl.lit("score_not_finite"))
        .when(low | high)
        .then(pl.lit("score_out_of_range"))
    )
    frame = frame.with_columns(kind=kinds, number=number)
    for kind, count in frame.drop_nulls("kind").group_by("kind").len().rows():
        dirt.add(kind, where, count)
    good = pl.when(pl.col("kind").is_null()).then(pl.col("number") * cell.times + cell.plus)
    return frame.with_columns(given_score=good).drop("kind", "number")


def with_count(frame: pl.DataFrame, column: str, name: str, dirt: Dirt) -> pl.DataFrame:
    """Return `frame` with a column of token counts as `name`; null where it holds no whole number from 0."""
    if column not in frame.columns:
        return frame.with_columns(pl.lit(None, dtype=pl.Int64).alias(name))
    number = pl.col(column).cast(pl.Float64, strict=False)
    good = number.is_finite() & (number >= 0) & (number < 2**53) & (number == number.floor())
    found = frame.with_columns(pl.when(good).then(number.cast(pl.Int64, strict=False)).alias(name))
    dirt.add("bad_tokens", column, found[name].null_count() - frame[column].null_count())
    return found


def joined(frame: pl.DataFrame, columns: list[str]) -> pl.Expr:
    """Return the text of several cells as one, null where one of them is null."""
    assert set(columns) <= set(frame.columns)
    return pl.concat_str([pl.col(name) for name in columns], separator="\x1f")


def readable(key: str | None) -> str:
    """Return a key of several cells as it is shown: on one line, not too long."""
    return " / ".join(" ".join(cell.split())[:60] for cell in (key or "null").split("\x1f"))
