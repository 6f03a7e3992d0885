"""A round's candidates: responses with their scores, under the roles they play."""

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from stages import paths, tables
from stages.errors import TsrError
from stages.paths import ROLES

COLUMNS = (
    "prompt_id",
    "role",
    "generation_id",
    "model",
    "response",
    "finish_reason",
    "prompt_tokens",
    "response_tokens",
    "score",
)


@dataclass(frozen=True)
class Sides:
    """Which model version answers in which role, and who judges, in one round."""

    judge: str
    split: str
    own: str
    anchor: str
    future: str


def read_candidates(sides: Sides) -> pl.DataFrame:
    """Return generations with their scores, once for each role they play.

    A model version that plays two roles (M0 is its own anchor in round 0) stands under both.
    Raises TsrError for a table that is another model's or another judge's.
    """
    parts = []
    for role in ROLES:
        model = getattr(sides, role)
        generations = tables.read("generations", paths.generations(model, sides.split))
        scores = tables.read("scores", paths.scores(sides.judge, model, sides.split))
        _expect(paths.generations(model, sides.split), generations["model"], "model", model)
        _expect(paths.scores(sides.judge, model, sides.split), scores["judge"], "judge", sides.judge)
        scored = generations.join(scores.select("generation_id", "score"), on="generation_id", how="left")
        parts.append(scored.with_columns(role=pl.lit(role)).select(COLUMNS))
    return pl.concat(parts)


def _expect(path: Path, found: pl.Series, column: str, wanted: str) -> None:
    if others := set(found) - {wanted}:
        raise TsrError(f"{path}: column {column!r} holds {min(others)!r}; expected {wanted!r} in every row")
