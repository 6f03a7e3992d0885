"""The tables of `reports/claims/<name>/` side by side: one value a seed, as stages/claims/statistics.py takes it."""

from pathlib import Path

import polars as pl

from stages import paths, tables
from stages.claims.statistics import over_seeds

HOME = paths.REPORTS / "claims"  # a folder a name


def read_table(name: str, home: Path) -> pl.DataFrame:
    """Return a table of the results, empty where there is none yet."""
    path = home / f"{name}.parquet"
    return tables.read(name, path) if path.is_file() else tables.frame(name, [])


def by_round(home: Path) -> pl.DataFrame:
    """Return one row a run, arm and round: the run's settings, the line, its model version's and its round's numbers.

    Round 0 is M0, which learned from no pairs: its columns of `claims_rounds` are null. So are those of a round whose
    line had ended; its model version's numbers are those of the one before.
    """
    runs, lines = read_table("claims_runs", home), read_table("claims_lines", home)
    joined = lines.join(runs, on="run").join(read_table("claims_models", home), on=["run", "model"])
    rounds = read_table("claims_rounds", home).rename({"judge": "round_judge"})
    trained = pl.when((pl.col("round") > 0) & pl.col("ended").is_null()).then(pl.col("model"))
    return (
        joined.with_columns(trained=trained)
        .join(rounds, left_on=["run", "trained"], right_on=["run", "model"], how="left")
        .drop("trained")
        .sort("run", "arm", "round")
        .with_columns(updates_here=pl.col("updates").diff().over("run", "arm"))
        .with_columns(
            margin_per_update=pl.when(pl.col("updates_here") > 0).then(pl.col("margin") / pl.col("updates_here"))
        )
    )


def true_scores(home: Path, runs: list[str]) -> pl.DataFrame:
    """Return arm, round and the true score over the seeds of `runs`: mean, low, high, n."""
    rows = by_round(home).filter(pl.col("run").is_in(runs))
    return over_seeds(rows, ["arm", "round"], "true_score")


def text(scores: pl.DataFrame) -> str:
    """Return a table of `true_scores` for the screen."""
    lines = [f"{'true score':<20} round  mean  95 % interval      seeds"]
    for row in scores.iter_rows(named=True):
        around = "" if row["low"] is None else f"{row['low']:.2f} to {row['high']:.2f}"
        lines.append(f"{row['arm']:<20} {row['round']:>5}  {row['mean']:.2f}  {around:<18} {row['n']:>5}")
    return "\n".join(lines)
