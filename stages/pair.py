"""Stage pair: candidates to preference pairs. SQL decides; this file moves the tables.

Each prompt of the split ends in `pairs` or in `dropped` with a reason, never in both or neither.
"""

import polars as pl

from stages import paths, tables
from stages.candidates import ROLES, Sides, read_candidates
from stages.drops import funnel
from stages.errors import TsrError
from stages.ids import content_id
from stages.params import Pair
from stages.sqlrun import SQL, connect, run_file


def run(settings: Pair, name: str, strategy: str, sides: Sides) -> None:
    """Write `data/pairs/<name>.parquet` and `data/dropped/<name>.parquet`."""
    prompts = tables.read("prompts", paths.prompts(sides.split))
    pairs, dropped = make_pairs(settings, name, strategy, prompts, read_candidates(sides))
    tables.write("pairs", pairs, paths.pairs(name))
    tables.write("dropped", dropped, paths.dropped(name))
    print(f"pair {name}: {pairs.height} pairs of {prompts.height} prompts{funnel(dropped)}")


def make_pairs(
    settings: Pair, name: str, strategy: str, prompts: pl.DataFrame, candidates: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return (`pairs`, `dropped`) for model version `name`, by a strategy of `stages/sql/strategies/`.

    Raises TsrError if the strategy does not give exactly one row a prompt.
    """
    frames = {"prompts": prompts.select("prompt_id", "messages"), "candidates": candidates}
    values = {"model": name, "strategy": strategy, "min_gap": settings.min_gap, "n_roles": len(ROLES)}
    with connect() as db:
        frames["sides"] = run_file(db, SQL / "views" / "sides.sql", frames, values)
        path = SQL / "strategies" / f"{paths.checked(strategy)}.sql"
        frames["chosen_rejected"] = run_file(db, path, frames, values)
        _check_choice(frames["chosen_rejected"], prompts, str(path))
        verdicts = run_file(db, SQL / "pairs.sql", frames, values)
    return split_verdicts(verdicts)


def _check_choice(choice: pl.DataFrame, prompts: pl.DataFrame, where: str) -> None:
    wanted = ["prompt_id", "chosen_id", "rejected_id"]
    if choice.columns != wanted:
        raise TsrError(f"{where}: gave columns {', '.join(choice.columns)}; expected {', '.join(wanted)}")
    if twice := choice.filter(pl.col("prompt_id").is_duplicated())["prompt_id"].to_list():
        raise TsrError(f"{where}: gave more than one row for prompt {twice[0]}; expected one row per prompt")
    if missing := set(prompts["prompt_id"]) - set(choice["prompt_id"]):
        raise TsrError(f"{where}: gave no row for prompt {min(missing)}; expected one row per prompt")


def split_verdicts(verdicts: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the rows without a reason as `pairs`, the others as `dropped`."""
    kept = verdicts.filter(pl.col("reason").is_null())
    ids = [content_id("pair", *row) for row in kept.select("model", "strategy", "chosen_id", "rejected_id").iter_rows()]
    pairs = kept.with_columns(pair_id=pl.Series(ids, dtype=pl.String)).select(list(tables.schema("pairs")))
    return pairs, verdicts.filter(pl.col("reason").is_not_null()).select(list(tables.schema("dropped")))
