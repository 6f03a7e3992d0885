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
    "score_std",
    "n_votes",
    "n_parsed",
    "second_score",
)


ALL = "*"


@dataclass(frozen=True)
class Sides:
    """Which model versions answer in which role, and who judges, in one round.

    A role is played by one model version, by several with commas between them, or by all that answered the split (`*`),
    as in an imported set where each model gave one response. `second` is a judge whose scores stand beside the judge's,
    as `second_score`; the judge itself where no other is asked.
    """

    judge: str
    split: str
    own: str
    anchor: str
    future: str
    second: str = ""

    def models(self, role: str) -> list[str]:
        """Return the model versions that play a role. Raises TsrError where `*` finds none."""
        named: str = getattr(self, role)
        if named != ALL:
            return named.split(",")
        files = (paths.data() / "generations").glob(f"*/{paths.checked(self.split)}.parquet")
        found = sorted(file.parent.name for file in files if file.parent.name != paths.WORLD)
        if not found:
            raise TsrError(f"{paths.data() / 'generations'}: nobody answered split {self.split}; expected some model")
        return found


def read_candidates(sides: Sides) -> pl.DataFrame:
    """Return generations with their scores, once for each role they play.

    A model version that plays two roles (M0 is its own anchor in round 0) stands under both.
    Raises TsrError for a table that is another model's or another judge's.
    """
    played = {role: sides.models(role) for role in ROLES}
    scored = {model: _scored(sides, model) for model in dict.fromkeys(m for role in ROLES for m in played[role])}
    parts = [scored[model].with_columns(role=pl.lit(role)) for role in ROLES for model in played[role]]
    return pl.concat(parts).select(COLUMNS)


def _scored(sides: Sides, model: str) -> pl.DataFrame:
    """Return one model version's generations with what both judges give them."""
    generations = tables.read("generations", paths.generations(model, sides.split))
    _expect(paths.generations(model, sides.split), generations["model"], "model", model)
    first = _scores(sides.judge, model, sides.split).drop("model", "judge", "parse_status")
    second = _scores(sides.second or sides.judge, model, sides.split)
    beside = second.select("generation_id", second_score="score")
    return generations.join(first, on="generation_id", how="left").join(beside, on="generation_id", how="left")


def _scores(judge: str, model: str, split: str) -> pl.DataFrame:
    path = paths.scores(judge, model, split)
    scores = tables.read("scores", path)
    _expect(path, scores["judge"], "judge", judge)
    return scores


def _expect(path: Path, found: pl.Series, column: str, wanted: str) -> None:
    if others := set(found) - {wanted}:
        raise TsrError(f"{path}: column {column!r} holds {min(others)!r}; expected {wanted!r} in every row")
