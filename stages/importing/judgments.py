"""Judgment rows: read, joined to the generations that they are of, numbered."""

import polars as pl

from stages import tables
from stages.errors import TsrError
from stages.importing.dirt import Dirt
from stages.importing.mapping import Judgments, Mapping
from stages.importing.names import safe_names
from stages.importing.numbering import numbered
from stages.importing.responses import sample_text
from stages.importing.texts import joined, readable, special_left, with_finish, with_score, without_marks

CONTENT = ["raw", "given_score", "finish_reason", "way", "rubric"]


def read_judgments(picked: pl.DataFrame, section: Judgments, mapping: Mapping, where: str, dirt: Dirt) -> pl.DataFrame:
    """Return (key, model, judge, vote, raw, given_score, finish_reason, way, rubric), and what names a response."""
    assert section.key is not None
    frame = picked.with_columns(
        key=joined(picked, [f"{where}.key.{i}" for i in range(len(section.key))]),
        model=pl.col(f"{where}.model"),
        judge=pl.col(f"{where}.judge").replace("", None),
        vote=sample_text(section.vote, where, "vote"),
        opponent=pl.col(f"{where}.opponent") if section.opponent else pl.lit(None, dtype=pl.String),
        raw=pl.col(f"{where}.raw") if section.raw else pl.lit(None, dtype=pl.String),
        rubric=pl.lit(section.rubric, dtype=pl.String),
        way=pl.lit("given" if section.score else "votes"),
    )
    for column, kind in (("key", "no_key"), ("judge", "no_judge")):
        dirt.add(kind, where, frame[column].null_count())
        frame = frame.drop_nulls(column)
    if section.raw:
        dirt.add("no_raw", where, frame["raw"].null_count())
    frame = without_marks(
        frame.with_columns(pl.col("raw").fill_null("")), "raw", mapping.end_marks, f"{where}.raw", dirt
    )
    special_left(frame, "raw", f"{where}.raw", dirt)
    frame = with_finish(frame, f"{where}.finish_reason", section.finish_reason, f"{where}.finish_reason")
    if section.score:
        frame = with_score(frame, f"{where}.score", section.score, f"{where}.score", dirt)
    else:
        frame = frame.with_columns(given_score=pl.lit(None, dtype=pl.Float64))
    frame = _naming(frame, section, mapping, where)
    return frame.select("key", "model", "sample", "turn", "response", "judge", "vote", "opponent", *CONTENT)


def _naming(frame: pl.DataFrame, section: Judgments, mapping: Mapping, where: str) -> pl.DataFrame:
    """Add what, beside key and model, names a response: null where the section does not say it."""
    response = pl.col(f"{where}.response") if section.response else pl.lit(None, dtype=pl.String)
    turn = pl.col(f"{where}.turn").cast(pl.Int64, strict=False) - 1 if section.turn else pl.lit(0, dtype=pl.Int64)
    sample = sample_text(section.sample, where) if section.sample else pl.lit(None, dtype=pl.String)
    frame = frame.with_columns(sample=sample, turn=turn, response=response)
    # Marks on these were counted with the responses.
    frame = without_marks(frame, "response", mapping.end_marks, f"{where}.response", Dirt())
    return frame.with_columns(response=pl.col("response").hash()) if section.response else frame


def find(
    read: pl.DataFrame, keys: pl.DataFrame, links: pl.DataFrame, models: dict[str, str], where: str, dirt: Dirt
) -> pl.DataFrame:
    """Return the judgments of one section with the `generation_id` that each is of; others are counted and listed.

    Raises TsrError where one could be of several responses.
    """
    read = read.join(keys.select("key", asked="prompt_id"), on="key", how="left").with_columns(
        pl.col("key").str.head(300), pl.col("model").replace_strict(models, default=None), named="model"
    )
    by = ["asked", "model", "turn"] + [name for name in ("sample", "response") if read[name].null_count() < read.height]
    options = links.group_by(by).agg(pl.col("generation_id").n_unique().alias("fits"), pl.col("generation_id").min())
    found = read.join(options, on=by, how="left", nulls_equal=False)
    several = found.filter(pl.col("fits") > 1)
    if several.height:
        key, model, fits = several.sort("key", "named").select("key", "named", "fits").row(0)
        raise TsrError(
            f"{where}: {several.height} judgments could be of several responses, first {readable(key)}, {model}: "
            f"{fits} responses; expected one: map `sample` or `response`"
        )
    lost = found.filter(pl.col("generation_id").is_null())
    dirt.add("judged_nothing", where, lost.height)
    if lost.height:
        dirt.show(
            "judged_nothing",
            [f"{readable(key)}, {readable(model)}" for key, model in lost.select("key", "named").rows()],
        )
    return found.drop_nulls("generation_id").drop("fits", "asked", "named", "response")


def settle(found: pl.DataFrame, rule: str, dirt: Dirt) -> tuple[pl.DataFrame, dict[str, str]]:
    """Return `judgments` rows (with `rubric` and no hashes), and name -> safe name of the judges."""
    names = safe_names(found["judge"], "judge", dirt)
    found = _one_opponent(found.with_columns(judge=pl.col("judge").replace_strict(names)), dirt)
    rows = numbered(found, ["generation_id", "judge", "way"], "vote", CONTENT, rule, "vote_id", "judgments", dirt)
    schema = tables.schema("judgments")
    known = rows.with_columns(status=pl.lit("ok"), backend=pl.lit("import"))
    unknown = [pl.lit(None, dtype=schema[name]).alias(name) for name in schema if name not in known.columns]
    return known.with_columns(unknown).select(*schema, "rubric"), names


def _one_opponent(found: pl.DataFrame, dirt: Dirt) -> pl.DataFrame:
    """Leave out preferences of a response over several others: how it fares depends on whom it met."""
    met = pl.col("opponent").n_unique().over("generation_id", "judge")
    kept = found.filter(pl.col("opponent").is_null() | (met == 1))
    dirt.add("several_opponents", "judgments", found.height - kept.height)
    return kept
