"""A round's candidates: responses with their scores, under the roles they play."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import polars as pl

from stages import paths, tables
from stages.errors import TsrError
from stages.paths import ROLES
from stages.sqlrun import SQL, connect, parquet, view_query

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

    A role is played by one model version, by several with commas between them, or by all that answered the split and
    were scored (`*`), as in an imported set where each model gave one response. `second` is a judge whose scores stand
    beside the judge's, as `second_score`; the judge itself where no other is asked.
    """

    judge: str
    split: str
    own: str
    anchor: str
    future: str
    second: str = ""

    def models(self, role: str) -> list[str]:
        """Return the model versions that play a role. Raises TsrError for one named twice, and where `*` finds none."""
        named: str = getattr(self, role)
        if named != ALL:
            models = named.split(",")
            if twice := [model for model in models if models.count(model) > 1]:
                raise TsrError(f"{role} {named}: {twice[0]} is named twice; expected each model version once")
            return models
        judges = {self.judge, self.second or self.judge}
        found = [m for m in self.answered() if all(paths.scores(j, m, self.split).is_file() for j in judges)]
        if not found:
            told = f"{' and '.join(sorted(judges))} scored nobody's responses to split {self.split}"
            raise TsrError(f"{paths.data() / 'scores'}: {told}; expected some model's")
        return found

    def answered(self) -> list[str]:
        """Return all model versions that answered the split."""
        files = (paths.data() / "generations").glob(f"*/{paths.checked(self.split)}.parquet")
        return sorted(file.parent.name for file in files if file.parent.name != paths.WORLD)

    def files(self) -> list[Path]:
        """Return all files that the candidates are read from."""
        models = {model for role in ROLES for model in self.models(role)}
        judges = {self.judge, self.second or self.judge}
        found = {paths.generations(model, self.split) for model in models}
        return sorted(found | {paths.scores(judge, model, self.split) for judge in judges for model in models})

    def left_out(self) -> list[str]:
        """Return who answered the split and has no part because no score came, where `*` asks for all."""
        asked = [role for role in ROLES if getattr(self, role) == ALL]
        return sorted(set(self.answered()) - set(self.models(asked[0]))) if asked else []


def read_candidates(sides: Sides) -> pl.DataFrame:
    """Return generations with their scores, once for each role they play.

    A model version that plays two roles (M0 is its own anchor in round 0) stands under both.
    Raises TsrError for a table that is another model's or another judge's.
    """
    with connect() as db:
        view_candidates(db, sides)
        return pl.DataFrame(db.view("candidates").to_arrow_table()).select(COLUMNS)


def view_candidates(db: duckdb.DuckDBPyConnection, sides: Sides, roles: Sequence[str] = ROLES) -> None:
    """Give a connection the view `candidates`: what `read_candidates` returns, read from the files when it is asked."""
    played = [(role, model) for role in roles for model in sides.models(role)]
    db.register("played", pl.DataFrame(played, schema=["role", "model"], orient="row").to_arrow())
    models = list(dict.fromkeys(model for _, model in played))
    parquet(db, [_generations(model, sides.split) for model in models]).create_view("generations", replace=True)
    scores = parquet(db, [_scores(sides.judge, model, sides.split) for model in models])
    if sides.second in ("", sides.judge):
        both = scores.project("*, score as second_score")
    else:
        second = parquet(db, [_scores(sides.second, model, sides.split) for model in models])
        both = scores.join(second.project("generation_id, score as second_score"), "generation_id", how="left")
    both.create_view("scores", replace=True)
    view_query(db, "candidates", SQL / "candidates.sql", {})


def _generations(model: str, split: str) -> Path:
    path = paths.generations(model, split)
    tables.check_file("generations", path)
    return _only(path, "model", model)


def _scores(judge: str, model: str, split: str) -> Path:
    path = paths.scores(judge, model, split)
    tables.check_file("scores", path)
    return _only(path, "judge", judge)


def _only(path: Path, column: str, wanted: str) -> Path:
    """Return `path`. Raises TsrError unless its `column` is `wanted` in every row."""
    other = (
        pl.scan_parquet(path, hive_partitioning=False, glob=False)
        .filter(pl.col(column) != wanted)
        .select(pl.col(column).min())
    )
    if (found := other.collect().item()) is not None:
        raise TsrError(f"{path}: column {column!r} holds {found!r}; expected {wanted!r} in every row")
    return path
