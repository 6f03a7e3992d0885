"""Stage pair: candidates to preference pairs. SQL decides; this file moves the tables.

Each prompt of the split ends in `pairs` or in `dropped` with a reason, never in both or neither.
"""

import polars as pl

from stages import paths, tables
from stages.candidates import Sides, read_candidates
from stages.drops import funnel
from stages.errors import TsrError
from stages.ids import content_id
from stages.params import Pair
from stages.paths import ROLES
from stages.sqlrun import SQL, connect, run_file
from stages.strategies import found, name_of


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
    """Return (`pairs`, `dropped`) for model version `name`, by a strategy.

    `strategy` is a name in `stages/sql/strategies/` or a path that ends in .sql. Raises TsrError for candidates of
    unknown prompts, and for a choice that `check_choice` refuses.
    """
    if orphans := set(candidates["prompt_id"]) - set(prompts["prompt_id"]):
        raise TsrError(
            f"candidates for {name}: prompt {min(orphans)} is not in the split; {len(orphans)} are like that"
        )
    frames = {"prompts": prompts.select("prompt_id", "messages"), "candidates": candidates}
    told = {"model": name, "strategy": name_of(strategy), "min_gap": settings.min_gap, "n_roles": len(ROLES)}
    values = settings.parameters | told
    path = found(strategy)
    with connect() as db:
        frames["sides"] = run_file(db, SQL / "views" / "sides.sql", frames, values)
        frames["chosen_rejected"] = run_file(db, path, frames, values)
        check_choice(frames["chosen_rejected"], prompts, candidates, str(path))
        verdicts = run_file(db, SQL / "pairs.sql", frames, values)
    return split_verdicts(verdicts)


def check_choice(choice: pl.DataFrame, prompts: pl.DataFrame, candidates: pl.DataFrame, where: str) -> None:
    """Raise TsrError unless a strategy gave one row a prompt, and in it usable candidates of that prompt or null."""
    wanted = ["prompt_id", "chosen_id", "rejected_id"]
    if choice.columns != wanted:
        raise TsrError(f"{where}: gave columns {', '.join(choice.columns)}; expected {', '.join(wanted)}")
    given, asked = choice["prompt_id"].to_list(), set(prompts["prompt_id"])
    if len(given) != len(set(given)):
        twice = min(p for p in set(given) if given.count(p) > 1)
        raise TsrError(f"{where}: gave more than one row for prompt {twice}; expected one row per prompt")
    if missing := asked - set(given):
        raise TsrError(f"{where}: gave no row for prompt {min(missing)}; expected one row per prompt")
    if foreign := set(given) - asked:
        raise TsrError(f"{where}: gave a row for {min(foreign)}, which is no prompt of the split")
    if against_itself := choice.filter(pl.col("chosen_id") == pl.col("rejected_id")).sort("prompt_id").rows():
        prompt, chosen, _ = against_itself[0]
        raise TsrError(
            f"{where}: prompt {prompt} has {chosen} as chosen and as rejected; expected two responses, or null"
        )
    usable = candidates.filter((pl.col("finish_reason") == "stop") & pl.col("score").is_not_null())
    known = set(usable.select("prompt_id", "generation_id").rows())
    for side in ("chosen_id", "rejected_id"):
        for row in choice.drop_nulls(side).select("prompt_id", side).sort("prompt_id").rows():
            if row not in known:
                raise TsrError(f"{where}: {side} {row[1]} is no finished and scored response to prompt {row[0]}")


def split_verdicts(verdicts: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the rows without a reason as `pairs`, the others as `dropped`."""
    kept = verdicts.filter(pl.col("reason").is_null())
    ids = [content_id("pair", *row) for row in kept.select("model", "strategy", "chosen_id", "rejected_id").iter_rows()]
    pairs = kept.with_columns(pair_id=pl.Series(ids, dtype=pl.String)).select(list(tables.schema("pairs")))
    return pairs, verdicts.filter(pl.col("reason").is_not_null()).select(list(tables.schema("dropped")))
