"""How the warnings fared: the verdicts on the seeds of `tsr claims`, held against what the true score then did.

A round's pairs are made before its training, and the verdict is on the pairs; so a warning in the round whose training
gains nothing comes in time to save it.
"""

from dataclasses import dataclass
from typing import Any

import polars as pl

from stages import paths
from stages.claims.summary import by_round, read_table
from stages.errors import TsrError
from stages.health.signals import NEEDS_TRUTH, QUERIES, SCHEMA, finished
from stages.health.thresholds import Thresholds
from stages.health.verdicts import judged
from stages.output import as_json
from stages.sqlrun import SQL, connect, run_file

HOME = paths.REPORTS / "claims"
# A round's verdict: from all signals, and from those that real models have too.
ANY, BLIND = "any", "any, no truth"


@dataclass(frozen=True)
class Hindsight:
    """What came of trainings by signal and verdict, and of lines by level; how many seeds under how many settings."""

    trainings: pl.DataFrame
    lines: pl.DataFrame
    seeds: int
    settings: int


def look_back(name: str, thresholds: Thresholds) -> Hindsight:
    """Return how the verdicts fared on the runs in `reports/claims/<name>/`.

    Raises TsrError where there is none, or none with a known truth.
    """
    home = HOME / paths.checked(name)
    runs = read_table("claims_runs", home)
    if runs.is_empty():
        raise TsrError(f"{home}: no runs there; `tsr claims --into {name}` makes them")
    rounds = by_round(home)
    signals = of_claims(home, rounds)
    verdicts = judged(signals, thresholds)
    blind = judged(signals.with_columns(pl.lit(None, pl.Float64).alias(name) for name in NEEDS_TRUTH), thresholds)
    overall = pl.concat([one.rounds.with_columns(signal=pl.lit(w)) for w, one in ((ANY, verdicts), (BLIND, blind))])
    gains = _gains(rounds, read_table("claims_answers", home))
    if gains.is_empty():
        raise TsrError(f"{home}: no true score is known, so nobody can say which warnings were right")
    frames = {"verdicts": verdicts.signals, "rounds": overall, "gains": gains}
    with connect() as db:
        trainings = run_file(db, QUERIES / "trainings.sql", frames, {})
        lines = run_file(db, QUERIES / "lines.sql", frames, {})
    order = {signal: place for place, signal in enumerate([ANY, BLIND, *thresholds])}
    trainings = trainings.sort(pl.col("signal").replace_strict(order), "place").drop("place")
    return Hindsight(trainings, lines, runs["seed"].n_unique(), runs["settings"].n_unique())


def of_claims(home: Any, rounds: pl.DataFrame) -> pl.DataFrame:
    """Return the signals of the runs whose `by_round` is `rounds`; of rounds that trained."""
    judges = read_table("claims_models", home).select(
        "run", "fixed_agreement", round_judge="model", fixed_score="fixed_bias"
    )  # the responses are the same for all judges: what the bias moves by, the mean score moves by
    trained = rounds.drop("judge", "fixed_agreement").filter(pl.col("pairs").is_not_null())
    found = trained.join(judges, on=["run", "round_judge"], how="left").rename({"round_judge": "judge"})
    return finished(found.select(list(SCHEMA)).to_dicts())


def _gains(rounds: pl.DataFrame, answers: pl.DataFrame) -> pl.DataFrame:
    """Return run, arm, round, gain, se: the true score against that of the round before, paired by prompt."""
    lines = rounds.filter(pl.col("ended").is_null()).select("run", "arm", "round", "model")
    before = lines.select("run", "arm", pl.col("round") + 1, other="model")
    steps = lines.join(before, on=["run", "arm", "round"]).sort("run", "arm", "round")
    parts = []
    with connect() as db:
        for (run,), asked in steps.group_by("run", maintain_order=True):
            frames = {
                "answers": answers.filter(pl.col("run") == run).select("model", "prompt_id", "truth"),
                "comparisons": asked.select("model", "other").unique().sort(pl.all()),
            }
            told = run_file(db, SQL / "report" / "paired.sql", frames, {})
            parts.append(asked.join(told, on=["model", "other"]).sort("arm", "round"))
    columns = {"run": pl.String, "arm": pl.String, "round": pl.Int64, "gain": pl.Float64, "se": pl.Float64}
    found = pl.concat(parts) if parts else pl.DataFrame(schema=columns | {"difference": pl.Float64})
    return found.select("run", "arm", "round", gain="difference", se="se")


def told(found: Hindsight, form: str) -> str:
    """Return both tables for a reader, or an object a row."""
    if form == "json":
        rows = [{"table": name} | row for name in ("trainings", "lines") for row in getattr(found, name).to_dicts()]
        return "\n".join(as_json(row) for row in rows)
    settings = f"{found.settings} setting{'s' * (found.settings > 1)}"
    lines = [
        f"{found.seeds} seed{'s' * (found.seeds > 1)}, {settings}. A training counts once, whichever arms it is in.",
        "",
        "What the true score did in the training on the pairs judged so:",
        f"{'signal':<16} {'verdict':<11} {'trainings':>9} {'rose':>6} {'stalled':>8} {'fell':>6} {'mean gain':>10}",
    ]
    for row in found.trainings.iter_rows(named=True):
        lines.append(
            f"{row['signal']:<16} {row['verdict']:<11} {row['trainings']:>9} {row['rose']:>6} {row['stalled']:>8} "
            f"{row['fell']:>6} {row['gain']:>+10.2f}"
        )
    lines += ["", "Lines (a seed's arm): first warning against first training without a gain:"]
    columns = ("in time", "late", "missed", "for nothing", "quiet", "unknown")
    lines.append(f"{'signal':<16} {'warning':<11}" + "".join(f"{column:>{len(column) + 1}}" for column in columns))
    for row in found.lines.iter_rows(named=True):
        counts = "".join(f"{row[column.replace(' ', '_')]:>{len(column) + 1}}" for column in columns)
        lines.append(f"{row['signal']:<16} {row['warning']:<11}{counts}")
    return "\n".join(lines)
