"""One number a seed for each claim, by the SQL of stages/sql/claims, from the tables of reports/claims/<name>/."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from stages.claims import summary
from stages.claims.hypotheses import Claim, Compared, Equal, Point, Together
from stages.errors import TsrError
from stages.sqlrun import SQL, connect, run_file

QUERIES = SQL / "claims"
COSTS = ("updates", "tokens", "cpu_seconds")
QUANTITIES = (
    *("true_score", "fixed_agreement", "gap", "true_gap", "upside_down", "yield", "cosine", "cosine_centred"),
    *("feature_distance", "gradient_distance", "grad_norm", "margin", "margin_per_update"),
)
_DIGITS = 6  # of a number; what differs behind them is rounding, and would pass for a spread to test against


@dataclass(frozen=True)
class Results:
    """The seeds of one set of settings, under each judge they ran with.

    `runs` are their rows of `claims_runs`, one a judge and seed; `rounds` those of `summary.by_round`, `points` the
    same as judge, seed, arm, round, quantity, value. `left_out` runs of the folder have other settings.
    """

    runs: pl.DataFrame
    rounds: pl.DataFrame
    points: pl.DataFrame
    left_out: int

    def seeds(self, judge: str) -> list[int]:
        """Return the seeds that ran with a judge."""
        return sorted(self.runs.filter(pl.col("judge") == judge)["seed"])

    def ran(self, point: Point) -> set[int]:
        """Return the seeds in which an arm ran up to a round."""
        here = self.rounds.filter(judge=point.judge, arm=point.arm, round=point.round)
        return set(here["seed"])


@dataclass(frozen=True)
class Numbers:
    """What a claim asks for, seed by seed: the number, and what it comes of.

    `sides` has the two values that are compared, `spent` the share of the budget; empty where there are none.
    """

    seeds: dict[int, float]
    sides: dict[int, tuple[float, float]]
    spent: dict[int, float]


def read(home: Path) -> Results:
    """Return the results of a folder: the settings of params.yaml if there are such runs, else the only ones there.

    Of several settings under one judge (params.yaml was edited between calls) the one with most seeds counts. Raises
    TsrError for a folder without runs, and for one with several changed settings: that is a map, not a test of claims.
    """
    runs = summary.read_table("claims_runs", home)
    if not runs.height:
        raise TsrError(f"{home}: no runs; `tsr claims` makes them")
    plain = runs.filter(pl.col("changed") == "{}")
    sets = runs["changed"].unique().sort()
    if not plain.height and sets.len() > 1:
        told = f"runs of {sets.len()} changed settings, none of them as params.yaml has it"
        raise TsrError(f"{home}: {told}; expected one set of settings to hold the claims against")
    return read_changed(home, {} if plain.height else json.loads(sets[0]))


def read_changed(home: Path, changed: dict[str, Any]) -> Results:
    """Return the results of a folder that ran with these settings changed, perhaps none, as `read` does."""
    runs = summary.read_table("claims_runs", home)
    found = _most(runs.filter(pl.col("changed") == json.dumps(changed, sort_keys=True)))
    rounds = summary.by_round(home).filter(pl.col("run").is_in(found["run"].to_list()))
    return Results(found, rounds, _points(rounds), runs.height - found.height)


def only(results: Results, seeds: Sequence[int]) -> Results:
    """Return the results of some seeds; the other runs count as left out."""
    runs = results.runs.filter(pl.col("seed").is_in(seeds))
    rounds = results.rounds.filter(pl.col("seed").is_in(seeds))
    return Results(runs, rounds, _points(rounds), results.left_out + results.runs.height - runs.height)


def _most(runs: pl.DataFrame) -> pl.DataFrame:
    """Return the runs of one profile, and under each judge of the one set of settings, that has most seeds."""
    profiles = runs.group_by("profile").len().sort("len", "profile", descending=[True, False])
    same = runs.join(profiles.head(1).select("profile"), on="profile")
    most = same.group_by("judge", "settings").len().sort("judge", "len", "settings", descending=[False, True, False])
    return same.join(most.unique("judge", keep="first", maintain_order=True), on=["judge", "settings"]).drop("len")


def _points(rounds: pl.DataFrame) -> pl.DataFrame:
    wide = rounds.select("judge", "seed", "arm", "round", pl.col(*QUANTITIES, *COSTS).cast(pl.Float64))
    long = wide.unpivot(index=["judge", "seed", "arm", "round"], variable_name="quantity", value_name="value")
    return long.drop_nulls("value").sort("quantity", "judge", "arm", "round", "seed")


def numbers(results: Results, claims: Sequence[Claim]) -> dict[str, Numbers]:
    """Return claim -> its numbers; none for a seed that lacks what is asked for."""
    with connect() as db:
        frames = {
            kind: run_file(db, QUERIES / f"{kind}.sql", {"points": results.points, "asked": _asked(kind, claims)}, {})
            for kind in _ASKS
        }
    return {claim.key: _numbers(claim, frames) for claim in claims}


def _numbers(claim: Claim, frames: dict[str, pl.DataFrame]) -> Numbers:
    kind, number = _kind(claim)
    rows = frames[kind].filter(pl.col("claim") == claim.key).drop_nulls(number).to_dicts()
    return Numbers(
        {row["seed"]: round(row[number], _DIGITS) for row in rows},
        {row["seed"]: (row["value"], row["other_value"]) for row in rows if "other_value" in row},
        {row["seed"]: row["spent"] for row in rows if "spent" in row},
    )


def _kind(claim: Claim) -> tuple[str, str]:
    """Return the query that answers a claim, and the column that counts."""
    if isinstance(claim.ask, Compared):
        return "compared", "share" if claim.ask.share else "difference"
    return ("equal", "difference") if isinstance(claim.ask, Equal) else ("together", "correlation")


def _asked(kind: str, claims: Sequence[Claim]) -> pl.DataFrame:
    schema = _ASKS[kind]
    rows = [{"claim": claim.key} | _row(claim.ask) for claim in claims if _kind(claim)[0] == kind]
    return pl.DataFrame(rows, schema=schema, orient="row")


def _row(ask: Compared | Equal | Together) -> dict[str, Any]:
    if isinstance(ask, Together):
        last = ask.last
        return {"quantity": ask.quantity, "other": ask.other, "judge": last.judge, "arm": last.arm, "last": last.round}
    what = {"cost": ask.cost} if isinstance(ask, Equal) else {"quantity": ask.quantity}
    one, other = ask.one, ask.other
    sides = {"judge": one.judge, "arm": one.arm, "round": one.round}
    return what | sides | {"other_judge": other.judge, "other_arm": other.arm, "other_round": other.round}


_TEXT, _INT = pl.String, pl.Int64
_SIDES = {"judge": _TEXT, "arm": _TEXT, "round": _INT, "other_judge": _TEXT, "other_arm": _TEXT, "other_round": _INT}
_ASKS: dict[str, dict[str, Any]] = {
    "compared": {"claim": _TEXT, "quantity": _TEXT} | _SIDES,
    "equal": {"claim": _TEXT, "cost": _TEXT} | _SIDES,
    "together": {"claim": _TEXT, "quantity": _TEXT, "other": _TEXT, "judge": _TEXT, "arm": _TEXT, "last": _INT},
}
