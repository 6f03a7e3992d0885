"""Picked columns to the rows of all four tables."""

from collections.abc import Mapping as Lookup
from dataclasses import dataclass

import polars as pl

from stages import invented, tables
from stages.errors import TsrError
from stages.importing import judgments as judgment_rows
from stages.importing import prompts as prompt_rows
from stages.importing import responses as response_rows
from stages.importing.dirt import Dirt
from stages.importing.mapping import Mapping
from stages.importing.responses import Answered
from stages.importing.texts import readable
from stages.parsing import Reading, score

NO_RUBRIC = "additive"  # stands where scores are given, and no reply is read
Key = tuple[str, ...]


@dataclass(frozen=True)
class Dataset:
    """The tables by what their files are named after: (split), (model, split), (judge, model, split).

    `models` and `judges` are name -> safe name, `unanswered` is model -> prompts that it lacks.
    """

    prompts: dict[Key, pl.DataFrame]
    generations: dict[Key, pl.DataFrame]
    judgments: dict[Key, pl.DataFrame]
    scores: dict[Key, pl.DataFrame]
    models: dict[str, str]
    judges: dict[str, str]
    unanswered: dict[str, int]


def build(mapping: Mapping, picked: Lookup[str, pl.DataFrame], split: str, dirt: Dirt) -> Dataset:
    """Return the tables made of the picked columns of each part."""
    part = mapping.prompts.part
    assert part is not None
    asked = prompt_rows.read_prompts(picked[part], mapping.prompts, split, dirt)
    if all(section.part != part for section in mapping.responses):
        dirt.add("prompt_twice", "prompts", picked[part].height - asked.height)
    read = pl.concat(
        response_rows.read_responses(picked[str(section.part)], section, mapping, f"responses.{i}", dirt)
        for i, section in enumerate(mapping.responses)
    )
    asked = _with_missing(asked, read, mapping, split, dirt)
    every = asked
    if mapping.prompts.turns:
        read, later = response_rows.converse(read, asked, dirt)
        every = pl.concat([prompt_rows.first_turns(asked), later])
    else:
        read = read.with_columns(own_key=pl.col("key"))
    prompts, keys = prompt_rows.settle(every, mapping, dirt)
    answered = response_rows.settle(read, keys, mapping.responses[0].duplicates, dirt)
    judged, judges = _judged(mapping, picked, keys, answered, dirt)
    someone = prompts.filter(pl.col("prompt_id").is_in(answered.rows["prompt_id"].unique().implode()))
    dirt.add("nobody_answered", "prompts", prompts.height - someone.height)
    unanswered = _unanswered(someone, answered.rows)
    dirt.add("unanswered", "prompts", sum(unanswered.values()))
    generations = _split(answered.rows, "model", "split")
    by_judge = _split(judged, "judge", "model", "split")
    return Dataset(
        prompts=_of("prompts", _split(prompts, "split")),
        generations=_of("generations", generations),
        judgments=_of("judgments", by_judge),
        scores={key: _scored(key, rows, generations[key[1:]]) for key, rows in by_judge.items()},
        models=answered.models,
        judges=judges,
        unanswered=unanswered,
    )


def _with_missing(asked: pl.DataFrame, read: pl.DataFrame, mapping: Mapping, split: str, dirt: Dirt) -> pl.DataFrame:
    """Count the prompts that responses name and no row gives; return `asked` with them where the mapping wants them."""
    missing = sorted(set(read["key"]) - set(asked["key"]))
    named = mapping.prompts.without_text == "name_by_key"
    kind = "prompt_named_by_key" if named else "prompt_missing"
    dirt.add(kind, "prompts", len(missing))
    if not missing:
        return asked
    dirt.show(kind, [readable(key) for key in missing])
    if not named:
        return asked
    texts = [prompt_rows.dumped([prompt_rows.message("user", f"(no text: {readable(key)})")]) for key in missing]
    rows = {"key": missing, "conversation": texts, "split": [split or "all"] * len(missing)}
    rows[f"meta.{invented.META}"] = ["true"] * len(missing)
    return pl.concat([asked, pl.DataFrame(rows)], how="diagonal")


def _judged(
    mapping: Mapping, picked: Lookup[str, pl.DataFrame], keys: pl.DataFrame, answered: Answered, dirt: Dirt
) -> tuple[pl.DataFrame, dict[str, str]]:
    """Return (`judgments` rows with rubric, model and split, name -> safe name of the judges)."""
    found = []
    for i, section in enumerate(mapping.judgments):
        where = f"judgments.{i}"
        read = judgment_rows.read_judgments(picked[str(section.part)], section, mapping, where, dirt)
        found.append(judgment_rows.find(read, keys, answered.links, answered.models, where, dirt))
        if section.orphans == "error" and (lost := dirt.counts["judged_nothing", where]):
            first = dirt.examples["judged_nothing"][0]
            raise TsrError(f"{where}: {lost} judgments of responses that are not there, first {first}; expected none")
    if not found:
        empty = pl.DataFrame(schema=tables.schema("judgments") | dict.fromkeys(("rubric", "model", "split"), pl.String))
        return empty, {}
    rows, judges = judgment_rows.settle(pl.concat(found), mapping.judgments[0].duplicates, dirt)
    placed = answered.rows.select("generation_id", "model", "split")
    return rows.join(placed, on="generation_id"), judges


def _scored(key: Key, judgments: pl.DataFrame, generations: pl.DataFrame) -> pl.DataFrame:
    rubrics = sorted(set(judgments["rubric"].drop_nulls()))
    if len(rubrics) > 1:
        raise TsrError(f"judgments: judge {key[0]!r} is read by the rubrics {' and '.join(rubrics)}; expected one")
    reading = Reading(rubrics[0] if rubrics else NO_RUBRIC, least_mass=0.0)
    return score(reading, key[0], generations, judgments)


def _unanswered(prompts: pl.DataFrame, generations: pl.DataFrame) -> dict[str, int]:
    """Return model -> how many of the prompts it has no response to, in the splits that it answers in."""
    asked = dict(prompts.group_by("split").len().iter_rows())
    done = generations.group_by("model", "split").agg(pl.col("prompt_id").n_unique()).sort("model", "split")
    left: dict[str, int] = {}
    for model, split, count in done.iter_rows():
        left[model] = left.get(model, 0) + asked[split] - count
    return left


def _split(rows: pl.DataFrame, *by: str) -> dict[Key, pl.DataFrame]:
    return {tuple(map(str, key)): part for key, part in sorted(rows.partition_by(by, as_dict=True).items())}


def _of(table: str, parts: dict[Key, pl.DataFrame]) -> dict[Key, pl.DataFrame]:
    """Return the parts with the columns of their contract, in its types."""
    schema = tables.schema(table)
    return {key: rows.select(pl.col(name).cast(kind) for name, kind in schema.items()) for key, rows in parts.items()}
