"""Generation rows: cleaned, joined to their prompts, numbered; and the links by which judgments find them."""

from dataclasses import dataclass

import polars as pl

from stages import tables
from stages.errors import TsrError
from stages.ids import content_id
from stages.importing import prompts as prompt_rows
from stages.importing.dirt import Dirt
from stages.importing.mapping import Cell, Mapping, Responses
from stages.importing.names import safe_names
from stages.importing.numbering import numbered
from stages.importing.texts import joined, special_left, with_count, with_finish, without_marks

CONTENT = ["response", "finish_reason", "prompt_tokens", "response_tokens"]
NO_SAMPLE = "0"


@dataclass(frozen=True)
class Answered:
    """What the responses gave.

    `rows` is of `generations` and has the split too; `links` is (asked, model, sample, turn, generation_id, response),
    where asked is the id of the prompt that the source names, and response a hash; `models` is name -> safe name.
    """

    rows: pl.DataFrame
    links: pl.DataFrame
    models: dict[str, str]


def read_responses(picked: pl.DataFrame, section: Responses, mapping: Mapping, where: str, dirt: Dirt) -> pl.DataFrame:
    """Return (key, model, sample, turn, response, marked, finish_reason, tokens), one row a response."""
    assert section.key is not None
    frame = picked.with_columns(
        key=joined(picked, [f"{where}.key.{i}" for i in range(len(section.key))]),
        model=pl.col(f"{where}.model").replace("", None),
        sample=sample_text(section.sample, where),
    )
    frame = _one_row_a_turn(frame, section, where)
    for column, kind in (("response", "no_response"), ("key", "no_key"), ("model", "no_model")):
        dirt.add(kind, where, frame[column].null_count())
        frame = frame.drop_nulls(column)
    frame = without_marks(frame, "response", mapping.end_marks, f"{where}.response", dirt)
    special_left(frame, "response", where, dirt)
    dirt.add("empty", where, frame.filter(pl.col("response").str.strip_chars() == "").height)
    frame = with_finish(frame, f"{where}.finish_reason", section.finish_reason, f"{where}.finish_reason")
    for name in ("prompt_tokens", "response_tokens"):
        frame = with_count(frame, f"{where}.{name}", name, dirt)
    return frame.select("key", "model", "sample", "turn", *CONTENT)


def sample_text(cells: list[Cell] | None, where: str, name: str = "sample") -> pl.Expr:
    """Return what the source calls a sample or a vote: nothing mapped is one name for all."""
    if cells is None:
        return pl.lit(NO_SAMPLE)
    return pl.concat_str([pl.col(f"{where}.{name}.{i}").fill_null("null") for i in range(len(cells))], separator="\x1f")


def _one_row_a_turn(frame: pl.DataFrame, section: Responses, where: str) -> pl.DataFrame:
    if section.turns is None:
        return frame.with_columns(response=pl.col(f"{where}.response"), turn=pl.lit(0, dtype=pl.Int64))
    answers = pl.col(f"{where}.turns").str.json_decode(pl.List(pl.String))
    try:
        frame = frame.with_columns(response=answers)
    except pl.exceptions.PolarsError as error:
        raise TsrError(f"{where}.turns: not a list of texts in every row: {str(error).splitlines()[0]}") from error
    frame = frame.with_columns(turn=pl.int_ranges(pl.col("response").list.len(), dtype=pl.Int64))
    return frame.explode("response", "turn").with_columns(pl.col("turn").fill_null(0))


def converse(read: pl.DataFrame, asked: pl.DataFrame, dirt: Dirt) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return (responses, prompts of later turns): each later turn asks after the answers before it.

    `asked` is what `read_prompts` gave. A response of a later turn has the conversation before it as its key.
    """
    conversations = dict(asked.select("key", "conversation").iter_rows())
    places = {key: place for place, key in enumerate(asked["key"])}
    ordered = read.sort("key", "model", "sample", *CONTENT, "turn", nulls_last=True)
    owners: dict[tuple[str, str, str], dict[int, str]] = {}
    for key, model, sample, turn, response in ordered.select("key", "model", "sample", "turn", "response").iter_rows():
        owners.setdefault((key, model, sample), {}).setdefault(turn, response)
    keys, later, sources = [], [], []
    for key, model, sample, turn in read.select("key", "model", "sample", "turn").iter_rows():
        before = [owners[key, model, sample].get(t) for t in range(turn)]
        known = key in conversations and None not in before
        asks = prompt_rows.asked_after(conversations[key], [b for b in before if b is not None]) if known else None
        keys.append(key if turn == 0 else asks)
        if turn and asks is not None:
            later.append(asks)
            sources.append(places[key])
    spoken = read.with_columns(own_key=pl.Series(keys, dtype=pl.String))
    dirt.add("beyond_last_turn", "responses", spoken["own_key"].null_count())
    texts = pl.Series(later, dtype=pl.String)
    more = asked[sources].with_columns(key=texts, conversation=texts, reference=pl.lit(None, dtype=pl.String))
    return spoken.drop_nulls("own_key"), more.unique()


def settle(read: pl.DataFrame, keys: pl.DataFrame, rule: str, dirt: Dirt) -> Answered:
    """Return the generations of responses whose prompts are there. `read` has `own_key`, `rule` is for duplicates."""
    read = read.join(keys.select(own_key="key", prompt_id="prompt_id", split="split"), on="own_key", how="left")
    dirt.add("response_without_prompt", "responses", read["prompt_id"].null_count())
    read = read.drop("own_key").drop_nulls("prompt_id").join(keys.select("key", asked="prompt_id"), on="key")
    if not read.height:
        raise TsrError("responses: none has a prompt that is there; expected their keys to be those of prompts")
    safe = safe_names(read["model"], "model", dirt)
    # A key may be a whole prompt; from here on it is for messages alone.
    read = read.with_columns(pl.col("key").str.head(300), pl.col("model").replace_strict(safe))
    rows = numbered(read, ["model", "prompt_id"], "sample", CONTENT, rule, "sample_id", "responses", dirt).pipe(
        _with_ids
    )
    links = rows.select("asked", "model", "sample", "turn", "generation_id", response=pl.col("response").hash())
    return Answered(_complete(rows), links, safe)


def _with_ids(rows: pl.DataFrame) -> pl.DataFrame:
    of = rows.select("model", "prompt_id", "sample_id", "finish_reason", "response").iter_rows()
    return rows.with_columns(generation_id=pl.Series([content_id("imported", *row) for row in of], dtype=pl.String))


def _complete(rows: pl.DataFrame) -> pl.DataFrame:
    known = rows.with_columns(status=pl.lit("ok"), backend=pl.lit("import"))
    schema = tables.schema("generations")
    unknown = [pl.lit(None, dtype=schema[name]).alias(name) for name in schema if name not in known.columns]
    return known.with_columns(unknown).select(*schema, "split")
